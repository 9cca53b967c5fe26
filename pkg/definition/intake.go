package definition

import (
	"fmt"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// OwnKeys is the prefix of the keys that KisGrid keeps for itself in the stores of connectors.
const OwnKeys = "kisgrid:"

// Intake checks rules that hold for new documents only: when a folder is checked, when documents are applied, and when a cluster
// sees a revision for the first time. The rules are younger than some documents that run; these go on running, since Parse does
// not check the rules. steps is the largest number of steps that a flow may have. The error has all mistakes.
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

// Intake does the same as Set.Intake for one document.
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

// intake returns the mistakes of a new flow: values that may be meant otherwise, and more steps than the limit steps.
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

// intake returns the mistakes of a new function: values that may be meant otherwise, and keys of a declared Save or Load with a
// field in a form that does not exist, such as {stu_id:number}.
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

// intake returns the mistakes of a new connector: values that may be meant otherwise, wrong parameters of Redis, and a key that
// begins with OwnKeys.
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
