package scheduler

import (
	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Event is something that happened, for Scheduler.Step. The types of this package that have a method step are all events
// there are.
type Event interface {
	step(s *Scheduler)
}

// FlowSwitched says that a revision of the flow is the active one from now on: new batches run on it. Ready names workers
// that have acknowledged the revision, which means that they can run it. Other workers follow as WorkerReady.
type FlowSwitched struct {
	Flow     string
	Revision int64
	Digest   batch.Digest // of the revision's documents
	Ready    []string
}

// revision returns the revision that becomes active.
func (e FlowSwitched) revision() batch.Revision {
	return batch.Revision{Number: e.Revision, Digest: e.Digest}
}

// WorkerConnected says that a new session with a worker began, which holds nothing of an earlier session. Rows that the
// worker was sent before are treated as after WorkerGone.
type WorkerConnected struct {
	// Worker is the id, which a worker draws each time that it starts. Name stays the same.
	Worker, Name string
	// PartRows and PartBytes are the most that the worker takes in one part; 0 means any number.
	PartRows, PartBytes int64
}

// WorkerResumed says that a session began which continues the one before: the worker still has all parts and rows of it.
// PartsReceived is the number of the last part that reached the worker. Later parts are sent again.
type WorkerResumed struct {
	Worker        string
	PartsReceived uint64
}

// WorkerDisconnected says that a session ended. The worker may come back and resume it, so it keeps its rows and slots.
type WorkerDisconnected struct{ Worker string }

// WorkerReady says that a worker acknowledged a revision of a flow, so it can run it. The event is ignored where the
// revision is not the active one.
type WorkerReady struct {
	Worker, Flow string
	Revision     int64
	Digest       batch.Digest // of the revision's documents
}

// revision returns the revision that the worker acknowledged.
func (e WorkerReady) revision() batch.Revision {
	return batch.Revision{Number: e.Revision, Digest: e.Digest}
}

// WorkerDraining says that a worker takes no more parts, because it is about to end.
type WorkerDraining struct{ Worker string }

// WorkerGone says that a worker is given up: the coordinator no longer waits for its answers, and other workers run its
// rows.
type WorkerGone struct {
	Worker string
	// Died says that the worker's process is proven to have died without having been asked to end. Only this counts against
	// rows that it may have been running: see poison.go.
	Died bool
}

// Credited says that a worker grants credit: it can be sent so many more rows and bytes of the flow. Credit ends with the
// session in which it was granted. After WorkerResumed, parts that are sent again use up credit of the new session.
type Credited struct {
	Worker, Flow string
	Rows, Bytes  int64
}

// Submitted says that a client submitted a batch, whose rows are to be executed.
type Submitted struct{ Batch *Batch }

// Cancelled says that nobody waits for a batch any more. Rows of it that were not sent are never sent, and all its rows
// without an outcome count as failed.
type Cancelled struct{ Batch *Batch }

// Answered says how rows of a part ended. Row numbers in it are places within the part.
type Answered struct {
	Worker string
	Part   uint64 // the part's number
	// Finished are rows that ended as Done.
	Finished []batch.Range
	// NotDone are rows that ended otherwise, and how.
	NotDone []batch.RowOutcome
	// Returned are rows that have not begun and that the worker gives back: rows of slots for which the action Release
	// asked, or all rows of a worker that drains. A worker must not give back an older row of a key and run a newer one:
	// that breaks the key's order.
	Returned []batch.Range
	// Began are rows that are about to run. Workers tell this only of parts that have deaths counted against them. Parked
	// are rows among them that stopped running and have not ended.
	Began, Parked []batch.Range
	// Last says that all rows of the part which are not named in Returned have ended now. Rows that were never named are
	// Done.
	Last bool
	// Result is passed on in the action Answer as it is.
	Result any
}

// Tick lets time pass. Deadlines and other limits of time are looked at in this event only, so the owner sends it
// regularly.
type Tick struct{}

// Action is something that the owner of the Scheduler has to do. The types of this package that have a method action are
// all actions there are.
type Action interface{ action() }

// Send asks to send a part to its worker. The parts of one worker must be sent in the order of their actions.
type Send struct {
	Worker string
	Part   *Part
}

// Release asks a worker to give back its rows of these slots that have not begun. After a resumed session the request is
// made again.
type Release struct {
	Worker, Flow string
	Slots        []batch.Range
}

// Answer passes a worker's result on to the owner of the batch.
type Answer struct {
	Part   *Part
	Result any
	// Only is nil where the result counts for all rows that it names. Else it is the set of those rows of the part, by
	// their places in it, for which the result counts. The other rows run elsewhere by now.
	Only bitset.Set
	// Last says that every row of the batch has its outcome now.
	Last bool
}

// Fail gives rows of a batch an outcome that no worker gave, for example because the batch's deadline passed.
type Fail struct {
	Batch *Batch
	// Rows are places in the batch, ascending.
	Rows []uint32
	// Outcome is batch.Failed, or batch.Dead for rows that killed their workers.
	Outcome batch.Outcome
	// Code says why.
	Code batch.Code
	// Last says that every row of the batch has its outcome now.
	Last bool
}

// Finish says that a batch needs no worker, since all its rows had ended before they were submitted here.
type Finish struct{ Batch *Batch }

func (Send) action()    {}
func (Release) action() {}
func (Answer) action()  {}
func (Fail) action()    {}
func (Finish) action()  {}
