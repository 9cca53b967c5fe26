package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// The states of a flow, or of the document of a function or connector.
const (
	StateActive   = "active"   // the wanted revision runs
	StateApplying = "applying" // workers are asked to take the wanted revision
	StatePending  = "pending"  // the wanted revision waits for a worker that has its functions
	StateRejected = "rejected" // the wanted revision can't run, for the reasons given
	StateDisabled = "disabled" // the flow is switched off
	StateUnused   = "unused"   // no flow needs the document
)

// States that a coordinator reports from its own view; they are not written to etcd.
const (
	StateUnserved = "unserved" // the flow is active, and no worker can run it now
	StateDegraded = "degraded" // the flow is active, and some worker can't use one of its connectors
	StatePaused   = "paused"   // the flow is active, and takes no new batches because somebody has paused it
)

// FlowStatus is the leader's report on a flow.
type FlowStatus struct {
	Flow string `json:"flow"`
	// Wanted is the revision that the documents ask for, Active the revision that new batches run on; 0 means none. The digests are those
	// of the revisions' documents. They are zero in records of leaders of earlier builds.
	Wanted       int64        `json:"wanted"`
	Active       int64        `json:"active"`
	WantedDigest batch.Digest `json:"wanted_digest,omitzero"`
	ActiveDigest batch.Digest `json:"active_digest,omitzero"`
	// State is one of the State constants.
	State string `json:"state"`
	// Applied is the number of workers that have acknowledged Wanted, Of the number of living workers that can run it.
	Applied int `json:"applied"`
	Of      int `json:"of"`
	// Workers are the workers that rejected Wanted, have not acknowledged it yet, or can't run it because the functions in their build
	// differ.
	Workers []WorkerVerdict `json:"workers,omitempty"`
	// Reasons say why Wanted is not Active, in one line each for an operator.
	Reasons []string  `json:"reasons,omitempty"`
	Updated time.Time `json:"updated"`
}

// WantedRevision returns Wanted with its digest.
func (s FlowStatus) WantedRevision() batch.Revision {
	return batch.Revision{Number: s.Wanted, Digest: s.WantedDigest}
}

// ActiveRevision returns Active with its digest.
func (s FlowStatus) ActiveRevision() batch.Revision {
	return batch.Revision{Number: s.Active, Digest: s.ActiveDigest}
}

// WorkerVerdict is the answer of one worker to a wanted revision.
type WorkerVerdict struct {
	ID string `json:"id"`
	// State is "rejected", "lagging" (no answer yet) or "unfit": the build has the functions, but with other modes or row types. A worker
	// that is unfit does not hold up a rollout: the flow runs on the others.
	State   string   `json:"state"`
	Reasons []string `json:"reasons,omitempty"`
}

// HistoryEntry is one accepted revision of a flow, with all its documents.
type HistoryEntry struct {
	Flow     string
	Revision int64
	// Documents are the flow's own document and those that it needs, as they were.
	Documents []definition.Document
	// Accepted is when the leader switched the flow to it, by the leader's clock.
	Accepted time.Time
	ShardKey string
	Enabled  bool
	// Author names the authors of the documents that the revision changed, as the audit log said when the revision was accepted: oldest
	// change first, each once, with "; " between them. UnknownAuthor stands for one that the log did not know. Author is empty if the changes
	// were older than the log, or the entry is of a leader of an earlier build.
	Author string
	// Digest is the digest of Documents. An entry that was read has it; in an entry to be written it is ignored.
	Digest batch.Digest
}

// Name returns the entry's revision with its digest.
func (e *HistoryEntry) Name() batch.Revision {
	return batch.Revision{Number: e.Revision, Digest: e.Digest}
}

// Status reads the status of a flow. It returns nil and no error if the flow has no status.
func (s *Store) Status(ctx context.Context, flow string) (*FlowStatus, error) {
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.status(flow)})
	if err != nil || len(kvs) == 0 {
		return nil, err
	}
	return decodeStatus(flow, kvs[0].Value)
}

// FlowRevision names a revision of a flow, which may be in its history.
type FlowRevision struct {
	Flow     string
	Revision int64
}

// ReadStatuses reads the statuses of flows, and which of the revisions are in the history: kept is true for those. A flow without a
// readable status is missing in statuses. One request reads at most Config.MaxOperations flows and revisions, and at most 128; for more it
// makes several requests.
func (s *Store) ReadStatuses(ctx context.Context, flows []string, revisions []FlowRevision) (statuses map[string]FlowStatus, kept map[FlowRevision]bool, err error) {
	var gets []clientv3.Op
	for _, flow := range flows {
		gets = append(gets, clientv3.OpGet(s.keys.status(flow)))
	}
	for _, r := range revisions {
		gets = append(gets, clientv3.OpGet(s.keys.revision(r.Flow, r.Revision), clientv3.WithKeysOnly()))
	}
	var responses []*etcdserverpb.ResponseOp
	for some := range slices.Chunk(gets, s.ownOps()) {
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
				s.unreadable.report(kvs[0], err)
				continue
			}
			statuses[flows[i]] = *status
		}
	}
	return statuses, kept, nil
}

// History reads the revisions of a flow that are kept, oldest first. Entries that can't be read are logged and left out.
func (s *Store) History(ctx context.Context, flow string) ([]HistoryEntry, error) {
	kvs, _, err := s.list(ctx, s.keys.history(flow))
	if err != nil {
		return nil, err
	}
	var history []HistoryEntry
	for _, record := range decodeAll(s, kvs, s.readFlowRecord) {
		if record.entry != nil {
			history = append(history, *record.entry)
		}
	}
	slices.SortFunc(history, func(a, b HistoryEntry) int { return cmp.Compare(a.Revision, b.Revision) })
	return history, nil
}

// revisions reads the numbers of the revisions of a flow that are kept, oldest first.
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

// Revision reads one revision of a flow. CodeRevisionGone means that the revision is not kept any more, was never accepted, or can't be
// read.
func (s *Store) Revision(ctx context.Context, flow string, revision int64) (*HistoryEntry, error) {
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.revision(flow, revision)})
	if err != nil {
		return nil, err
	}
	if len(kvs) == 0 {
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %q is not kept: check which effects of the batch took place, and submit only the missing rows, in a new batch", revision, flow)
	}
	record, err := s.readFlowRecord(kvs[0])
	if err != nil {
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %q: %w: check which effects of the batch took place, and submit only the missing rows, in a new batch", revision, flow, err)
	}
	return record.entry, nil
}
