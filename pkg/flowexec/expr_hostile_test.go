package flowexec_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Documents that are made to be large in the compiler are refused, or compile in little time and memory.
func TestHostileExpressionDocuments(t *testing.T) {
	each := func(n int, field func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("    " + field(i) + "\n")
		}
		return b.String()
	}
	long := func(part, between string, bytes int) string {
		return strings.TrimSuffix(strings.Repeat(part+between, bytes/len(part+between)), between)
	}
	for name, c := range map[string]struct{ option, refused string }{
		"many fields":        {"calculate:\n" + each(60_000, func(i int) string { return fmt.Sprintf("f%d: a", i) }), "has 60000 fields; a function may give 500"},
		"most fields":        {"calculate:\n" + each(500, func(i int) string { return fmt.Sprintf("f%d: a%d + b", i, i) }), ""},
		"many names":         {"calculate:\n" + each(400, func(i int) string { return fmt.Sprintf("f%d: '[a%d, b%d, c%d]'", i, i, i, i) }), "the expressions of this function read more than 1000 fields"},
		"long sum":           {"calculate:\n    x: " + long("a", " + ", 4_000) + "\n", ""},
		"too long":           {"calculate:\n    x: " + long("a", " + ", 100_000) + "\n", "option.calculate.x: "},
		"nested":             {"calculate:\n    x: '" + strings.Repeat("(", 8_000) + "a" + strings.Repeat(")", 8_000) + "'\n", "option.calculate.x: "},
		"nested types":       {"calculate:\n    x: \"" + strings.Repeat("[", 40) + "a" + strings.Repeat("]", 40) + "\"\n", ""},
		"doubled constants":  {"calculate:\n    x: \"let a = 'xxxxxxxxxxxxxxxx'; let b = a+a+a+a+a+a+a+a; let c = b+b+b+b+b+b+b+b; let d = c+c+c+c+c+c+c+c; let e = d+d+d+d+d+d+d+d; let f = e+e+e+e+e+e+e+e; let g = f+f+f+f+f+f+f+f; g+g+g+g\"\n", ""},
		"loops":              {"calculate:\n    x: 'map(range(1000), x => map(range(1000), y => map(range(1000), z => x + y + z)))'\n", ""},
		"regular expression": {"calculate:\n    x: \"matches(a, '" + strings.Repeat("(a{1,50}){1,20}", 20) + "')\"\n", ""},
	} {
		text := "kistype: flow\nflow_name: F\nstatus: 1\nflows: [{fname: C}]\n---\nkistype: func\nfname: C\nfmode: Calculate\noption:\n  " + c.option
		least, bytes := time.Hour, uint64(1<<62)
		var err error
		for range 5 { // the least of a few: the machine has other things to do
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			var set *definition.Set
			if set, err = definition.NewSet(definition.Split("f.yml", []byte(text))); err == nil {
				var b *definition.Bundle
				if b, err = set.Bundle("F"); err == nil {
					_, err = flowexec.Compile(b, kis.NewRegistry())
				}
			}
			least = min(least, time.Since(began))
			runtime.ReadMemStats(&after)
			bytes = min(bytes, after.TotalAlloc-before.TotalAlloc)
		}
		t.Logf("%s: %v, %d KiB, for %d KiB of text", name, least, bytes>>10, len(text)>>10)
		if c.refused == "" && err != nil && !strings.Contains(err.Error(), "option.calculate.x: ") || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: the error is %.300v", name, err)
		}
		if err != nil && len(err.Error()) > 20<<10 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
		// The parser of YAML takes memory by the size of the text; the limits are for the flow's own part.
		if limit := uint64(8<<20 + 100*len(text)); bytes > limit {
			t.Errorf("%s: it takes %d KiB", name, bytes>>10)
		}
		if least > 2*time.Second {
			t.Errorf("%s: it takes %v", name, least)
		}
	}
}
