package flowexec

// isDone reports whether the call to the connector has ended, with or without an error.
func (a *ask) isDone() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// tell ends the waits of the parked groups that wait for the call. It is called once, when the call has ended.
func (a *ask) tell() {
	a.mu.Lock()
	waiters := a.waiters
	a.waiters, a.told = nil, true
	a.mu.Unlock()
	for w := range waiters {
		w.happened()
	}
}

// add adds a waiter, which is a parked group: its happened is called when the call has ended, or at once if tell
// was called already.
func (a *ask) add(w waiter) {
	a.mu.Lock()
	told := a.told
	if !told {
		if a.waiters == nil {
			a.waiters = make(map[waiter]struct{})
		}
		a.waiters[w] = struct{}{}
	}
	a.mu.Unlock()
	if told {
		w.happened()
	}
}

// remove removes a waiter, so that it is not told any more. If the waiter was told already, nothing changes.
func (a *ask) remove(w waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiters, w)
}
