package scheduler

import (
	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Event is what happened. The types below are all there are.
type Event interface {
	step(s *Scheduler)
}

// FlowSwitched says that a revision is the active one from now on. Ready names workers that acknowledged it; others follow
// as WorkerReady.
type FlowSwitched struct {
	Flow     string
	Revision int64
	Digest   batch.Digest // of the revision's documents
	Ready    []string
}

func (e FlowSwitched) revision() batch.Revision {
	return batch.Revision{Number: e.Revision, Digest: e.Digest}
}

// WorkerConnected says that a session began, with nothing held of earlier ones: what the worker had is given up, as with
// WorkerGone. It takes parts of at most so many rows and bytes; 0: of any size.
type WorkerConnected struct {
	Worker, Name        string
	PartRows, PartBytes int64
}

// WorkerResumed says that a session began that goes on where the one before stood; PartsReceived is the last part that the
// worker has.
type WorkerResumed struct {
	Worker        string
	PartsReceived uint64
}

// WorkerDisconnected says that a session ended and the worker is not given up yet.
type WorkerDisconnected struct{ Worker string }

// WorkerReady says that a worker acknowledged a flow's active revision; of any other it means nothing.
type WorkerReady struct {
	Worker, Flow string
	Revision     int64
	Digest       batch.Digest // of the revision's documents
}

func (e WorkerReady) revision() batch.Revision {
	return batch.Revision{Number: e.Revision, Digest: e.Digest}
}

// WorkerDraining says that a worker takes no more parts.
type WorkerDraining struct{ Worker string }

// WorkerGone says that a worker is given up. Died: its process is proven dead, and was not asked to end, which counts against
// what it may have run (poison.go).
type WorkerGone struct {
	Worker string
	Died   bool
}

// Credited says that a worker gave leave to send that much more. Credit ends with its session; parts that WorkerResumed sends
// again are taken from that of the new one.
type Credited struct {
	Worker, Flow string
	Rows, Bytes  int64
}

// Submitted brings a batch in.
type Submitted struct{ Batch *Batch }

// Cancelled says that nobody waits for a batch any more: what is not sent yet never is; its rows count as failed.
type Cancelled struct{ Batch *Batch }

// Answered says how rows of a part ended. Rows count within the part.
type Answered struct {
	Worker   string
	Part     uint64
	Finished []batch.Range
	NotDone  []batch.RowOutcome
	// Returned are rows that have not begun: of slots whose release was asked for, or all that a draining worker has. A worker
	// that runs newer rows of a key whose older ones it hands back breaks the key's order.
	Returned []batch.Range
	// Began are rows that are about to run, told of parts against which a death counts; Parked are those of them that run no
	// more, and have not ended.
	Began, Parked []batch.Range
	Last          bool
	// Result is handed through to the action Answer.
	Result any
}

// Tick lets time pass: deadlines are looked at here only.
type Tick struct{}

// Action is what is to be done. The types below are all there are.
type Action interface{ action() }

// Send asks to send a part to its worker. Parts of one worker are sent in the order of their actions.
type Send struct {
	Worker string
	Part   *Part
}

// Release asks a worker to hand back rows of these slots that have not begun. A resumed session is asked anew.
type Release struct {
	Worker, Flow string
	Slots        []batch.Range
}

// Answer passes a worker's result on to the batch's owner. Last: every row of the batch has its outcome now.
type Answer struct {
	Part   *Part
	Result any
	// Only, where not nil, tells for each row of the part whether the result counts for it: others run elsewhere by now.
	Only bitset.Set
	Last bool
}

// Fail gives rows an outcome that no worker gave.
type Fail struct {
	Batch *Batch
	Rows  []uint32
	// Outcome is batch.Failed, or batch.Dead for poison.
	Outcome batch.Outcome
	Code    batch.Code
	Last    bool
}

// Finish says that the batch needed no worker: all its rows had ended before.
type Finish struct{ Batch *Batch }

func (Send) action()    {}
func (Release) action() {}
func (Answer) action()  {}
func (Fail) action()    {}
func (Finish) action()  {}
