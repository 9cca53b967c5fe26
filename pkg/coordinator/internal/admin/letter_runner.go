package admin

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

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

	// What became of the row, once it has ended.
	Outcome  batch.Outcome
	Code     batch.Code
	Reason   string
	Function string        // in which the row died or failed
	Dead     []DiedAgain   // the rows that died: this one, or rows that functions made of it
	NotKept  batch.NotKept // why a dead row could not be described in full; 0 means that it could
	Results  []*pb.Columns // what the flow passed on, in pieces; nil where nobody asked for it

	Owner any // the coordinator's own record of the batch
}

// DiedAgain is a row that died in a redrive, and the letter that it makes.
type DiedAgain struct {
	batch.DeadRow
	Letter *deadletter.Letter
}
