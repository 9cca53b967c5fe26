package definition

import (
	"fmt"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// OwnKeys is the beginning of the keys that KisGrid keeps for itself in the stores of connectors.
const OwnKeys = "kisgrid:"

// Intake checks documents that somebody takes in: a folder that is checked, documents that are applied, a revision that a cluster
// sees for the first time. Its rules are younger than documents which run. A document that was taken in before goes on without
// them, so Parse does not check them. steps is the largest number of steps that a flow may have.
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

// Intake is Set.Intake for one document.
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

// intake checks a flow: it may not have too many steps.
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

// intake checks a function: its declared keys may not have fields in a form that does not exist.
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

// intake checks a connector: its parameters must be right, and its key must not begin as KisGrid's own keys do.
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
