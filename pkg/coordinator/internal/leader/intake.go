package leader

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// runningFlow is the active revision of a flow, with what the leader has to know of its documents. The zero value means that the flow has
// none.
type runningFlow struct {
	revision  batch.Revision
	documents map[cluster.Key]int64 // the etcd revision of each document in it
	// digests has the digest of each document in it. Rules of intake do not hold for these documents, because they are not new.
	digests map[cluster.Key]batch.Digest
}

// runningOf makes the runningFlow of a revision. name is its number and digest, and docs are its documents.
func runningOf(name batch.Revision, docs []definition.Document) runningFlow {
	r := runningFlow{revision: name, documents: revisionsOf(docs), digests: map[cluster.Key]batch.Digest{}}
	for _, d := range docs {
		r.digests[flowstate.KeyOf(d)] = definition.Digest([]definition.Document{d})
	}
	return r
}

// tookIn reports whether the flow's active revision has exactly this document, so that the document is not new.
func (r *runningFlow) tookIn(d definition.Document) bool {
	digest, there := r.digests[flowstate.KeyOf(d)]
	return there && digest == definition.Digest([]definition.Document{d})
}

// logLenient logs, once for each revision, that a flow goes on with documents that a rule of intake would refuse if they were new.
func (l *leader) logLenient(name string, c *Candidate) {
	if l.toldLenient[name] != c.ID() {
		l.toldLenient[name] = c.ID()
		pointLenient.Hit()
		l.Log.Warn("a flow goes on with documents that were accepted earlier and would be refused by now", "flow", name, "revision", c.ID(), "reasons", c.intakeMistakes(func(definition.Document) bool { return false }))
	}
}

// acceptedBefore returns a function, took, that reports whether a document is not new for the flow name: the flow runs with it, or its
// history has it. Such documents may break rules of intake that were made later, for example when an undo goes back to them. c is the
// flow's candidate, and runs is what the flow runs on. acceptedBefore reads the history from etcd only if the answer depends on it.
func (l *leader) acceptedBefore(ctx context.Context, name string, c *Candidate, runs *runningFlow) (took func(definition.Document) bool, err error) {
	if len(c.intakeMistakes(runs.tookIn)) == 0 {
		return runs.tookIn, nil
	}
	earlier, known := l.earlier[name]
	if !known || earlier.of != c.ID() {
		history, err := l.Store.History(ctx, name)
		if err != nil {
			return nil, err
		}
		earlier = acceptedEarlier{c.ID(), AcceptedDocuments(history)}
		l.earlier[name] = earlier
	}
	return func(d definition.Document) bool { return runs.tookIn(d) || earlier.Has(d) }, nil
}

// acceptedEarlier is the set of documents in a flow's history, as it was read when the candidate named of was looked at.
type acceptedEarlier struct {
	of batch.Revision
	DocumentSet
}

// DocumentSet is a set of documents, kept as their digests.
type DocumentSet map[batch.Digest]bool

// AcceptedDocuments returns the set of all documents in a flow's history, which were accepted once.
func AcceptedDocuments(history []cluster.HistoryEntry) DocumentSet {
	all := DocumentSet{}
	for _, h := range history {
		for _, d := range h.Documents {
			all[definition.Digest([]definition.Document{d})] = true
		}
	}
	return all
}

// Has reports whether the set has the document.
func (h DocumentSet) Has(d definition.Document) bool {
	return h[definition.Digest([]definition.Document{d})]
}

// intakeMistakes returns a sentence for each rule of intake that a document of the candidate breaks. Documents for which took returns true
// are not new for the flow, so the rules do not hold for them.
func (c *Candidate) intakeMistakes(took func(definition.Document) bool) (reasons []string) {
	for _, d := range c.Documents {
		if read := c.needs[flowstate.KeyOf(d)]; len(read.intake) > 0 && !took(d) {
			reasons = append(reasons, read.intake...)
		}
	}
	return reasons
}

// takenIn returns the candidate as it may be rolled out. took reports whether a document is not new for the flow. If a new document breaks
// a rule of intake, the result has Reasons and no revision, so that it is rejected. Otherwise new connectors are marked as fresh in its
// revision, because workers check rules of intake for them, too.
func (c *Candidate) takenIn(took func(definition.Document) bool) *Candidate {
	reasons := c.intakeMistakes(took)
	if c.Revision == nil {
		return c
	}
	taken := *c
	if len(reasons) > 0 {
		taken.Revision, taken.Reasons = nil, reasons
		return &taken
	}
	taken.Revision = c.Revision.Fresh(func(d definition.Document) bool { return d.Kind == definition.KindConn && !took(d) }, c.Documents)
	return &taken
}
