package leader

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// running is what a flow runs on.
type runningFlow struct {
	revision  batch.Revision
	documents map[cluster.Key]int64 // their revisions
	// taken are the documents that it was made of: rules of intake are not asked again.
	taken map[cluster.Key]batch.Digest
}

func runningOf(name batch.Revision, docs []definition.Document) runningFlow {
	r := runningFlow{revision: name, documents: revisionsOf(docs), taken: map[cluster.Key]batch.Digest{}}
	for _, d := range docs {
		r.taken[flowstate.KeyOf(d)] = definition.Digest([]definition.Document{d})
	}
	return r
}

// took reports whether the flow runs on the document already.
func (r *runningFlow) took(d definition.Document) bool {
	digest, there := r.taken[flowstate.KeyOf(d)]
	return there && digest == definition.Digest([]definition.Document{d})
}

// tellLenient tells, once, that a flow goes on with documents that would be refused by now.
func (l *leader) tellLenient(name string, c *Candidate) {
	if l.toldLenient[name] != c.ID() {
		l.toldLenient[name] = c.ID()
		l.Log.Warn("a flow goes on with documents that were accepted earlier and would be refused by now", "flow", name, "revision", c.ID(), "reasons", c.intake(func(definition.Document) bool { return false }))
	}
}

// tookEarlier tells of a document whether the flow runs with it, or has it in the history: an undo of a change goes back to what
// was accepted, whatever rules of intake there are by now. It asks etcd for the history where that decides.
func (l *leader) tookEarlier(ctx context.Context, name string, c *Candidate, runs *runningFlow) (took func(definition.Document) bool, err error) {
	if len(c.intake(runs.took)) == 0 {
		return runs.took, nil
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
	return func(d definition.Document) bool { return runs.took(d) || earlier.Has(d) }, nil
}

// acceptedEarlier are the documents that a flow's history had when a candidate was looked at.
type acceptedEarlier struct {
	of batch.Revision
	DocumentSet
}

// DocumentSet are documents of revisions that were accepted.
type DocumentSet map[batch.Digest]bool

func AcceptedDocuments(history []cluster.HistoryEntry) DocumentSet {
	all := DocumentSet{}
	for _, h := range history {
		for _, d := range h.Documents {
			all[definition.Digest([]definition.Document{d})] = true
		}
	}
	return all
}

func (h DocumentSet) Has(d definition.Document) bool {
	return h[definition.Digest([]definition.Document{d})]
}

// intake is why a candidate can't be taken in: the rules of intake that its documents break, but for those that the flow took in
// already.
func (c *Candidate) intake(took func(definition.Document) bool) (reasons []string) {
	for _, d := range c.Documents {
		if read := c.needs[flowstate.KeyOf(d)]; len(read.intake) > 0 && !took(d) {
			reasons = append(reasons, read.intake...)
		}
	}
	return reasons
}

// takenIn refuses a candidate with a document that breaks a rule of intake. One that the flow took in already goes on. Of the
// others workers are told that they are fresh: they have rules of their own.
func (c *Candidate) takenIn(took func(definition.Document) bool) *Candidate {
	reasons := c.intake(took)
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
