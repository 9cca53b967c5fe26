package coordinator

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func keyOf(d definition.Document) cluster.Key { return cluster.Key{Kind: d.Kind, Name: d.Name} }

func byName(a, b cluster.Key) int { return strings.Compare(a.String(), b.String()) }

func revisionsOf(docs []definition.Document) map[cluster.Key]int64 {
	all := make(map[cluster.Key]int64, len(docs))
	for _, d := range docs {
		all[keyOf(d)] = d.Revision
	}
	return all
}

// describe brings the statuses of functions and connectors up to those of the flows that need them, not oftener than once in
// statusPause.
func (l *leader) describe(ctx context.Context) error {
	if time.Since(l.wrote) < statusPause {
		l.lookAgain()
		return nil
	}
	now := l.descriptions()
	var put []cluster.DocumentStatus
	for _, key := range slices.SortedFunc(maps.Keys(now), byName) {
		s, old := now[key], l.described[key]
		if s.Updated = old.Updated; !reflect.DeepEqual(s, old) {
			s.Updated = time.Now().UTC()
			put = append(put, s)
		}
		now[key] = s
	}
	var gone []cluster.Key
	for _, key := range slices.SortedFunc(maps.Keys(l.described), byName) {
		if _, there := now[key]; !there {
			gone = append(gone, key)
		}
	}
	if len(put)+len(gone) == 0 {
		return nil
	}
	if err := l.leadership.PutDocumentStatuses(ctx, put, gone); err != nil {
		return err
	}
	l.described, l.wrote = now, time.Now()
	return nil
}

// descriptions are the statuses of functions and connectors as the documents and the flows' statuses have it now.
func (l *leader) descriptions() map[cluster.Key]cluster.DocumentStatus {
	users := map[cluster.Key][]string{}
	for _, flow := range slices.Sorted(maps.Keys(l.wanted)) {
		for _, d := range l.wanted[flow].documents[1:] { // the first is the flow's own
			users[keyOf(d)] = append(users[keyOf(d)], flow)
		}
	}
	all := map[cluster.Key]cluster.DocumentStatus{}
	for _, d := range l.stored {
		if d.Kind != definition.KindFlow {
			all[keyOf(d)] = l.description(d, users[keyOf(d)])
		}
	}
	return all
}

// severity orders the states of flows: a document has the worst of those that need it and don't run it.
var severity = []string{cluster.StateActive, cluster.StateDisabled, cluster.StateApplying, cluster.StatePending, cluster.StateRejected}

func (l *leader) description(d definition.Document, flows []string) cluster.DocumentStatus {
	s := cluster.DocumentStatus{
		Kind: d.Kind, Name: d.Name, Wanted: d.Revision, State: cluster.StateUnused, Of: len(flows), Flows: append([]string{}, flows...),
	}
	worst := slices.Index(severity, cluster.StateActive)
	for i, flow := range flows {
		runs := l.running[flow][keyOf(d)]
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
	if reasons := ownMistakes(d, l.stored); len(reasons) > 0 {
		s.State, s.Reasons = cluster.StateRejected, reasons
	}
	return s
}

// ownMistakes are what is wrong with a function's or connector's document, whoever needs it.
func ownMistakes(d definition.Document, stored []definition.Document) []string {
	p, err := definition.Parse(d)
	if err != nil {
		return lines(err)
	}
	if p.Function == nil || p.Function.Connector == "" {
		return nil
	}
	for _, o := range stored {
		if o.Kind == definition.KindConn && o.Name == p.Function.Connector {
			return nil // should it be wrong, its own status says so
		}
	}
	_, err = definition.NewSet([]definition.Document{d})
	return lines(err)
}
