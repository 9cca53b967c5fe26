package casefile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/internal/yamltext"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// The keys of a case, of an outcome, and of a file.
var (
	caseKeys    = []string{"name", "flow", "before", "rows", "rows_file", "output", "outcomes", "after"}
	outcomeKeys = []string{"row", "outcome", "function", "code", "reason", "reason_contains"}
	fileKeys    = []string{"tests"}
)

// readFile reads the text of a test file. set has the documents that the cases name.
func readFile(path string, text []byte, set *definition.Set) (*File, definition.Mistakes) {
	r := &reader{path: path, set: set}
	f := &File{Path: path, Set: set, text: text}
	roots, err := yamltext.Nodes(text, 2)
	if err != nil {
		r.mistake(0, "", "is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	switch {
	case err == nil && len(roots) == 0:
		r.mistake(0, "", "is empty: write tests, with a list of cases, or remove the file")
		return f, r.mistakes
	case len(roots) == 0:
		return f, r.mistakes
	case len(roots) > 1:
		r.mistake(roots[1].Line, "", "is a second document: write all cases under one tests")
	}
	root := roots[0].Content[0]
	top := r.object(root, "", fileKeys...)
	tests, ok := top["tests"]
	if !ok {
		if root.Kind == yaml.MappingNode {
			r.mistake(1, "tests", "is missing: write a list of cases")
		}
		return f, r.mistakes
	}
	nodes, ok := r.list(tests)
	if ok && len(nodes) == 0 {
		r.mistake(tests.key.Line, "tests", "has no case: write at least one, or remove the file")
	}
	names := map[string]int{}
	for i, n := range nodes {
		c := r.readCase(n, "tests["+strconv.Itoa(i)+"]")
		if line, twice := names[c.Name]; twice && c.Name != "" {
			r.mistake(c.Line, "tests["+strconv.Itoa(i)+"].name", "is %q, as that of the case on line %d: give each case a name of its own", c.Name, line)
		}
		names[c.Name] = c.Line
		f.Cases = append(f.Cases, c)
	}
	f.findSpans(root)
	return f, r.mistakes
}

// readCase reads one case.
func (r *reader) readCase(n *yaml.Node, path string) *Case {
	c := &Case{Line: n.Line}
	o := r.object(n, path, caseKeys...)
	if n.Kind != yaml.MappingNode {
		return c
	}
	if e, ok := o["name"]; ok {
		if c.Name = r.text(e); strings.TrimSpace(c.Name) == "" && e.value.ShortTag() != "!!null" {
			r.mistake(e.value.Line, e.path, "is empty: say what the case shows")
		}
	} else {
		r.mistake(n.Line, path+".name", "is missing: say what the case shows")
	}
	if e, ok := o["flow"]; ok {
		c.Flow = r.text(e)
		if r.set.Flows[c.Flow] == nil && c.Flow != "" && !r.set.Known(definition.KindFlow, c.Flow) {
			r.mistake(e.value.Line, e.path, "no document describes the flow %q%s", c.Flow, definition.Suggest(c.Flow, keysOf(r.set.Flows)))
		}
	} else {
		r.mistake(n.Line, path+".flow", "is missing: write the name of the flow that the rows run through")
	}
	r.readRows(c, o, n, path)
	if e, ok := o["before"]; ok {
		c.before = r.holdings(e, c)
	}
	if e, ok := o["output"]; ok {
		if rows, ok := r.list(e); ok {
			c.output = &wantedOutput{}
			for i, row := range rows {
				c.output.rows = append(c.output.rows, wantedRow{r.json(row, e.path+"["+strconv.Itoa(i)+"]"), row.Line})
			}
		}
	}
	if e, ok := o["outcomes"]; ok {
		r.readOutcomes(c, e)
	}
	if e, ok := o["after"]; ok {
		if c.after = r.holdings(e, c); e.value.Kind == yaml.MappingNode && len(e.value.Content) == 0 {
			r.mistake(e.key.Line, e.path, "names no connector, so it compares nothing: name one, with {} if it should hold nothing")
		}
	}
	return c
}

// readRows reads rows or rows_file of a case, which n is.
func (r *reader) readRows(c *Case, o map[string]entry, n *yaml.Node, path string) {
	rows, own := o["rows"]
	file, other := o["rows_file"]
	switch {
	case own && other:
		r.mistake(file.key.Line, file.path, "comes beside rows: write one of the two")
	case own:
		nodes, ok := r.list(rows)
		for i, row := range nodes {
			c.rows = append(c.rows, r.json(row, rows.path+"["+strconv.Itoa(i)+"]"))
		}
		if ok && len(nodes) == 0 {
			r.mistake(rows.key.Line, rows.path, "has no row: write at least one")
		}
	case other:
		name := r.text(file)
		if err := c.readRowsFile(filepath.Join(filepath.Dir(r.path), filepath.FromSlash(name))); err != nil {
			r.mistake(file.value.Line, file.path, "%v", err)
		} else if len(c.rows) == 0 {
			r.mistake(file.value.Line, file.path, "%s has no row", name)
		}
	default:
		r.mistake(n.Line, path+".rows", "is missing: write the rows that run through the flow, or rows_file with the name of a file")
	}
}

// readRowsFile reads the rows of a file. A row that can't be read is one of the case's rows, as it stands there.
func (c *Case) readRowsFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rows := rowfile.NewReader(f, rowfile.Options{Format: rowfile.FormatOf(path)})
	for {
		row, err := rows.Next()
		bad, isBad := errors.AsType[*rowfile.BadRow](err)
		switch {
		case isBad:
			row = bad.Text
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		c.rows = append(c.rows, bytes.Clone(row))
	}
}

// readOutcomes reads the outcomes of a case.
func (r *reader) readOutcomes(c *Case, e entry) {
	nodes, ok := r.list(e)
	if !ok {
		return
	}
	c.outcomes = &wantedOutcomes{rows: map[int]wantedOutcome{}}
	for i, n := range nodes {
		path := e.path + "[" + strconv.Itoa(i) + "]"
		o := r.object(n, path, outcomeKeys...)
		if n.Kind != yaml.MappingNode {
			continue
		}
		row, ok := r.rowNumber(o, n, path, len(c.rows))
		want, wanted := r.readOutcome(c, o, n, path)
		if !ok || !wanted {
			continue
		}
		if first, twice := c.outcomes.rows[row]; twice {
			r.mistake(n.Line, path+".row", "is %d, as on line %d: a row has one outcome", row+1, first.line)
			continue
		}
		c.outcomes.rows[row] = want
	}
}

// rowNumber reads the number of a row, which counts from 1 in the file, and returns it from 0.
func (r *reader) rowNumber(o map[string]entry, n *yaml.Node, path string, rows int) (int, bool) {
	e, ok := o["row"]
	if !ok {
		r.mistake(n.Line, path+".row", "is missing: write the number of the row, from 1")
		return 0, false
	}
	row, err := strconv.Atoi(e.value.Value)
	if e.value.ShortTag() != "!!int" || err != nil {
		r.mistake(e.value.Line, e.path, "wants the number of a row, from 1, not %s", describe(e.value))
		return 0, false
	}
	if rows > 0 && (row < 1 || row > rows) {
		r.mistake(e.value.Line, e.path, "is %d; the case has the rows 1 to %d", row, rows)
		return 0, false
	}
	return row - 1, true
}

// outcomeNames are the names of outcomes, in the order of their numbers.
func outcomeNames() []string {
	var names []string
	for o := batch.Done; o <= batch.Failed; o++ {
		names = append(names, o.String())
	}
	return names
}

// readOutcome reads what an entry of outcomes wants.
func (r *reader) readOutcome(c *Case, o map[string]entry, n *yaml.Node, path string) (w wantedOutcome, ok bool) {
	w.line = n.Line
	e, ok := o["outcome"]
	if !ok {
		r.mistake(n.Line, path+".outcome", "is missing: write one of %s", strings.Join(outcomeNames(), ", "))
		return w, false
	}
	i := slices.Index(outcomeNames(), e.value.Value)
	if i < 0 {
		r.mistake(e.value.Line, e.path, "is %s; it may be %s%s", describe(e.value), strings.Join(outcomeNames(), ", "), definition.Suggest(e.value.Value, outcomeNames()))
		return w, false
	}
	w.outcome = batch.Done + batch.Outcome(i)
	if e, ok := o["function"]; ok {
		w.function = r.text(e)
		if f := r.set.Flows[c.Flow]; f != nil && w.function != "" {
			names := functionsOf(f)
			if !slices.Contains(names, w.function) {
				r.mistake(e.value.Line, e.path, "is %q, which the flow %s does not have (it has %s)%s", w.function, c.Flow, strings.Join(names, ", "), definition.Suggest(w.function, names))
			}
		}
	}
	if e, ok := o["code"]; ok {
		if w.code = r.text(e); w.code != "" && !slices.Contains(batch.CodeNames(), w.code) {
			r.mistake(e.value.Line, e.path, "is %q, which is no code%s", w.code, definition.Suggest(w.code, batch.CodeNames()))
		}
	}
	if e, ok := o["reason"]; ok {
		text := r.text(e)
		w.reason = &text
	}
	if e, ok := o["reason_contains"]; ok {
		if w.contains = r.text(e); w.contains == "" && e.value.ShortTag() != "!!null" {
			r.mistake(e.value.Line, e.path, "is empty: write a part of the reason, or take the key out")
		}
	}
	if w.outcome == batch.Done && len(o) > 2 {
		r.mistake(n.Line, path, "is done, and a row that is done has no function, code and reason: take them out")
	}
	return w, true
}

// holdings reads the data of connectors under before or after.
func (r *reader) holdings(e entry, c *Case) []holding {
	var all []holding
	for _, of := range r.entries(e.value, e.path) {
		if names := connectorsOf(r.set, c.Flow); r.set.Flows[c.Flow] != nil && !slices.Contains(names, of.name) {
			known := "it uses none"
			if len(names) > 0 {
				known = "it uses " + strings.Join(names, ", ")
			}
			r.mistake(of.key.Line, of.path, "is no connector of the flow %s (%s)%s", c.Flow, known, definition.Suggest(of.name, names))
			continue
		}
		h := holding{connector: of.name, line: of.key.Line}
		for _, key := range r.entries(of.value, of.path) {
			h.keys = append(h.keys, r.heldKey(key))
		}
		all = append(all, h)
	}
	return all
}

// heldKey reads the value of a key: a hash or a list.
func (r *reader) heldKey(e entry) heldKey {
	k := heldKey{key: e.name, line: e.key.Line}
	switch e.value.Kind {
	case yaml.MappingNode:
		k.fields = []heldField{}
		for _, f := range r.entries(e.value, e.path) {
			k.fields = append(k.fields, heldField{f.name, r.heldValue(f.value, f.path)})
		}
		if len(k.fields) == 0 {
			r.mistake(e.value.Line, e.path, "has no field: a key without fields is not there; take it out")
		}
	case yaml.SequenceNode:
		for i, n := range e.value.Content {
			k.list = append(k.list, r.heldValue(r.follow(n), e.path+"["+strconv.Itoa(i)+"]"))
		}
		if len(k.list) == 0 {
			r.mistake(e.value.Line, e.path, "has no element: a key without elements is not there; take it out")
		}
	default:
		r.mistake(e.value.Line, e.path, "wants the fields of a hash, as field: value, or a list, not %s", describe(e.value))
	}
	return k
}

// heldValue reads one stored value. Lists and objects stand for their JSON, all other values for their text.
func (r *reader) heldValue(n *yaml.Node, path string) heldValue {
	if n.Kind != yaml.ScalarNode {
		return heldValue{text: string(r.json(n, path)), json: true}
	}
	switch n.ShortTag() {
	case "!!null":
		r.mistake(n.Line, path, "is empty: write the stored text, with \"\" for an empty one")
	case "!!int", "!!float":
		text, ok := scalarJSON(n)
		if !ok {
			r.mistake(n.Line, path, "is %s, which is no number of JSON: put it into quotes", n.Value)
		}
		return heldValue{text: string(text), number: true}
	case "!!bool":
		text, _ := scalarJSON(n)
		return heldValue{text: string(text)}
	}
	return heldValue{text: n.Value}
}

// functionsOf returns the names of a flow's functions, each once, in their order.
func functionsOf(f *definition.Flow) []string {
	var names []string
	for _, step := range f.Functions {
		if !slices.Contains(names, step.Name) {
			names = append(names, step.Name)
		}
	}
	return names
}

// connectorsOf returns the names of the connectors that a flow uses, sorted.
func connectorsOf(set *definition.Set, flow string) []string {
	var names []string
	if f := set.Flows[flow]; f != nil {
		for _, name := range functionsOf(f) {
			if function := set.Functions[name]; function != nil && function.Connector != "" && !slices.Contains(names, function.Connector) {
				names = append(names, function.Connector)
			}
		}
	}
	slices.Sort(names)
	return names
}

// keysOf returns the keys of a map, sorted.
func keysOf[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
