package definition

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestNoDocumentIsSlow parses long documents of many shapes, each of which would take a parser that looks back at
// each step very long, and shows a change of nearly all lines of one. The bound is generous: what is quadratic takes minutes.
func TestNoDocumentIsSlow(t *testing.T) {
	t.Parallel()
	const flow, function = "kistype: flow\nflow_name: F\nstatus: 1\nflows:\n", "kistype: func\nfname: f\nfmode: Save\n"
	numbered := func(format string) string {
		var text strings.Builder
		for i := range 12_000 {
			fmt.Fprintf(&text, format, i)
		}
		return text.String()
	}
	full := func(head, repeated string) string {
		return head + strings.Repeat(repeated, (MaxBytes/4-len(head))/len(repeated))
	}
	laughs := "a0: &a0 [x, x]\n"
	for i := range 60 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i)
	}
	for name, text := range map[string]string{
		"nested lists": full("", "["), "nested mappings": full("", "{"), "nested entries": full("", "- "), "nested keys": full("", "? "), "nested values": full("", "a: "),
		"comments": full(flow, "# c\n"), "comments beside": full(flow, "  - fname: a # c\n  # d\n"), "blank lines": full(flow, "\n"),
		"steps": full(flow, "  - fname: a\n"), "one key": full("kistype: flow\n", "a: 1\n"), "many keys": "kistype: flow\n" + numbered("k%d: 1\n"),
		"anchors": full(flow, "  - &a fname\n"), "aliases": full("kistype: flow\nx: &a [1]\nflows:\n", "  - *a\n"), "tags": full(flow, "  - !!str a\n"),
		"aliases of aliases": "kistype: flow\nflow_name: F\n" + laughs + "flows: *a60\n", "an alias of itself": "kistype: flow\nflow_name: F\nflows: &a [*a]\n",
		"aliases in params": "kistype: flow\nflow_name: F\nflows:\n  - fname: a\n    params: &p {" + strings.Repeat("k: v, ", 1) + "l: w}\n" + strings.Repeat("  - {fname: a, params: *p}\n", 20_000),
		"escapes":           full("flow_name: \"", "\\n"), "folded lines": full("flow_name: >\n", "  a\n\n"), "lines of one text": full("flow_name: a\n", "  a\n"),
		"a long list": full("flows: [", "a,"), "a long mapping": full("flows: {", "a: b,"), "documents": full("", "---\n"), "directives": full("", "%YAML 1.1\n"),
		"must": function + "source:\n  name: a\n  must:\n" + numbered("    - f%d\n"), "params": function + "option:\n  default_params:\n" + numbered("    p%d: 1\n"),
		"declared fields": function + "option:\n  cname: c\n  save:\n    key: k\n    set:\n" + numbered("      p%d: q\n"),
		"a long template": full(function+"option:\n  cname: c\n  save:\n    set: {a: a}\n    key: \"", "{a}"),
	} {
		began := time.Now()
		_, _ = Parse(Document{YAML: []byte(text)}) // most are refused, which must not take long either
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: %d bytes took %v", name, len(text), took)
		}
	}
	var one, other strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&one, "  - fname: f%d\n", i%100)
		fmt.Fprintf(&other, "  - fname: f%d\n", i*7%101)
	}
	before, after := flow+one.String(), flow+other.String()
	began := time.Now()
	checkPatch(t, before+"timeout: 1s\n", after+"timeout: 1s\n")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a diff took %v", took)
	}
	// Where few lines differ, in whatever many, they alone are told.
	if text := checkPatch(t, before+"timeout: 1s\n", before+"timeout: 2s\n"); strings.Count(text, "\n") > 10 {
		t.Errorf("one line that changed is told as\n%.1000s", text)
	}
}

// checkPatch checks by the program patch, where that is installed, that a change's text makes one document of the other.
func checkPatch(t *testing.T, before, after string) string {
	t.Helper()
	text := Change{Kind: KindFlow, Name: "F", Before: &Document{YAML: []byte(before)}, After: &Document{YAML: []byte(after)}}.String()
	program, err := exec.LookPath("patch")
	if err != nil {
		return text
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	file := write("file", before)
	if out, err := exec.Command(program, "--batch", file, write("diff", text)).CombinedOutput(); err != nil {
		t.Errorf("patch: %v\n%.1000s", err, out)
	}
	if patched, err := os.ReadFile(file); err != nil || string(patched) != after {
		t.Errorf("patched, it is another document (%v)", err)
	}
	return text
}
