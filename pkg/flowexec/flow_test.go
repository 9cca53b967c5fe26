package flowexec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chain writes the documents of a flow F. Each function is "name mode", with further lines of its document behind semicolons.
func chain(flowLines string, functions ...string) []definition.Document {
	var flow strings.Builder
	fmt.Fprintf(&flow, "kistype: flow\nstatus: 1\nflow_name: F\n%sflows:\n", flowLines)
	docs := []definition.Document{{YAML: []byte("kistype: conn\ncname: store\ntype: redis\naddrs: localhost:1\nkey: s_\n")}}
	seen := make(map[string]bool)
	for _, f := range functions {
		parts := strings.Split(f, "; ")
		var name, mode string
		fmt.Sscan(parts[0], &name, &mode)
		fmt.Fprintf(&flow, "  - fname: %s\n", name)
		if seen[name] {
			continue
		}
		seen[name] = true
		text := fmt.Sprintf("kistype: func\nfname: %s\nfmode: %s\n", name, mode)
		option := ""
		if mode == "Save" || mode == "Load" {
			option = "  cname: store\n"
		}
		for _, line := range parts[1:] {
			if key, _, _ := strings.Cut(line, ":"); key == "timeout" || key == "source" {
				text += line + "\n"
			} else {
				option += "  " + line + "\n"
			}
		}
		if option != "" {
			text += "option:\n" + option
		}
		docs = append(docs, definition.Document{YAML: []byte(text)})
	}
	return append(docs, definition.Document{YAML: []byte(flow.String())})
}

func bundle(t testing.TB, docs []definition.Document) *definition.Bundle {
	t.Helper()
	set, err := definition.NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	b, err := set.Bundle("F")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bundleSet(t testing.TB, docs []definition.Document) *definition.Set {
	t.Helper()
	set, err := definition.NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// local runs the documents with what register registers.
func local(t testing.TB, docs []definition.Document, register func(*kis.Registry), options ...flowexec.LocalOption) *flowexec.Local {
	t.Helper()
	set, err := definition.NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	l, err := flowexec.NewLocalSet(set, register, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// submit runs rows and tells how they ended, as one line for each outcome and each output row.
func submit(t testing.TB, l *flowexec.Local, rows ...string) string {
	t.Helper()
	result, err := l.Submit(context.Background(), "F", batch.Rows(rows...))
	if err != nil {
		t.Fatal(err)
	}
	return tell(result)
}

func tell(r *batch.Result) string {
	var lines []string
	for _, o := range r.NotDone {
		reason, _, _ := strings.Cut(o.Reason, "\n")
		line := fmt.Sprintf("%d %s %s %s: %s", o.Row, o.Outcome, o.Code, o.Function, reason)
		if o.Attempts > 1 {
			line += fmt.Sprintf(" (%d attempts)", o.Attempts)
		}
		lines = append(lines, line)
	}
	for i, origin := range r.Output.Origins {
		from := "all"
		if origin != batch.WholeBatch {
			from = fmt.Sprint(origin)
		}
		lines = append(lines, fmt.Sprintf("%s → %s", from, r.Output.Rows.Row(i)))
	}
	return strings.Join(lines, "\n")
}

// expect compares line by line; a line that ends with … is compared up to there.
func expect(t testing.TB, got, want string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimSpace(want), "\t", "")
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
	same := len(gotLines) == len(wantLines)
	for i := 0; same && i < len(gotLines); i++ {
		if prefix, cut := strings.CutSuffix(wantLines[i], "…"); cut {
			same = strings.HasPrefix(gotLines[i], prefix)
		} else {
			same = gotLines[i] == wantLines[i]
		}
	}
	if !same {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

type in struct {
	K string `json:"k"`
	N int    `json:"n"`
}

type out struct {
	K string `json:"k"`
	M int    `json:"m"`
}

type key struct {
	K string `json:"k"`
}

func ctxErr[T any](f func(T) error) func(context.Context, T) error {
	return func(_ context.Context, row T) error { return f(row) }
}

func double(_ context.Context, r in) (out, error) { return out{r.K, 2 * r.N}, nil }

func raw(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func row(k string, n int) string { return raw(in{k, n}) }
