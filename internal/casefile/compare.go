package casefile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Difference is one thing that has happened in another way than the case wants it.
type Difference struct {
	// Section is the key of the case that says what is wanted: output, outcomes or after.
	Section string `json:"section"`
	// Line is the line of the file where it stands; 0 means that it does not stand there.
	Line int `json:"line,omitempty"`
	// Row is the input row, from 1; 0 means that it is not about one row. Function is the function in which the row ended.
	Row      int    `json:"row,omitempty"`
	Function string `json:"function,omitempty"`
	// Place says what differs: a row of the output, an outcome, a key. Field is the path of the field within it; empty means the whole.
	Place string `json:"place"`
	Field string `json:"field,omitempty"`
	// Got and Want are the values. Empty means that there is none.
	Got  string `json:"got,omitempty"`
	Want string `json:"want,omitempty"`
	// Reason says why the row ended as it did.
	Reason string `json:"reason,omitempty"`
}

// String returns the difference as a sentence; the reason of a row stands on lines of its own.
func (d Difference) String() string {
	place := d.Place
	if d.Field != "" {
		place += ": " + d.Field
	}
	got, want := "is "+d.Got, "want "+d.Want
	if d.Got == "" {
		got = "is missing"
	}
	if d.Want == "" {
		want = "want none"
	}
	text := place + ": " + got + ", " + want
	if d.Reason != "" {
		text += "\n" + d.Reason
	}
	return text
}

// compare compares what has happened with what the case wants.
func (c *Case) compare(a *actual) []Difference {
	all := c.compareOutcomes(a)
	if c.output != nil {
		all = append(all, c.output.compare(a)...)
	}
	for i := range c.after {
		all = append(all, c.after[i].compare(a)...)
	}
	return all
}

// compareOutcomes compares how the rows ended. A row that the case does not list must be done.
func (c *Case) compareOutcomes(a *actual) []Difference {
	var all []Difference
	for row := range c.rows {
		want := wantedOutcome{outcome: batch.Done}
		if c.outcomes != nil {
			if listed, ok := c.outcomes.rows[row]; ok {
				want = listed
			}
		}
		got, ok := a.notDone[row]
		if !ok {
			got.Outcome = batch.Done
		}
		differs := func(field, is, wants, reason string) {
			all = append(all, Difference{
				Section: "outcomes", Line: want.line, Row: row + 1, Function: got.Function,
				Place: "row " + strconv.Itoa(row+1), Field: field, Got: is, Want: wants, Reason: reason,
			})
		}
		reason := ""
		if got.Outcome != batch.Done {
			reason = got.Code.String() + ": " + got.Reason
		}
		switch {
		case got.Outcome != want.outcome:
			is := got.Outcome.String()
			if got.Function != "" {
				is += " in " + got.Function
			}
			differs("", is, want.outcome.String(), reason)
			continue
		case want.function != "" && got.Function != want.function:
			differs("function", cmp.Or(got.Function, "none"), want.function, reason)
		case want.code != "" && got.Code.String() != want.code:
			differs("code", got.Code.String(), want.code, got.Reason)
		}
		if want.reason != nil && got.Reason != *want.reason {
			differs("reason", strconv.Quote(cut(got.Reason)), strconv.Quote(*want.reason), "")
		}
		if want.contains != "" && !strings.Contains(got.Reason, want.contains) {
			differs("reason", strconv.Quote(cut(got.Reason)), "one that contains "+strconv.Quote(want.contains), "")
		}
	}
	return all
}

// compare compares the rows of the output, in order. Where there are more or fewer rows than wanted, those that agree at the beginning and at
// the end are left alone, so that one row too many is one difference.
func (w *wantedOutput) compare(a *actual) []Difference {
	got, want := a.output, w.rows
	same := func(i, k int) bool {
		g, errG := decode(got[i].json)
		v, errW := decode(want[k].json)
		return errG == nil && errW == nil && equal(g, v)
	}
	first, end, wantEnd := 0, len(got), len(want)
	if len(got) != len(want) {
		for first < min(end, wantEnd) && same(first, first) {
			first++
		}
		for end > first && wantEnd > first && same(end-1, wantEnd-1) {
			end, wantEnd = end-1, wantEnd-1
		}
	}
	var all []Difference
	for i := first; i < max(end, wantEnd); i++ {
		d := Difference{Section: "output", Place: "output " + strconv.Itoa(i+1)}
		if i < end {
			d.Place, d.Row = placeOf(i, got[i]), got[i].origin+1
		}
		if i < wantEnd {
			d.Line = want[i].line
		}
		switch {
		case i >= end:
			d.Want = cut(string(want[i].json))
			all = append(all, d)
		case i >= wantEnd:
			d.Got = cut(string(got[i].json))
			all = append(all, d)
		default:
			all = append(all, compareRow(d, got[i].json, want[i].json)...)
		}
	}
	return all
}

// placeOf names a row of the output, with the input row that it comes from.
func placeOf(i int, row outputRow) string {
	if row.origin < 0 {
		return fmt.Sprintf("output %d", i+1)
	}
	return fmt.Sprintf("output %d, of row %d", i+1, row.origin+1)
}

// compareRow compares two rows of JSON, field by field. d has the place of the differences.
func compareRow(d Difference, got, want []byte) []Difference {
	g, err := decode(got)
	if err != nil {
		d.Got, d.Want = cut(string(got))+", which is not JSON", cut(string(want))
		return []Difference{d}
	}
	w, err := decode(want)
	if err != nil { // the reader has made it, so it is JSON
		panic("casefile: a wanted row is not JSON: " + err.Error())
	}
	var all []Difference
	for _, f := range compareFields("", g, w) {
		one := d
		one.Field, one.Got, one.Want = f.path, f.got, f.want
		all = append(all, one)
	}
	return all
}

// compare compares all data of a connector.
func (h *holding) compare(a *actual) []Difference {
	held := a.held[h.connector]
	var all []Difference
	wanted := map[string]bool{}
	for _, want := range h.sorted() {
		wanted[want.key] = true
		d := Difference{Section: "after", Line: want.line, Place: fmt.Sprintf("connector %s, key %q", h.connector, want.key)}
		got, ok := held[want.key]
		switch {
		case !ok:
			d.Want = cut(want.String())
			all = append(all, d)
		case (got.fields == nil) != (want.fields == nil):
			d.Got, d.Want = cut(got.String()), cut(want.String())
			all = append(all, d)
		case want.fields == nil:
			all = append(all, compareLists(d, got.list, want.list)...)
		default:
			all = append(all, compareHashes(d, got.fields, want.fields)...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(held)) {
		if !wanted[key] {
			got := held[key]
			all = append(all, Difference{Section: "after", Line: h.line, Place: fmt.Sprintf("connector %s, key %q", h.connector, key), Got: cut(got.String())})
		}
	}
	return all
}

// compareLists compares the elements of a stored list.
func compareLists(d Difference, got, want []heldValue) []Difference {
	var all []Difference
	for i := range max(len(got), len(want)) {
		one := d
		one.Field = "[" + strconv.Itoa(i) + "]"
		if i < len(got) {
			one.Got = got[i].String()
		}
		if i < len(want) {
			one.Want = want[i].String()
		}
		if i >= len(got) || i >= len(want) || !want[i].is(got[i].text) {
			all = append(all, one)
		}
	}
	return all
}

// compareHashes compares the fields of a stored hash, in the order of their names.
func compareHashes(d Difference, got, want []heldField) []Difference {
	g, w, names := map[string]heldValue{}, map[string]heldValue{}, map[string]bool{}
	for _, f := range got {
		g[f.name], names[f.name] = f.value, true
	}
	for _, f := range want {
		w[f.name], names[f.name] = f.value, true
	}
	var all []Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		inGot, isGot := g[name]
		inWant, isWant := w[name]
		if isGot && isWant && inWant.is(inGot.text) {
			continue
		}
		one := d
		one.Field = fieldName(name)
		if isGot {
			one.Got = inGot.String()
		}
		if isWant {
			one.Want = inWant.String()
		}
		all = append(all, one)
	}
	return all
}

// is reports whether a stored text is the wanted value. A number is compared by its value, a list or an object as JSON, all else as text.
func (v heldValue) is(text string) bool {
	switch {
	case v.text == text:
		return true
	case v.number:
		return sameNumber(v.text, text)
	case v.json:
		got, errGot := decode([]byte(text))
		want, errWant := decode([]byte(v.text))
		return errGot == nil && errWant == nil && equal(got, want)
	}
	return false
}

// String returns the value for messages.
func (v heldValue) String() string {
	if v.number || v.json {
		return cut(v.text)
	}
	return strconv.Quote(cut(v.text))
}

// String returns the value of the key for messages.
func (k heldKey) String() string {
	var parts []string
	for _, f := range k.fields {
		parts = append(parts, fieldName(f.name)+": "+f.value.String())
	}
	if k.fields != nil {
		return "{" + strings.Join(parts, ", ") + "}"
	}
	for _, v := range k.list {
		parts = append(parts, v.String())
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
