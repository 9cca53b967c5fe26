package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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

// States that a coordinator tells of what it sees now; they don't stand in etcd.
const (
	StateUnserved = "unserved" // the flow is active, and no worker can run it
	StateDegraded = "degraded" // it is active, and a connector of it is of no use to some worker
)

// FlowStatus is what the leader says of a flow.
type FlowStatus struct {
	Flow string `json:"flow"`
	// Wanted is the revision that the documents ask for, Active the one that runs, everywhere; 0 for none. The digests are those
	// of their documents; they are zero in what a leader of an earlier build wrote.
	Wanted       int64        `json:"wanted"`
	Active       int64        `json:"active"`
	WantedDigest batch.Digest `json:"wanted_digest,omitzero"`
	ActiveDigest batch.Digest `json:"active_digest,omitzero"`
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

// WantedRevision is Wanted with its digest.
func (s FlowStatus) WantedRevision() batch.Revision {
	return batch.Revision{Number: s.Wanted, Digest: s.WantedDigest}
}

// ActiveRevision is Active with its digest.
func (s FlowStatus) ActiveRevision() batch.Revision {
	return batch.Revision{Number: s.Active, Digest: s.ActiveDigest}
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
	// Digest is that of Documents. Whoever reads an entry gets it; in one to be written it does not count.
	Digest batch.Digest
}

// Name is the entry's revision with its digest.
func (e *HistoryEntry) Name() batch.Revision {
	return batch.Revision{Number: e.Revision, Digest: e.Digest}
}

// ActiveFlow is a flow's status together with the revision that it says is active.
type ActiveFlow struct {
	Status FlowStatus
	// Active is the entry of Status.Active; nil while that is 0, and when somebody removed or damaged the entry by hand.
	Active *HistoryEntry
}

// State is what leaders have written, as it stood at one moment. It must not be changed.
type State struct {
	// Flows are all flows that have a status, sorted by name.
	Flows []ActiveFlow

	records []flowRecord
}

// Mark stands for what was read of a flow. Of two States that one FollowState has shown, a flow with the same mark is the same;
// another one says nothing.
type Mark struct {
	status *FlowStatus
	active *HistoryEntry
}

// Marks are those of Flows, in their order.
func (s State) Marks() []Mark {
	marks := make([]Mark, 0, len(s.Flows))
	for _, r := range s.records { // sorted as Flows are
		if r.status != nil {
			marks = append(marks, Mark{r.status, s.Flows[len(marks)].Active})
		}
	}
	return marks
}

// Documents are the statuses of functions and connectors.
func (s State) Documents() map[Key]DocumentStatus {
	all := map[Key]DocumentStatus{}
	for _, r := range s.records {
		if r.document != nil {
			all[r.document.Key()] = *r.document
		}
	}
	return all
}

// Histories count the revisions that are kept, by flow; also those of flows that have no status.
func (s State) Histories() map[string]int {
	all := map[string]int{}
	for _, r := range s.records {
		if r.entry != nil {
			all[r.entry.Flow]++
		}
	}
	return all
}

// FollowState calls f with what leaders have written: once when it is read, then after each change. A status never comes
// without the entry it was written with, since one watch shows both. It blocks, leaves out intermediate states and ends as
// FollowWorkers does.
func (s *Store) FollowState(ctx context.Context, f func(State)) error {
	return follow(ctx, s, s.keys.flows(), s.readFlowRecord, func(_ int64, records []flowRecord) { f(State{join(records), records}) })
}

// State reads what leaders have written, as it stands when etcd answers.
func (s *Store) State(ctx context.Context) (State, error) {
	kvs, _, err := s.list(ctx, s.keys.flows())
	if err != nil {
		return State{}, err
	}
	records := readable(s, kvs, s.readFlowRecord)
	return State{join(records), records}, nil
}

// FollowFlows is FollowState for those who want to know of flows only.
func (s *Store) FollowFlows(ctx context.Context, f func([]ActiveFlow)) error {
	return s.FollowState(ctx, func(state State) { f(state.Flows) })
}

// Status reads what the leader says of a flow, as it stands when etcd answers; nil where the flow has no status.
func (s *Store) Status(ctx context.Context, flow string) (*FlowStatus, error) {
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.status(flow)})
	if err != nil || len(kvs) == 0 {
		return nil, err
	}
	return decodeStatus(flow, kvs[0].Value)
}

// FlowRevision names a revision that may be in the history.
type FlowRevision struct {
	Flow     string
	Revision int64
}

// ReadStatuses reads, in one request, what the leader says of flows, and which of the revisions are kept, as it stands when etcd
// answers. A flow without a status, or with one that can't be read, is not among the statuses. Where there are more flows and
// revisions than one request takes (Config.MaxOperations, 128 at the most) it makes several.
func (s *Store) ReadStatuses(ctx context.Context, flows []string, revisions []FlowRevision) (statuses map[string]FlowStatus, kept map[FlowRevision]bool, err error) {
	var gets []clientv3.Op
	for _, flow := range flows {
		gets = append(gets, clientv3.OpGet(s.keys.status(flow)))
	}
	for _, r := range revisions {
		gets = append(gets, clientv3.OpGet(s.keys.revision(r.Flow, r.Revision), clientv3.WithKeysOnly()))
	}
	var responses []*etcdserverpb.ResponseOp
	for some := range slices.Chunk(gets, s.ownMost()) {
		call, cancel := context.WithTimeout(ctx, s.timeout)
		answer, err := s.client.Txn(call).Then(some...).Commit()
		cancel()
		if err != nil {
			return nil, nil, s.explain(ctx, "reading the status of flows", err)
		}
		responses = append(responses, answer.Responses...)
	}
	statuses, kept = map[string]FlowStatus{}, map[FlowRevision]bool{}
	for i, response := range responses {
		kvs := response.GetResponseRange().Kvs
		switch {
		case len(kvs) == 0:
		case i >= len(flows):
			kept[revisions[i-len(flows)]] = true
		default:
			status, err := decodeStatus(flows[i], kvs[0].Value)
			if err != nil {
				s.skipped.tell(kvs[0], err)
				continue
			}
			statuses[flows[i]] = *status
		}
	}
	return statuses, kept, nil
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
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %q is not kept: see what of the batch took place, and submit only what is missing", revision, flow)
	}
	record, err := s.readFlowRecord(kvs[0])
	if err != nil {
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %q: %w: see what of the batch took place, and submit only what is missing", revision, flow, err)
	}
	return record.entry, nil
}

// flowRecord is what stands at one key of keys.flows: a flow's status, an entry, a document's status, or none of them.
type flowRecord struct {
	status   *FlowStatus
	entry    *HistoryEntry
	document *DocumentStatus
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
	if d, ok := s.keys.readDocumentStatus(key); ok {
		status, err := decodeDocumentStatus(d, kv.Value)
		return flowRecord{document: status}, err
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
