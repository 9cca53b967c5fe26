package cluster

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// ActiveFlow is a flow's status, with the history entry of its active revision.
type ActiveFlow struct {
	Status FlowStatus
	// Active is the entry of Status.Active. It is nil while that is 0, and after somebody removed or damaged the entry by hand.
	Active *HistoryEntry
}

// State is everything that leaders have written, as it stood at one moment. It must not be changed.
type State struct {
	// Flows are all flows that have a status, sorted by name.
	Flows []ActiveFlow

	records []flowRecord // all of them, sorted by key
}

// Mark stands for one version of a flow's status and active entry. It can be compared with ==. If two States that one call of FollowState
// has shown have equal marks for a flow, that flow has not changed. Different marks do not prove a change.
type Mark struct {
	status *FlowStatus
	active *HistoryEntry
}

// Marks returns one Mark for each flow in State.Flows, in the same order.
func (s State) Marks() []Mark {
	marks := make([]Mark, 0, len(s.Flows))
	for _, r := range s.records { // sorted as Flows are
		if r.status != nil {
			marks = append(marks, Mark{r.status, s.Flows[len(marks)].Active})
		}
	}
	return marks
}

// Documents returns the statuses of functions and connectors, by their documents' keys.
func (s State) Documents() map[Key]DocumentStatus {
	all := map[Key]DocumentStatus{}
	for _, r := range s.records {
		if r.document != nil {
			all[r.document.Key()] = *r.document
		}
	}
	return all
}

// Histories returns the number of revisions that are kept, by flow, also for flows that have no status.
func (s State) Histories() map[string]int {
	all := map[string]int{}
	for _, r := range s.records {
		if r.entry != nil {
			all[r.entry.Flow]++
		}
	}
	return all
}

// FollowState calls f with everything that leaders have written: when it has read that, and after each change. A status never comes without
// the entry that was written with it, because one watch shows both. Changes that come while f runs are shown together in the next call.
// FollowState blocks, also while etcd is out of reach, until the context ends or the Store is closed, and returns why.
func (s *Store) FollowState(ctx context.Context, f func(State)) error {
	return follow(ctx, s, s.keys.flows(), s.readFlowRecord, func(_ int64, records []flowRecord) { f(State{join(records), records}) })
}

// State reads everything that leaders have written.
func (s *Store) State(ctx context.Context) (State, error) {
	kvs, _, err := s.list(ctx, s.keys.flows())
	if err != nil {
		return State{}, err
	}
	records := decodeAll(s, kvs, s.readFlowRecord)
	return State{join(records), records}, nil
}

// FollowFlows calls f with all flows that have a status, sorted by name: with State.Flows. It calls, blocks and ends as FollowState does.
func (s *Store) FollowFlows(ctx context.Context, f func([]ActiveFlow)) error {
	return s.FollowState(ctx, func(state State) { f(state.Flows) })
}

// flowRecord is the value of one key in the range that keys.flows names. One of its fields is set: that of a flow's status, of a history
// entry, or of a document's status. All are nil for any other key in the range.
type flowRecord struct {
	status   *FlowStatus
	entry    *HistoryEntry
	document *DocumentStatus
}

// readFlowRecord decodes the value of one key in the range that keys.flows names.
func (s *Store) readFlowRecord(kv *mvccpb.KeyValue) (flowRecord, error) {
	key := string(kv.Key)
	if flow, ok := s.keys.readStatus(key); ok {
		status, err := decodeStatus(flow, kv.Value)
		return flowRecord{status: status}, err
	}
	if flow, revision, ok := s.keys.readRevision(key); ok {
		entry, err := decodeEntry(flow, revision, kv.Value)
		return flowRecord{entry: entry}, err
	}
	if d, ok := s.keys.readDocumentStatus(key); ok {
		status, err := decodeDocumentStatus(d, kv.Value)
		return flowRecord{document: status}, err
	}
	return flowRecord{}, nil
}

// join pairs each status with the history entry of its active revision, in the order of records. The entry is nil if it is not among
// records.
func join(records []flowRecord) []ActiveFlow {
	type id struct {
		flow     string
		revision int64
	}
	entries := map[id]*HistoryEntry{}
	var flows []ActiveFlow
	for _, r := range records {
		if r.entry != nil {
			entries[id{r.entry.Flow, r.entry.Revision}] = r.entry
		}
		if r.status != nil {
			flows = append(flows, ActiveFlow{Status: *r.status})
		}
	}
	for i, f := range flows {
		flows[i].Active = entries[id{f.Status.Flow, f.Status.Active}]
	}
	return flows
}
