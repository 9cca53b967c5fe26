package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// eval prints a value for each row, and tells rows that fail.
func TestEval(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "rows.ndjson", "{\"a\": 80, \"b\": 95}\n\n{\"a\": \"x\"}\n{\"a\": 9007199254740993, \"b\": 0}\n")
	rows := filepath.Join(dir, "rows.ndjson")
	for name, c := range map[string]struct {
		args  []string
		want  string
		fails bool
	}{
		"constant":     {[]string{"1 + 2"}, "3\n", false},
		"rows":         {[]string{"a + (b ?? 0)", "-f", rows}, "175\nline 3: a + (b ?? 0): can't have a string on the left of + and an int on the right\n9007199254740993\n", true},
		"missing":      {[]string{"b", "-f", rows}, "95\nmissing\n0\n", false},
		"params":       {[]string{"a == params.wanted", "--params", "{wanted: 80}", "--fields", "{a: int}", "-f", rows}, "true\nline 3: a is a string and was declared as int\nfalse\n", true},
		"type":         {[]string{"a / 2", "--fields", "{a: int}", "--type"}, "float\n", false},
		"mistake":      {[]string{"c > 1", "--fields", "{a: int}"}, "c is not a field of the row: its fields are a; add c to source.fields if rows have it\n    c > 1\n    ^\n", true},
		"no JSON":      {[]string{"a", "-f", filepath.Join(dir, "none")}, "", true},
		"wrong type":   {[]string{"a", "--fields", "{a: integer}"}, "", true},
		"no object":    {[]string{"a", "--fields", "[int]"}, "", true},
		"wrong params": {[]string{"a", "--params", "[1]"}, "", true},
	} {
		out, err := kisgrid(append([]string{"eval"}, c.args...)...)
		if out != c.want || (err != nil) != c.fails || c.want != "" && err != nil && !errors.Is(err, errReported) {
			t.Errorf("%s: %v, and it prints\n%s\nwant\n%s", name, err, out, c.want)
		}
	}
	if out, err := kisgrid("eval", "--help"); err != nil || !strings.Contains(out, "docs/expressions.md") {
		t.Errorf("%v, %s", err, out)
	}
}
