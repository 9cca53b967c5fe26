package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// The states of a flow, or of a document that flows need.
const (
	StateActive   = "active"   // wanted is what runs
	StateApplying = "applying" // workers are being asked to take what is wanted
	StatePending  = "pending"  // what is wanted waits for a worker that has its functions
	StateRejected = "rejected" // what is wanted can't run, for the reasons given
	StateDisabled = "disabled" // the flow is switched off
	StateUnused   = "unused"   // no flow needs the document
)

// FlowStatus is what the leader says of a flow.
type FlowStatus struct {
	Flow string `json:"flow"`
	// Wanted is the revision that the documents ask for, Active the one that runs, everywhere; 0 for none.
	Wanted int64 `json:"wanted"`
	Active int64 `json:"active"`
	// State is one of the State constants.
	State string `json:"state"`
	// Applied of Of live capable workers have acknowledged Wanted.
	Applied int `json:"applied"`
	Of      int `json:"of"`
	// Workers are those that rejected Wanted, lag, or can't run it because their build's functions are others.
	Workers []WorkerVerdict `json:"workers,omitempty"`
	// Reasons say why Wanted is not Active, each a line for an operator.
	Reasons []string  `json:"reasons,omitempty"`
	Updated time.Time `json:"updated"`
}

// WorkerVerdict is what one worker says of a wanted revision.
type WorkerVerdict struct {
	ID string `json:"id"`
	// State is "rejected", "lagging" or "unfit": the build has the functions, but with other modes or row types. Workers that are
	// unfit keep nobody waiting; the flow runs on the others.
	State   string   `json:"state"`
	Reasons []string `json:"reasons,omitempty"`
}

// HistoryEntry is a revision of a flow that was accepted, whole.
type HistoryEntry struct {
	Flow     string
	Revision int64
	// Documents are the flow's own and those it needs, as they were.
	Documents []definition.Document
	// Accepted is when the leader switched to it, by the leader's clock.
	Accepted time.Time
	ShardKey string
	Enabled  bool
}

// ActiveFlow is a flow's status together with the revision that it says is active.
type ActiveFlow struct {
	Status FlowStatus
	// Active is the entry of Status.Active; nil while that is 0, and when somebody removed or damaged the entry by hand.
	Active *HistoryEntry
}

// FollowFlows calls f with all flows that have a status, sorted by name: once when they are read, then after each change. A
// status never comes without the entry it was written with, since one watch shows both. It blocks, leaves out intermediate
// states and ends as FollowWorkers does.
func (s *Store) FollowFlows(ctx context.Context, f func([]ActiveFlow)) error {
	return follow(ctx, s, s.keys.flows(), s.readFlowRecord, func(_ int64, records []flowRecord) { f(join(records)) })
}

// Flows reads all flows that have a status as they stand, sorted by name.
func (s *Store) Flows(ctx context.Context) ([]ActiveFlow, error) {
	kvs, _, err := s.list(ctx, s.keys.flows())
	if err != nil {
		return nil, err
	}
	return join(readable(s, kvs, s.readFlowRecord)), nil
}

// Status reads what the leader says of a flow, as it stands when etcd answers; nil where the flow has no status.
func (s *Store) Status(ctx context.Context, flow string) (*FlowStatus, error) {
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.status(flow)})
	if err != nil || len(kvs) == 0 {
		return nil, err
	}
	return decodeStatus(flow, kvs[0].Value)
}

// History reads the revisions of a flow that are kept, oldest first.
func (s *Store) History(ctx context.Context, flow string) ([]HistoryEntry, error) {
	kvs, _, err := s.list(ctx, s.keys.history(flow))
	if err != nil {
		return nil, err
	}
	var history []HistoryEntry
	for _, record := range readable(s, kvs, s.readFlowRecord) {
		if record.entry != nil {
			history = append(history, *record.entry)
		}
	}
	slices.SortFunc(history, func(a, b HistoryEntry) int { return cmp.Compare(a.Revision, b.Revision) })
	return history, nil
}

// revisions reads which revisions of a flow are kept, oldest first.
func (s *Store) revisions(ctx context.Context, flow string) ([]int64, error) {
	kvs, _, err := s.list(ctx, s.keys.history(flow), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var revisions []int64
	for _, kv := range kvs {
		if _, revision, ok := s.keys.readRevision(string(kv.Key)); ok {
			revisions = append(revisions, revision)
		}
	}
	slices.Sort(revisions)
	return revisions, nil
}

// Revision reads one revision of a flow. CodeRevisionGone: it is not kept any more, or never was.
func (s *Store) Revision(ctx context.Context, flow string, revision int64) (*HistoryEntry, error) {
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.revision(flow, revision)})
	if err != nil {
		return nil, err
	}
	if len(kvs) == 0 {
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %q is not kept: submit the rows as a new batch", revision, flow)
	}
	record, err := s.readFlowRecord(kvs[0])
	if err != nil {
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %q: %w: submit the rows as a new batch", revision, flow, err)
	}
	return record.entry, nil
}

// flowRecord is what stands at one key of keys.flows: a status, an entry, or neither.
type flowRecord struct {
	status *FlowStatus
	entry  *HistoryEntry
}

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
	return flowRecord{}, nil
}

// join pairs each status with the entry that it names.
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
