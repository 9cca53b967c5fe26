package client

// signal wakes one goroutine. It is a channel with room for one token. A goroutine that waits for a change receives from it and then looks
// at the state, under the mutex that guards it. A token that nobody waits for stays until somebody does, so that no change is
// missed.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

// wake leaves a token, unless there is one already. It never blocks.
func (s signal) wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}
