package flowexec_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// passedValues are values of a field as JSON: all ways in which JSON writes numbers, and texts that need escapes. The empty one is a missing field.
var passedValues = []string{
	"", "null", "true", "false", "0", "-0", "1", "-1", "7", "-0.0", "2.0", "2.5", "-0.25", "-0.5", "0.75", "0.1", "-3.3", "1e3", "1e-7", "-1.5e-9", "1e21", "1e22", "1.0E+2",
	"123456789012345678", "1234567890123456789", "-123456789012345678", "9007199254740992", "9007199254740993", "9223372036854775807", "-9223372036854775808",
	"99999999999999999999", "1e999", "4503599627370495.5", "281474976710656.25", "281474976710655.75", "70368744177663.5", "1.7976931348623157e308", "5e-324",
	`""`, `"ab"`, `"17"`, `"2026-11-30T14:00:00+02:00"`, `"1h30m"`, `"é"`, `"\u2028"`, `"a\"b"`, `"a\\b"`, `"a\nb"`, `"\ud800"`, `"<&>"`, "\"\x7f\"",
	"[]", `[1,2.0,"x",null]`, `[[-0.0],{}]`, "{}", `{"k":1.0,"a":"\u00e9"}`, `{"k":1,"k":2.50}`,
}

// passedPrograms are expressions over the fields x and y whose values may be of any type, so that the next function finds them without types.
var passedPrograms = []string{
	"x", "y", "x + y", "x - y", "y * x", "x / y", "x + 1", "x - 3", "x * 2", "x / 4", "x / 3", "y / 0", "1 + x", "x ?? y", "x ?? null", "x == y ? x : 7", "x > 2 ? y : x", "2 >= y ? x : 1.5",
	"[x, y]", "{k: x, t: y}", "x.k", "x[0]", "x == null ? missing : x", "x ?? 0.0", "x ?? -0.5", "x ?? 1e21", "x ?? \"é\"",
	"time(x)", "duration(x)", "time(\"2026-11-30T14:00:00+02:00\")", "duration(\"90m\")", "{at: time(\"2026-11-30T14:00:00Z\")}",
	"x ?? true", "has(x) ? x : missing", "json(x)",
}

// A flow of functions of expressions gives the same rows and outcomes as its functions one by one, with the rows written as JSON between them.
func TestPassedAsIfWritten(t *testing.T) {
	const seeds = 150
	compiled := 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 4))
		pick := func(of []string) string { return of[rng.IntN(len(of))] }
		var functions []string
		for i := range 3 {
			name, source := fmt.Sprintf("F%d", i), ""
			if rng.IntN(4) == 0 {
				source = fmt.Sprintf("source: {fields: {id: any, x: %q, y: any}}\n", pick([]string{"int?", "float?", "string?", "time?", "duration?", "bool?", "any"}))
			}
			switch rng.IntN(6) {
			case 0:
				functions = append(functions, fmt.Sprintf("fname: %s\nfmode: Verify\n%soption:\n  verify: '%s'\n", name, source, pick([]string{"x != null", "x != 3", "x < y", "3 < x"})))
			case 1:
				functions = append(functions, fmt.Sprintf("fname: %s\nfmode: Expand\n%soption:\n  expand: {each: '%s', set: {id: id, x: '%s', y: item}}\n", name, source, pick([]string{"[x, y]", "[1.0, x]"}), pick(passedPrograms)))
			default:
				functions = append(functions, fmt.Sprintf("fname: %s\nfmode: Calculate\n%soption:\n  calculate: {id: id, x: '%s', y: '%s'}\n", name, source, pick(passedPrograms), pick(passedPrograms)))
			}
		}
		var rows []string
		for i := range 40 {
			row := fmt.Sprintf(`{"id":%d`, i)
			for _, name := range []string{"x", "y"} {
				if v := pick(passedValues); v != "" {
					row += fmt.Sprintf(`,"%s":%s`, name, v)
				}
			}
			rows = append(rows, row+"}")
		}
		together := runPassed(t, rows, functions)
		if together == nil { // types that can't fit show when the flow is compiled
			continue
		}
		compiled++
		apart := make([]passed, len(rows))
		for i, row := range rows {
			apart[i].rows = []string{row}
		}
		for _, f := range functions {
			var all []string
			var of []int
			for i, p := range apart {
				for _, row := range p.rows {
					all, of = append(all, row), append(of, i)
				}
				apart[i].rows = nil
			}
			if len(all) == 0 {
				break
			}
			for k, p := range runPassed(t, all, []string{f}) {
				apart[of[k]].rows = append(apart[of[k]].rows, p.rows...)
				apart[of[k]].ends = append(apart[of[k]].ends, p.ends...)
			}
		}
		for i, got := range together {
			want := apart[i]
			if len(want.ends) > 0 && len(got.ends) > 0 && slices.Contains(want.ends, got.ends[0]) {
				continue // rows that were made of this one may end in several ways, of which one is told
			}
			if !slices.Equal(got.rows, want.rows) || len(got.ends) != len(want.ends) {
				t.Errorf("seed %d, %s\nthrough\n%s\ngives  %v\nwanted %v", seed, rows[i], strings.Join(functions, ""), got, want)
			}
		}
	}
	if compiled < seeds/4 {
		t.Errorf("only %d of %d flows could be compiled", compiled, seeds)
	}
}

// passed is how a row ended: the rows that were made of it, and why it is not done.
type passed struct{ rows, ends []string }

// runPassed runs rows through a flow. It returns nil if the flow has mistakes.
func runPassed(t *testing.T, rows []string, functions []string) []passed {
	t.Helper()
	result, err := submitExpressions(t, nil, rows, functions, 1)
	if err != nil {
		return nil
	}
	all := make([]passed, len(rows))
	for i, o := range result[0].Output.Origins {
		all[o].rows = append(all[o].rows, string(result[0].Output.Rows.Row(i)))
	}
	for _, o := range result[0].NotDone {
		// The place of a function in the file is another one when it stands alone, and a row that came has another code than one that was made.
		_, reason, _ := strings.Cut(o.Reason, "option.")
		if reason == "" {
			reason = o.Reason
		}
		all[o.Row].ends = append(all[o.Row].ends, fmt.Sprintf("%v %s: %s", o.Outcome, o.Function, reason))
	}
	return all
}
