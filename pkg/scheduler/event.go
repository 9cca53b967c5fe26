package scheduler

import (
	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Event is something that happened, for Scheduler.Step. All events are types of this package, since the method step is not
// exported.
type Event interface {
	step(s *Scheduler)
}

// FlowSwitched says that a revision of the flow is the active one from now on. Ready names workers that have acknowledged the
// revision, which means that they can run it. Other workers follow as WorkerReady.
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

// WorkerConnected says that a new session with a worker began, which holds nothing of an earlier session. Rows that were sent
// to a worker of the same id before are treated as after WorkerGone.
type WorkerConnected struct {
	// Worker is the id, which a worker process draws anew when it starts. Name is the worker's name, which stays the same when
	// the process starts again.
	Worker, Name string
	// PartRows and PartBytes are the most rows and the most bytes that the worker takes in one part; 0 means any number.
	PartRows, PartBytes int64
	// Cordoned says that the worker begins as after WorkerCordoned.
	Cordoned bool
}

// WorkerResumed says that a session began which continues the one before: the worker still has all parts and rows of it.
// PartsReceived is the number of the last part that reached the worker. Parts with greater numbers are sent again.
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

// WorkerDraining says that a worker takes no more parts, because it is about to end. It answers or gives back the parts that
// it has.
type WorkerDraining struct{ Worker string }

// WorkerCordoned says that a worker may own no slots from now on (Cordoned is true), or that it may again. A worker that is
// cordoned gets no new rows: its slots go to others, and it gives back the rows of them that have not begun. It may be told so
// at any time, and stays known.
type WorkerCordoned struct {
	Worker   string
	Cordoned bool
}

// WorkerGone says that a worker is given up: the coordinator no longer waits for its answers, and other workers run its
// rows.
type WorkerGone struct {
	Worker string
	// Died says that the worker's process is proven to have died without having been asked to end. Only then the worker's end
	// counts against the rows that it may have been running: see poison.go.
	Died bool
}

// Credited says that a worker grants credit for a flow: Rows and Bytes are added to the rows and bytes that it may still be
// sent. Credit ends with the session in which it was granted. After WorkerResumed, parts that are sent again use up credit of
// the new session.
type Credited struct {
	Worker, Flow string
	Rows, Bytes  int64
}

// Submitted says that a client submitted a batch, whose rows are to be executed.
type Submitted struct{ Batch *Batch }

// Cancelled says that nobody waits for a batch any more. Its rows that were not sent are never sent, and all its rows without
// an outcome count as failed in the flow's ledger. No action follows for the batch.
type Cancelled struct{ Batch *Batch }

// Answered is a worker's report about rows of a part. All row numbers in it are places within the part.
type Answered struct {
	Worker string
	Part   uint64 // the part's number
	// Finished are rows that ended as Done.
	Finished []batch.Range
	// NotDone lists the rows that ended with another outcome than Done, each with its outcome.
	NotDone []batch.RowOutcome
	// Returned are rows that have not begun and that the worker gives back: rows of slots for which the action Release
	// asked, or all rows of a worker that drains. A worker must not give back an older row of a key and run a newer one:
	// that breaks the key's order.
	Returned []batch.Range
	// Began are rows that are about to run, and Parked are rows that stopped running and have not ended. Workers report these
	// only for a part that has deaths counted against it (Part.Deaths).
	Began, Parked []batch.Range
	// Last says that this is the last answer for the part: all its rows have ended or were given back. A row that no answer
	// named ended as Done.
	Last bool
	// Result is the caller's own data about these rows. The action Answer passes it on as it is.
	Result any
}

// Tick tells the scheduler that time has passed. Only after a Tick it looks for batches whose deadline passed, and for rows
// that waited longer than Config.HandOver or Config.NoWorker. So the owner passes a Tick to Step regularly.
type Tick struct{}

// Action is something that the owner of the Scheduler has to do after a Step. All actions are types of this package, since the
// method action is not exported.
type Action interface{ action() }

// Send asks the owner of the Scheduler to send a part to a worker. The parts of one worker must be sent in the order of their
// actions.
type Send struct {
	Worker string
	Part   *Part
}

// Release asks the owner of the Scheduler to ask a worker for rows back: all rows of these slots of the flow that have not
// begun. After a resumed session another Release repeats the request.
type Release struct {
	Worker, Flow string
	Slots        []batch.Range
}

// Answer passes on the Result of an Answered event, for the owner of the batch.
type Answer struct {
	Part   *Part
	Result any
	// Only is nil where the result counts for all rows that it names. Else it is the set of those rows of the part, by their
	// places in it, for which the result counts. The part's other rows do not count here: they were given to another worker,
	// or had ended before.
	Only bitset.Set
	// Last says that every row of the batch has its outcome now.
	Last bool
}

// Fail gives rows of a batch an outcome that no worker gave, for example because the batch's deadline passed.
type Fail struct {
	Batch *Batch
	// Rows are the places of the rows in the batch, ascending.
	Rows []uint32
	// Outcome is batch.Failed, or batch.Dead for rows with which too many workers died.
	Outcome batch.Outcome
	// Code says why.
	Code batch.Code
	// Last says that every row of the batch has its outcome now.
	Last bool
}

// Finish says that a batch needs no worker, since Batch.Ended lists all its rows. The batch is over.
type Finish struct{ Batch *Batch }

func (Send) action()    {}
func (Release) action() {}
func (Answer) action()  {}
func (Fail) action()    {}
func (Finish) action()  {}
