package flowexec

// Rows wait in two ways: rows with keys park, and runs without keys rest.
//
//   - A row with a key is copied out of its part and set aside (parkedRows), and with it later rows of its key; rows of other keys go on.
//   - A run without keys may be inside a function that sees all of its rows at once, so it can't be taken apart. It keeps its goroutine,
//     with all that it has done so far, and another goroutine takes over the lane (restingRun).
//
// One way for both would cost more: a goroutine for each row that waits, or a copy of each run's state. Decision record 0012 says so at
// length. Both ways have the same meaning, and the rest of the lane sees them through the two interfaces below.

// waitingRows are the rows that a lane has set aside in one of the two ways: it is implemented by *parkedRows and *restingRuns. The
// methods are called with lane.mu held.
type waitingRows interface {
	// release takes out the rows that a Release asks for, for the caller to give back. Resting runs are told to give back their rows
	// themselves, and are not among the result.
	release(c releaseRequest) []*group
	// isEmpty reports whether nothing is set aside.
	isEmpty() bool
}

// waiter waits for something: it is a *group of parked rows, or a *restingRun. Its methods do not block.
type waiter interface {
	// happened tells the waiter that its wait is over: its key was saved, or its connector has answered. A resting run that waits for
	// several keys is told of each.
	happened()
	// connectorSaved tells the waiter, which knows no key, that something was saved through its connector: it may look again.
	connectorSaved()
}
