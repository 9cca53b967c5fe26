package definition

import (
	"fmt"
	"slices"
	"strings"
)

// Notes returns a note for each place in the documents where the data that a row finds in a connector may depend on how
// rows are cut into batches (docs/authoring.md). Notes are no mistakes. Each has the form document:line: key: text.
func (s *Set) Notes() (notes []string) {
	users := make(map[string][]string) // the flows that use a connector, by its name
	several := make(map[string]string) // a flow of which several steps do, and one of them saves
	for _, name := range sortedKeys(s.Flows) {
		f := s.Flows[name]
		uses := s.uses(f)
		for _, connector := range sortedKeys(uses) {
			of := uses[connector]
			users[connector] = append(users[connector], name)
			if len(of) > 1 && slices.ContainsFunc(of, func(u use) bool { return u.Mode == ModeSave }) {
				several[connector] = name
				notes = append(notes, f.cutNotes(connector, of)...)
			}
		}
	}
	for _, connector := range sortedKeys(several) {
		if c := s.Connectors[connector]; c != nil && len(users[connector]) > 1 {
			notes = append(notes, note(c.Document, c.Document.LineOf("cname"), "cname", "flows %s use it: what rows of flow %s find there may "+
				"depend on when rows of the others come", strings.Join(users[connector], ", "), several[connector]))
		}
	}
	return notes
}

// use is a step of a flow that saves to a connector or loads from it, with the step's function.
type use struct {
	*Function
	line int // line of the step in the flow's document
}

// uses returns the steps of a flow that save to a connector or load from it, by the connector's name.
func (s *Set) uses(f *Flow) map[string][]use {
	uses := make(map[string][]use)
	for _, entry := range f.Functions {
		if fn := s.Functions[entry.Name]; fn != nil && fn.Connector != "" && (fn.Mode == ModeSave || fn.Mode == ModeLoad) {
			uses[fn.Connector] = append(uses[fn.Connector], use{fn, entry.Line})
		}
	}
	return uses
}

// cutNotes returns the notes about one connector. uses are the steps of the flow that use it: two or more, of which one
// saves.
func (f *Flow) cutNotes(connector string, uses []use) (notes []string) {
	if f.ShardKey == "" {
		return []string{note(f.Document, uses[0].line, "flows", "%s uses connector %s, and %s does too: without a shard_key what a row finds "+
			"there depends on how rows are cut into batches", uses[0].Name, connector, uses[len(uses)-1].Name)}
	}
	told := make(map[string]bool)
	for _, u := range uses {
		var key *Template
		at := ""
		switch {
		case u.Save != nil:
			key, at = &u.Save.Key, "option.save"
		case u.Load != nil:
			key, at = &u.Load.Key, "option.load"
		}
		if key == nil || told[u.Name] || key.has(f.ShardKey) {
			continue
		}
		told[u.Name] = true
		notes = append(notes, note(u.Document, u.Document.LineOf(at), at, "the key %s has no {%s}, the shard_key of flow %s: rows of different "+
			"shard keys may meet at one key, and what they find there depends on how rows are cut into batches", key.Text, f.ShardKey, f.Name))
	}
	return notes
}

// has reports whether the template contains the row's field with the given name. The case of letters does not count.
func (t *Template) has(field string) bool {
	return slices.ContainsFunc(t.Parts, func(p TemplatePart) bool { return strings.EqualFold(p.Field, field) })
}

// note returns a note in the form document:line: key: text, where format and args make the text.
func note(d Document, line int, key, format string, args ...any) string {
	m := Mistake{Document: d.String(), Line: line, Key: key, Problem: fmt.Sprintf(format, args...)}
	return m.Error()
}
