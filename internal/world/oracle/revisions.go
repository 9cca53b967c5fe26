package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// OneRevision checks that each batch runs on one revision.
//
// The promise: every batch, resends included, runs on exactly one revision. So all runs of a batch see one revision number, each of its
// functions sees one mark, effects have these marks, and every answer names this revision. A batch that names a revision which is not kept is
// refused. Excused are dead letters: each redrive of a letter runs on the revision that is active then; and batches of a producer whose program
// began again without the revision on which they had run.
func OneRevision(l *Life) {
	for id, runs := range l.runs {
		l.checked(1)
		first := l.Runs[runs[0]]
		subject := Subject{Flow: first.Flow, Batch: id}
		marks := map[string]string{}
		for _, i := range runs {
			run := l.Runs[i]
			if run.Flow != first.Flow {
				l.breach(subject, "the batch ran in the flows %s and %s", first.Flow, run.Flow)
				break
			}
			if run.Revision != first.Revision && l.batches[id] == nil && l.foreign(first.Flow) {
				l.excused("a dead letter that was run again, and died again, on another revision")
				break
			}
			if run.Revision != first.Revision && l.unknownRevision(l.batches[id]) {
				l.excused("a producer's program began again, and did not know the revision")
				break
			}
			if run.Revision != first.Revision {
				l.breach(subject, "%s ran %s on revision %d for the batch, and %s ran %s on revision %d", first.Process, first.Function, first.Revision, run.Process, run.Function, run.Revision)
				break
			}
			if mark, known := marks[run.Function]; known && mark != run.Mark {
				l.breach(subject, "%s ran with the marks %q and %q for the batch, on revision %d", run.Function, mark, run.Mark, run.Revision)
				break
			}
			marks[run.Function] = run.Mark
		}
		b := l.batches[id]
		if b == nil || l.unknownRevision(b) {
			continue
		}
		for _, t := range b.Tries {
			if t.ID == id && t.Answered && t.Revision != 0 && t.Revision != first.Revision {
				l.breach(subject, "the answer names revision %d, but %s ran %s on revision %d", t.Revision, first.Process, first.Function, first.Revision)
			}
		}
	}
	for _, s := range l.Stores {
		for stored, list := range s.Lists {
			flow, _, _, _ := keyOf(stored)
			for _, text := range list {
				e, err := history.ParseEntry(text)
				if err != nil {
					continue // EffectsOnce reports it
				}
				if marks := l.marks(e.ID.Batch, e.Function); len(marks) > 0 && !marks[e.Mark] {
					l.breach(Subject{Flow: flow, Batch: e.ID.Batch}, "an effect of row %s has the mark %q, but its function ran with %v", e.ID, e.Mark, slices.Collect(maps.Keys(marks)))
				}
			}
		}
	}
}

// unknownRevision reports whether a batch's producer sent it again without the revision on which it ran, because its program ended before
// the answer came, or between two tries, and keeps no revision. b may be nil.
func (l *Life) unknownRevision(b *history.Batch) bool {
	if b == nil || !l.client(b.Client).Forgets {
		return false
	}
	for i, t := range b.Tries[:len(b.Tries)-1] {
		next := b.Tries[i+1].At
		if t.Gone || slices.ContainsFunc(l.Faults, func(f history.Fault) bool {
			return f.Kind == "kill" && f.Who == b.Client && t.At <= f.At && f.At <= next
		}) {
			return true
		}
	}
	return false
}

// marks returns the marks with which a function ran for a batch.
func (l *Life) marks(id batch.ID, function string) map[string]bool {
	all := map[string]bool{}
	for _, i := range l.runs[id] {
		if l.Runs[i].Function == function {
			all[l.Runs[i].Mark] = true
		}
	}
	return all
}

// versions are the writes of one document, in order.
type versions []history.Document

// at returns the document as it was at a revision of an epoch of etcd's data. ok is false when it was not there.
func (v versions) at(epoch int, revision int64) (d history.Document, ok bool) {
	for _, w := range v {
		if w.Epoch == epoch && w.Revision <= revision {
			d, ok = w, !w.Deleted
		}
	}
	return d, ok
}

// AllDocuments checks that the documents with which a batch runs belong together.
//
// The promise: a revision of a flow is the state of its documents at one revision of etcd, that of the newest of them. So the marks of a
// batch's functions are those that the documents had in etcd at the batch's revision, all at the same time. etcd may give numbers again
// after it lost data; then the documents of one of its epochs must fit, and for a row that is submitted after calm those of the last one, if
// that has the number. Nothing else is excused.
func AllDocuments(l *Life) {
	documents := map[string]versions{}
	epochs := map[int]bool{}
	last := 0
	for _, d := range l.Documents {
		documents[d.Kind+"/"+d.Name] = append(documents[d.Kind+"/"+d.Name], d)
		epochs[d.Epoch] = true
		last = max(last, d.Epoch)
	}
	if len(documents) == 0 {
		return
	}
	type seen struct {
		flow     string
		revision int64
		marks    string
		now      bool // the batch was submitted after calm
	}
	judged := map[seen]bool{}
	for id, runs := range l.runs {
		first := l.Runs[runs[0]]
		f := l.flows[first.Flow]
		if f == nil {
			continue
		}
		for revision, marks := range l.marksByRevision(runs) {
			b := l.batches[id]
			key := seen{first.Flow, revision, text(marks), b != nil && b.Client == Probe}
			if judged[key] {
				continue
			}
			judged[key] = true
			l.checked(1)
			var told []string
			fits := false
			for _, epoch := range slices.Backward(slices.Sorted(maps.Keys(epochs))) {
				want, newest, ok := documentsAt(documents, first.Flow, f.functions(), epoch, revision)
				if !ok {
					continue
				}
				if newest != revision && !l.connectorAt(epoch, revision) {
					told = append(told, fmt.Sprintf("in epoch %d none of the flow's documents was written at revision %d, the newest one before at %d", epoch, revision, newest))
					continue
				}
				if text(only(want, marks)) == key.marks {
					fits = true
					break
				}
				told = append(told, fmt.Sprintf("in epoch %d they were %s", epoch, text(only(want, marks))))
				if key.now && epoch == last {
					break
				}
			}
			if !fits {
				l.breach(Subject{Flow: first.Flow, Batch: id, Revisions: true}, "a batch ran on revision %d with the marks %s: %s", revision, key.marks, strings.Join(told, "; "))
			}
		}
	}
}

// only returns the entries of a map whose keys another map has, too.
func only(all, keys map[string]string) map[string]string {
	some := map[string]string{}
	for key := range keys {
		some[key] = all[key]
	}
	return some
}

// connectorAt reports whether a connector's document was written at a revision.
func (l *Life) connectorAt(epoch int, revision int64) bool {
	return slices.ContainsFunc(l.Documents, func(d history.Document) bool {
		return d.Kind == "conn" && d.Epoch == epoch && d.Revision == revision
	})
}

// documentsAt returns the marks of functions at a revision of an epoch, and the revision of the newest of their documents and the flow's. ok
// is false when a document was not there.
func documentsAt(documents map[string]versions, flow string, functions []string, epoch int, revision int64) (marks map[string]string, newest int64, ok bool) {
	d, ok := documents["flow/"+flow].at(epoch, revision)
	if !ok {
		return nil, 0, false
	}
	newest = d.Revision
	marks = map[string]string{}
	for _, name := range functions {
		d, ok := documents["func/"+name].at(epoch, revision)
		if !ok {
			return nil, 0, false
		}
		marks[name] = d.Mark
		newest = max(newest, d.Revision)
	}
	return marks, newest, true
}

// text writes a map in the order of its keys.
func text(m map[string]string) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %q", name, m[name])
	}
	return b.String()
}

// marksByRevision returns the marks that the functions of some runs recorded, by the revision of the run and by the function. Runs of one
// batch may be of several revisions: a redrive that was cut off runs the letter again, under the same id, on the revision that is active
// then. Whether any other batch did is for OneRevision to say.
func (l *Life) marksByRevision(runs []int) map[int64]map[string]string {
	all := map[int64]map[string]string{}
	for _, i := range runs {
		r := &l.Runs[i]
		if all[r.Revision] == nil {
			all[r.Revision] = map[string]string{}
		}
		all[r.Revision][r.Function] = r.Mark
	}
	return all
}
