package definition

import (
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// OwnKeys is what the keys begin with that KisGrid keeps for itself in the stores of connectors.
const OwnKeys = "kisgrid:"

// Intake says what is wrong with the set's documents for somebody who takes them in: whoever checks a folder, applies documents,
// or sees a revision for the first time. These are rules that are younger than documents which run: a document that was
// taken in before goes on without them, so parsing and compiling don't ask.
func (s *Set) Intake() error {
	var mistakes Mistakes
	for _, name := range sortedKeys(s.Connectors) {
		mistakes = append(mistakes, s.Connectors[name].intake()...)
	}
	return mistakes.err()
}

// Intake is Set's for one connector.
func (c *Connector) Intake() error { return c.intake().err() }

func (c *Connector) intake() (mistakes Mistakes) {
	if strings.HasPrefix(c.Key, OwnKeys) {
		mistakes = append(mistakes, &Mistake{
			Document: c.Document.String(), Line: c.Document.LineOf("key"), Key: "key", Code: batch.CodeBadDocument,
			Problem: "begins with " + OwnKeys + ", as the keys do that KisGrid keeps for itself: choose another beginning",
		})
	}
	return mistakes
}
