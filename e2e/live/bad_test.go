package live

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// tally reads a field that row does not have.
type tally struct {
	Points int `json:"points"`
}

func registerTally(r *kis.Registry) {
	register(r)
	r.Func("Narrow", kis.Calculate(func(context.Context, row) (struct {
		ID int `json:"id"`
	}, error) {
		return struct {
			ID int `json:"id"`
		}{}, nil
	}))
	r.Func("Tally", kis.Verify(func(context.Context, tally) error { return nil }))
	r.Func("Keep", kis.Save(func(context.Context, kis.Writer, row) error { return nil }))
}

const flowKey = "/kisgrid/config/flow/Live"

// TestBadDocuments puts one bad document after another, as etcdctl would: nothing that runs changes, also not when every
// coordinator restarts, and the status says what is wrong with which line of which document.
func TestBadDocuments(t *testing.T) {
	flow := func(yaml string) definition.Document { return document(definition.KindFlow, "Live", yaml) }
	steps := func(names ...string) definition.Document {
		text := "flow_name: Live\nstatus: 1\nshard_key: id\nflows:\n"
		for _, name := range names {
			text += "  - fname: " + name + "\n"
		}
		return flow(text)
	}
	raw := func(text string) definition.Document {
		return definition.Document{Kind: definition.KindFlow, Name: "Live", YAML: []byte(text)}
	}
	cases := []struct {
		name string
		put  []definition.Document
		del  []string
		says []string
	}{
		{"not YAML", []definition.Document{raw("kistype: flow\n\tflows: [\n")}, nil, []string{flowKey + ":2", "not YAML"}},
		{"not UTF-8", []definition.Document{raw("kistype: flow\nflow_name: \xff\n")}, nil, []string{flowKey, "UTF-8"}},
		{"empty", []definition.Document{raw("")}, nil, []string{flowKey, "empty"}},
		{"an unknown key", []definition.Document{flow("flow_name: Live\nstatus: 1\nshard_kye: id\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":4", "shard_kye", "shard_key"}},
		{"a duplicate key", []definition.Document{flow("flow_name: Live\nstatus: 1\nstatus: 0\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":4", "status"}},
		{"a wrong type", []definition.Document{flow("flow_name: Live\nstatus: 1\ncopies: many\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":4", "copies", "many"}},
		{"a wrong type in a function", []definition.Document{document(definition.KindFunc, "First", "fname: First\nfmode: Calculate\ntimeout: soon\n")}, nil,
			[]string{"/kisgrid/config/func/First:4", "timeout", "soon"}},
		{"a function without a document", []definition.Document{steps("First", "Third")}, nil, []string{flowKey + ":7", "flows[1].fname", "Third"}},
		{"a connector without a document", []definition.Document{
			document(definition.KindFunc, "Keep", "fname: Keep\nfmode: Save\noption:\n  cname: Nowhere\n"), steps("First", "Keep")}, nil,
			[]string{"/kisgrid/config/func/Keep:5", "option.cname", "Nowhere"}},
		{"a name that differs from its key", []definition.Document{flow("flow_name: Life\nstatus: 1\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":2", "Life", "Live"}},
		{"a kind that differs from its key", []definition.Document{raw("kistype: conn\ncname: Live\ntype: memory\n")}, nil, []string{flowKey + ":1", "kistype", "conn"}},
		{"over 1 MiB", []definition.Document{raw("kistype: flow\nflow_name: Live\nstatus: 1\nflows:\n  - fname: First\n#" + strings.Repeat("x", 1<<20) + "\n")}, nil,
			[]string{flowKey, "over the limit of 1048576 bytes"}},
		{"row types that don't fit", []definition.Document{
			document(definition.KindFunc, "Narrow", "fname: Narrow\nfmode: Calculate\n"), document(definition.KindFunc, "Tally", "fname: Tally\nfmode: Verify\n"),
			steps("Narrow", "Tally")}, nil, []string{"worker-1", "flow/Live:7", "flows[1].fname", "points"}},
		{"a mode that differs from the code's", []definition.Document{document(definition.KindFunc, "First", "fname: First\nfmode: Verify\n")}, nil,
			[]string{"worker-1", "func/First", "fmode", "Calculate"}},
		{"a name that no environment has", []definition.Document{
			document(definition.KindConn, "Store", "cname: Store\ntype: redis\naddrs: ${NO_SUCH_REDIS}\n"),
			document(definition.KindFunc, "Keep", "fname: Keep\nfmode: Save\noption:\n  cname: Store\n"), steps("First", "Keep")}, nil,
			[]string{"worker-1", "conn/Store", "addrs", "NO_SUCH_REDIS"}},
		{"a type of connector that nothing opens", []definition.Document{
			document(definition.KindConn, "Store", "cname: Store\ntype: stone\naddrs: here\n"),
			document(definition.KindFunc, "Keep", "fname: Keep\nfmode: Save\noption:\n  cname: Store\n"), steps("First", "Keep")}, nil,
			[]string{"conn/Store", "stone"}},
		{"a needed function deleted", nil, []string{"func/Second"}, []string{flowKey, "flows[1].fname", "Second"}},
	}

	r := start(t, devcluster.Config{Workers: 1, Register: registerTally, HTTP: "127.0.0.1:0"})
	revision := r.put(documents(1)...)
	r.awaitState("Live", cluster.StateActive, revision)
	c := r.dial()
	runs := func(when string) {
		t.Helper()
		result, err := c.Submit(t.Context(), "Live", client.Rows(row{ID: 7}))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		out, err := client.Output[row](result)
		if err != nil || result.Revision != revision || len(out) != 1 || out[0].First != "1" || out[0].Second != "1" {
			t.Errorf("%s revision %d runs, with the output %+v (%v), want revision %d", when, result.Revision, out, err, revision)
		}
	}
	for i, bad := range cases {
		t.Run(bad.name, func(t *testing.T) {
			r.t = t // what waits in vain ends this case
			if len(bad.put) > 0 {
				r.put(bad.put...)
			}
			if len(bad.del) > 0 {
				r.delete(bad.del...)
			}
			s := r.await("Live", "rejected: "+bad.name, func(s cluster.FlowStatus) bool {
				text := strings.Join(s.Reasons, "\n")
				for _, want := range bad.says {
					if !strings.Contains(text, want) {
						return false
					}
				}
				return s.State == cluster.StateRejected
			})
			if s.Active != revision || (s.Wanted == revision && len(bad.put) > 0) {
				t.Errorf("the status is %+v, want %d as the active revision", s, revision)
			}
			runs("after a bad document")
			if i%6 == 0 || i == len(cases)-1 { // restarting takes its time
				r.restart()
				runs("after a bad document and a restart")
			}
			// What was right before is right again, under another number.
			revision = r.put(documents(1)...)
			r.awaitState("Live", cluster.StateActive, revision)
			r.awaitRunning(c, revision)
		})
	}
}

// restart kills the coordinator and starts another one in its place.
func (r *rig) restart() {
	r.t.Helper()
	old := r.Coordinators()[0]
	old.Kill()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if _, err := r.StartCoordinator(ctx, old.Address()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.Await(ctx, 1); err != nil {
		r.t.Fatal(err)
	}
}

// TestRejectionsAreCounted reads the metric that counts rejected revisions.
func TestRejectionsAreCounted(t *testing.T) {
	r := start(t, devcluster.Config{Workers: 1, HTTP: "127.0.0.1:0"})
	r.awaitState("Live", cluster.StateActive, r.put(documents(1)...))
	for i := range 3 {
		revision := r.put(document(definition.KindFlow, "Live", fmt.Sprintf("flow_name: Live\nbad_%d: 1\n", i)))
		r.awaitState("Live", cluster.StateRejected, revision)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // it is counted just after the status is written
		n, wanted, active := r.metric(`kisgrid_revisions_rejected_total{flow="Live"}`), r.metric(`kisgrid_flow_wanted_revision{flow="Live"}`), r.metric(`kisgrid_flow_revision{flow="Live"}`)
		if n == 3 && wanted > active && active > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v revisions are counted as rejected, %v is wanted and %v active", n, wanted, active)
		}
	}
}

func (r *rig) metric(name string) float64 {
	r.t.Helper()
	answer, err := http.Get(r.Metrics())
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				r.t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

// TestOffAndGone disables and deletes a flow while rows of it are under way, on streams and as calls: these end as they would
// have, and what comes later is refused by name.
func TestOffAndGone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig)
		code   batch.Code
	}{
		"disabled": {func(r *rig) {
			d := documents(1)[0]
			d.YAML = []byte(strings.Replace(string(d.YAML), "status: 1", "status: 0", 1))
			r.put(d)
		}, batch.CodeFlowDisabled},
		"deleted": {func(r *rig) { r.delete("flow/Live") }, batch.CodeUnknownFlow},
	} {
		t.Run(name, func(t *testing.T) {
			entered, leave := make(chan struct{}, 16), make(chan struct{})
			r := start(t, devcluster.Config{Workers: 2, Register: func(reg *kis.Registry) {
				reg.Func("First", kis.Calculate(func(ctx context.Context, in row) (row, error) {
					entered <- struct{}{}
					select {
					case <-leave:
					case <-ctx.Done():
						return in, ctx.Err()
					}
					return first(ctx, in)
				}))
				reg.Func("Second", kis.Calculate(second))
			}})
			revision := r.put(documents(1)...)
			r.awaitState("Live", cluster.StateActive, revision)
			k := r.dial()
			s, err := k.Stream(t.Context(), "Live")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			under, err := s.Send(t.Context(), client.Rows(row{ID: 1}))
			if err != nil {
				t.Fatal(err)
			}
			called := make(chan error, 1)
			go func() {
				result, err := k.Submit(t.Context(), "Live", client.Rows(row{ID: 2}))
				if err == nil && (result.Revision != revision || len(result.NotDone) > 0) {
					err = fmt.Errorf("it ended as %+v", result)
				}
				called <- err
			}()
			for range 2 {
				select {
				case <-entered:
				case <-time.After(patience):
					t.Fatal("the rows did not begin")
				}
			}
			c.change(r)
			// New ones, as calls and on the stream that is open.
			for end := time.Now().Add(patience); ; {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // those that are still taken wait as the first do
				_, err := k.Submit(ctx, "Live", client.Rows(row{ID: 3}))
				cancel()
				if batch.CodeOf(err) == c.code {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("a new batch gives %v, want %s", err, c.code)
				}
			}
			p, err := s.Send(t.Context(), client.Rows(row{ID: 3}))
			if err == nil {
				_, err = p.Wait(t.Context())
			}
			if batch.CodeOf(err) != c.code {
				t.Errorf("a new batch on an open stream gives %v, want %s", err, c.code)
			}
			if _, err := k.Stream(t.Context(), "Live"); batch.CodeOf(err) != c.code {
				t.Errorf("a new stream gives %v, want %s", err, c.code)
			}
			close(leave)
			if result, err := under.Wait(t.Context()); err != nil || result.Revision != revision || len(result.NotDone) > 0 {
				t.Errorf("the batch under way on the stream ended as %+v, %v", result, err)
			}
			if err := <-called; err != nil {
				t.Errorf("the call under way: %v", err)
			}
		})
	}
}
