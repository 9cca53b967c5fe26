package admin

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Fleet is the workers and flows that the coordinator knows; the coordinator implements it. Its methods may be called from any goroutine. A
// bool result is false if ctx is done or the coordinator has ended.
type Fleet interface {
	// Workers returns the live workers that are registered in etcd, by id; nil if ctx is done or the coordinator has ended.
	Workers(ctx context.Context) map[string]cluster.Worker
	// Cordoned returns the workers that are cordoned, by name; nil if ctx is done or the coordinator has ended.
	Cordoned(ctx context.Context) map[string]cluster.Control
	// Coordinators returns the coordinators that are registered in etcd, by id.
	Coordinators() map[string]cluster.Coordinator
	// Unserved returns, for each of the named flows that no worker can run now, the reasons.
	Unserved(ctx context.Context, flows []string) (map[string][]string, bool)
	// Connectors returns the states of the connectors that the active revisions of the named flows need; if no flow is named, of all flows.
	Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool)
	// FollowedState returns the statuses of flows and documents as the coordinator follows them in etcd; nil until it has them.
	FollowedState() *cluster.State
}

// Rows gives access to the coordinator's scheduler and to the workers that it sends rows to; the coordinator implements it. Its methods may
// be called from any goroutine.
type Rows interface {
	// Done returns a channel that is closed when the scheduler has ended.
	Done() <-chan struct{}
	// Ledgers returns the counts of rows by flow; nil if ctx is done or the scheduler has ended.
	Ledgers(ctx context.Context) map[string]scheduler.Ledger
	// Find makes the scheduler search for the rows of a shard key, and blocks until s has the result. It fails if ctx is done or the
	// scheduler has ended before.
	Find(ctx context.Context, s *scheduler.Search) error
	// Inspect calls f with the scheduler in the scheduler's goroutine, waits until f has returned, and returns true. If it returns false,
	// because ctx is done or the scheduler has ended before, f may still run later.
	Inspect(ctx context.Context, f func(*scheduler.Scheduler)) bool
	// BatchID returns the id that the client gave a batch of the scheduler.
	BatchID(b *scheduler.Batch) batch.ID
	// Locate asks workers where their rows of a shard key are, and blocks until they have answered or have had enough time. It returns the
	// answers by worker, and a sentence for each worker that gave none.
	Locate(ctx context.Context, workers []string, question *pb.Locate) (answers map[string]*pb.Located, silent []string)
	// Tap asks each worker to copy rows as they pass, and hands them to the viewer. It blocks until ctx is done, the viewer returns an error,
	// or the scheduler has ended, and returns the viewer's error.
	Tap(ctx context.Context, question *pb.Tap, viewer TapViewer) error
}

// Budget is how many bytes clients may make the coordinator hold; the coordinator implements it. Its methods may be called from any
// goroutine.
type Budget interface {
	// ReserveCall takes the cost of a call out of the budget; rows is the number of the call's rows or documents, and bytes is their size
	// together. The caller must call release once. ok is false, and release nil, if the budget has no room.
	ReserveCall(rows, bytes int) (release func(), ok bool)
	// AwaitRows notes that a call waits until rows have ended. The caller calls done once when it does not wait any more.
	AwaitRows() (done func())
}

// LetterRunner runs the rows of dead letters again. The coordinator implements it, because rows run as batches of its scheduler. Any
// goroutine may use it.
type LetterRunner interface {
	// Prepare makes the batch that runs a letter's row again, on the flow's active revision, as an Attempt; nothing runs yet. The error
	// says why the letter can't be run.
	Prepare(l *deadletter.Letter) (*Attempt, error)
	// Begin returns an empty set of attempts for one redrive. If results is true, the attempts keep the rows that the flow passes on. The
	// caller must call Close.
	Begin(results bool) Attempts
}

// Attempts are the attempts that one redrive has under way. Only one goroutine may use it.
type Attempts interface {
	// Start hands the batch of an attempt to the scheduler. It blocks while the scheduler's queue is full, and fails if ctx is done or the
	// coordinator has ended before.
	Start(ctx context.Context, a *Attempt) error
	// Ready returns a channel that holds a token while Ended may have attempts to return.
	Ready() <-chan struct{}
	// Ended returns the attempts whose rows have ended since the last call.
	Ended() []*Attempt
	// Finish drops an attempt that Ended has returned, and counts in a metric how it ended. The attempt's results must not be used
	// afterwards.
	Finish(a *Attempt)
	// Close cancels the attempts that are still under way.
	Close()
}

// Attempt is a dead letter whose row runs again, as a batch of that one row.
type Attempt struct {
	Letter   *deadletter.Letter
	Batch    batch.ID // its stream is the letter's id, so that a redrive which begins again sends the same batch
	Revision int64    // number of the revision on which the row runs
	Keyed    bool     // the row has a shard key
	Key      uint64   // the hash of the shard key

	// The fields below say how the row ended.
	Outcome  batch.Outcome
	Code     batch.Code
	Reason   string
	Function string        // function in which the row died or failed; empty if it was in none
	Dead     []DiedAgain   // the rows that died: this one, or rows that functions made of it
	NotKept  batch.NotKept // why a dead row is not in Dead; 0 means that all are
	Results  []*pb.Columns // the rows that the flow passed on, in pieces; nil where the caller did not ask for them

	Owner any // the coordinator's own data about the batch, for the implementation of LetterRunner
}

// DiedAgain is a row that died in a redrive, and the dead letter that is made of it.
type DiedAgain struct {
	batch.DeadRow
	Letter *deadletter.Letter
}
