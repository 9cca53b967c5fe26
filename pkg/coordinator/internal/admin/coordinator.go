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

// Fleet is the workers and flows that the coordinator knows. Its methods may be called from any goroutine. Those that return a bool return
// false when ctx is done or the coordinator has ended.
type Fleet interface {
	// Workers returns the live workers that are registered in etcd, by id.
	Workers(ctx context.Context) map[string]cluster.Worker
	// Coordinators returns the coordinators that are registered in etcd, by id.
	Coordinators() map[string]cluster.Coordinator
	// Unserved returns, of the flows named, those that no worker can run now, with the reasons.
	Unserved(ctx context.Context, flows []string) (map[string][]string, bool)
	// Connectors returns the states of the connectors that active flows need; of all flows where none is named.
	Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool)
	// FollowedState returns the flows' statuses as the coordinator follows them in etcd; nil until they are listed.
	FollowedState() *cluster.State
}

// Rows is the coordinator's scheduler, and the workers that it sends rows to. Its methods may be called from any goroutine.
type Rows interface {
	// Done is closed when the scheduler has ended.
	Done() <-chan struct{}
	// Ledgers returns the counts of rows by flow; nil when ctx is done or the scheduler has ended.
	Ledgers(ctx context.Context) map[string]scheduler.Ledger
	// Find has the scheduler make a search, and blocks until it is done.
	Find(ctx context.Context, s *scheduler.Search) error
	// Inspect runs f in the scheduler's goroutine and waits for it. When it returns false, because ctx is done or the scheduler has
	// ended, f may still run.
	Inspect(ctx context.Context, f func(*scheduler.Scheduler)) bool
	// BatchID returns the id of a batch that the scheduler knows.
	BatchID(b *scheduler.Batch) batch.ID
	// Locate asks workers where their rows of a shard key are, and blocks until they have answered or have had enough time. It returns the
	// answers by worker, and a sentence for each worker that gave none.
	Locate(ctx context.Context, workers []string, question *pb.Locate) (answers map[string]*pb.Located, silent []string)
}

// Budget is how many bytes clients may make the coordinator hold. Its methods may be called from any goroutine.
type Budget interface {
	// ReserveCall takes bytes out of the budget for a call with so many rows or documents, of so many bytes together. It returns false
	// where the budget has no room. The caller calls release once.
	ReserveCall(rows, bytes int) (release func(), ok bool)
	// AwaitRows notes that a call waits for rows to end, until done is called.
	AwaitRows() (done func())
}

// LetterRunner runs the rows of dead letters again. The coordinator implements it, because rows run as batches of its scheduler. Any
// goroutine may use it.
type LetterRunner interface {
	// Prepare makes a letter's batch on the revision that is active now; nothing runs yet. The error says why the letter can't be run.
	Prepare(l *deadletter.Letter) (*Attempt, error)
	// Begin returns an empty set of attempts. With results, the set keeps the rows that the flow passes on. The caller calls Close.
	Begin(results bool) Attempts
}

// Attempts are the letters that one redrive has under way. One goroutine uses them.
type Attempts interface {
	// Start hands an attempt to the scheduler. It blocks while the scheduler is behind, and fails when the coordinator has ended.
	Start(ctx context.Context, a *Attempt) error
	// Ready holds a token while Ended may have something to return.
	Ready() <-chan struct{}
	// Ended returns the attempts whose rows have ended since the last call.
	Ended() []*Attempt
	// Finish drops an attempt that Ended returned and counts how it ended. Its results must not be used afterwards.
	Finish(a *Attempt)
	// Close has the coordinator cancel the attempts that are still under way.
	Close()
}

// Attempt is a dead letter whose row runs again, as a batch of that one row.
type Attempt struct {
	Letter   *deadletter.Letter
	Batch    batch.ID // its stream is the letter's id, so that a redrive which begins again sends the same batch
	Revision int64    // on which the row runs
	Keyed    bool     // the row has a shard key
	Key      uint64   // the hash of the shard key

	// The fields below say how the row ended.
	Outcome  batch.Outcome
	Code     batch.Code
	Reason   string
	Function string        // in which the row died or failed
	Dead     []DiedAgain   // the rows that died: this one, or rows that functions made of it
	NotKept  batch.NotKept // why a dead row could not be described in full; 0 means that it could
	Results  []*pb.Columns // the rows that the flow passed on, in pieces; nil where the caller did not ask for them

	Owner any // the coordinator's own record of the batch
}

// DiedAgain is a row that died in a redrive, and the letter that it makes.
type DiedAgain struct {
	batch.DeadRow
	Letter *deadletter.Letter
}
