package definition

import (
	"fmt"
	"iter"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// OwnKeys is what the keys begin with that KisGrid keeps for itself in the stores of connectors.
const OwnKeys = "kisgrid:"

// Intake says what is wrong with the set's documents for somebody who takes them in: whoever checks a folder, applies documents,
// or sees a revision for the first time. These are rules that are younger than documents which run: a document that was
// taken in before goes on without them, so parsing and compiling don't ask. A flow may have that many steps.
func (s *Set) Intake(steps int) error {
	var mistakes Mistakes
	for _, name := range sortedKeys(s.Flows) {
		mistakes = append(mistakes, s.Flows[name].intake(steps)...)
	}
	for _, name := range sortedKeys(s.Functions) {
		mistakes = append(mistakes, s.Functions[name].intake()...)
	}
	for _, name := range sortedKeys(s.Connectors) {
		mistakes = append(mistakes, s.Connectors[name].intake()...)
	}
	if s.Global != nil {
		mistakes = append(mistakes, s.Global.Document.doubts()...)
	}
	return mistakes.err()
}

// Intake is Set's for one document.
func (p Parsed) Intake(steps int) error {
	switch {
	case p.Flow != nil:
		return p.Flow.intake(steps).err()
	case p.Function != nil:
		return p.Function.intake().err()
	case p.Connector != nil:
		return p.Connector.intake().err()
	case p.Global != nil:
		return p.Global.Document.doubts().err()
	}
	return nil
}

func (f *Flow) intake(steps int) Mistakes {
	doubts := f.Document.doubts()
	if len(f.Functions) <= steps {
		return doubts
	}
	return append(doubts, &Mistake{
		Document: f.Document.String(), Line: f.Functions[steps].Line, Key: "flows", Code: batch.CodeBadDocument,
		Problem: fmt.Sprintf("has %d steps, over the limit of %d: split the flow, or do more in one function; --max-steps, of lint and of coordinators, raises the limit", len(f.Functions), steps),
	})
}

func (f *Function) intake() Mistakes {
	mistakes := f.Document.doubts()
	for key, t := range f.templates() {
		if doubt := t.doubt(); doubt != "" {
			mistakes = append(mistakes, &Mistake{
				Document: f.Document.String(), Line: f.Document.LineOf(key), Key: key, Code: batch.CodeBadDocument, Problem: doubt,
			})
		}
	}
	return mistakes
}

// templates are the keys that the function's document declares, by where they stand in it.
func (f *Function) templates() iter.Seq2[string, Template] {
	return func(yield func(string, Template) bool) {
		if f.Save != nil && !yield("option.save.key", f.Save.Key) {
			return
		}
		if f.Load != nil {
			yield("option.load.key", f.Load.Key)
		}
	}
}

func (c *Connector) intake() Mistakes {
	mistakes := c.Document.doubts()
	if c.Type == "redis" {
		mistakes = append(mistakes, c.redisIntake()...)
	}
	if strings.HasPrefix(c.Key, OwnKeys) {
		mistakes = append(mistakes, &Mistake{
			Document: c.Document.String(), Line: c.Document.LineOf("key"), Key: "key", Code: batch.CodeBadDocument,
			Problem: "begins with " + OwnKeys + ", as the keys do that KisGrid keeps for itself: choose another beginning",
		})
	}
	return mistakes
}
