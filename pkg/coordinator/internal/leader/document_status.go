package leader

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// revisionsOf returns the etcd revision of each document, by kind and name.
func revisionsOf(docs []definition.Document) map[cluster.Key]int64 {
	all := make(map[cluster.Key]int64, len(docs))
	for _, d := range docs {
		all[flowstate.KeyOf(d)] = d.Revision
	}
	return all
}

// writeDocumentStatuses writes the statuses of functions and connectors that have changed to etcd, and deletes those of documents that are
// gone. It does so at most once in statusPause; otherwise another pass follows. The statuses follow from those of the flows that need the
// documents.
func (l *leader) writeDocumentStatuses(ctx context.Context) error {
	if time.Since(l.documentsWrittenAt) < statusPause {
		l.passAgainSoon()
		return nil
	}
	now, lost := l.documentStatuses(), l.changedByOthers()
	var put []cluster.DocumentStatus
	for _, key := range slices.SortedFunc(maps.Keys(now), flowstate.CompareKeys) {
		s, old := now[key], l.writtenDocuments[key]
		if s.Updated = old.Updated; !reflect.DeepEqual(s, old) || lost(key) {
			s.Updated = time.Now().UTC()
			put = append(put, s)
		}
		now[key] = s
	}
	var gone []cluster.Key
	for _, key := range slices.SortedFunc(maps.Keys(l.writtenDocuments), flowstate.CompareKeys) {
		if _, there := now[key]; !there {
			gone = append(gone, key)
		}
	}
	if len(put)+len(gone) == 0 {
		return nil
	}
	if err := l.Leadership.PutDocumentStatuses(ctx, put, gone); err != nil {
		return err
	}
	for _, key := range gone {
		l.direct.deleted(key, l.writtenDocuments[key].Wanted, l.writtenDocuments[key].Flows...)
	}
	l.writtenDocuments, l.documentsWrittenAt = now, time.Now()
	return nil
}

// changedByOthers returns a function that reports whether somebody else, such as an operator, has changed or removed the status of a
// document that this leader wrote to etcd. If what this leader wrote may still be on its way back from etcd, the function always returns
// false, and another pass follows.
func (l *leader) changedByOthers() func(cluster.Key) bool {
	seen := l.Fleet.FollowedState()
	if seen == nil || time.Since(l.documentsWrittenAt) < newsPatience || time.Since(l.readAt) < newsPatience {
		l.passAgainSoon() // a status that was just written may not have come back from etcd yet
		return func(cluster.Key) bool { return false }
	}
	found := seen.Documents()
	return func(key cluster.Key) bool {
		is, there := found[key]
		was, written := l.writtenDocuments[key]
		return written && (!there || !is.Updated.Equal(was.Updated))
	}
}

// documentStatuses computes the statuses of all functions and connectors, by kind and name.
func (l *leader) documentStatuses() map[cluster.Key]cluster.DocumentStatus {
	users := map[cluster.Key][]string{}
	for _, flow := range slices.Sorted(maps.Keys(l.desired.Flows)) {
		for _, d := range l.desired.Flows[flow].Documents[1:] { // the first document is the flow's own
			users[flowstate.KeyOf(d)] = append(users[flowstate.KeyOf(d)], flow)
		}
	}
	all := map[cluster.Key]cluster.DocumentStatus{}
	for _, d := range l.stored {
		if d.Kind != definition.KindFlow {
			all[flowstate.KeyOf(d)] = l.documentStatus(d, users[flowstate.KeyOf(d)])
		}
	}
	return all
}

// severity lists the states of flows from good to bad. The status of a document has the worst state among the flows that need the document
// and don't run with this version of it; active if all do.
var severity = []string{cluster.StateActive, cluster.StateDisabled, cluster.StateApplying, cluster.StatePending, cluster.StateRejected}

// documentStatus computes the status of one function or connector. flows are the flows that need it.
func (l *leader) documentStatus(d definition.Document, flows []string) cluster.DocumentStatus {
	s := cluster.DocumentStatus{
		Kind: d.Kind, Name: d.Name, Wanted: d.Revision, State: cluster.StateUnused, Of: len(flows), Flows: append([]string{}, flows...),
	}
	worst := slices.Index(severity, cluster.StateActive)
	for i, flow := range flows {
		runs := l.running[flow].documents[flowstate.KeyOf(d)]
		if i == 0 || runs < s.Active {
			s.Active = runs
		}
		if runs == d.Revision {
			s.Applied++
		} else {
			f := l.statuses[flow]
			worst = max(worst, slices.Index(severity, cluster.StateApplying), slices.Index(severity, f.State))
			for _, reason := range f.Reasons {
				s.Reasons = append(s.Reasons, fmt.Sprintf("flow %s: %s", flow, reason))
			}
		}
		s.State = severity[worst]
	}
	if reasons := l.desired.OwnMistakes(d); len(reasons) > 0 {
		s.State, s.Reasons = cluster.StateRejected, reasons
	}
	return s
}
