package figures

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/sketch"
)

// resolution is one of the two resolutions of the history: the length of a step, and how many steps are kept.
type resolution struct {
	every time.Duration
	steps int
}

// fine and coarse are the resolutions, by their places in arrays.
const fine, coarse = 0, 1

// resolutions of the history: five minutes in fine steps, an hour in coarse ones.
var resolutions = [...]resolution{fine: {5 * time.Second, 60}, coarse: {30 * time.Second, 120}}

// number returns the number of the step in which a time lies. Steps are counted from 1970, so that those of all coordinators agree, as far as
// their clocks do.
func (r resolution) number(at time.Time) int64 { return at.UnixMilli() / r.every.Milliseconds() }

// begins returns when a step begins, in milliseconds since 1970.
func (r resolution) begins(number int64) int64 { return number * r.every.Milliseconds() }

// ring has the last steps of one resolution. The zero value keeps none.
type ring[Step any] struct {
	steps []Step // step n is at place n modulo the length
	first int64  // number of the first step that was put
	last  int64  // number of the last one
}

// start makes a ring whose next step is that of the number, for so many steps.
func (r *ring[Step]) start(steps int, number int64) {
	*r = ring[Step]{steps: make([]Step, steps), first: number, last: number - 1}
}

// put adds a step. Steps between the last one and this one are empty. A step of an earlier number is left out: the clock has gone back.
func (r *ring[Step]) put(number int64, s Step) {
	n := int64(len(r.steps))
	if n == 0 || number <= r.last {
		return
	}
	var empty Step
	for k := max(r.last+1, number-n+1); k < number; k++ {
		r.steps[k%n] = empty
	}
	r.steps[number%n], r.last = s, number
}

// since calls f with the steps of this number or later, the oldest first.
func (r *ring[Step]) since(number int64, f func(number int64, s *Step)) {
	n := int64(len(r.steps))
	if n == 0 {
		return
	}
	for k := max(number, r.first, r.last-n+1); k <= r.last; k++ {
		f(k, &r.steps[k%n])
	}
}

// flowStep is one step of a flow's history.
type flowStep struct {
	rows             [kinds]uint32 // rows that came in and ended, by kind
	inFlight, parked uint32        // at the end of the step
	oldest           float32       // age of the oldest row without an outcome at the end, in seconds
}

// functionStep is one step of a function's history.
type functionStep struct {
	rows, errors, retries uint32
	p50, p99              float32 // seconds
}

// growth is by how much the counts of a function have grown in one step.
type growth struct {
	rows, errors, retries uint64
	times                 [sketch.Buckets]uint32
}

// add adds another growth.
func (g *growth) add(more *growth) {
	g.rows, g.errors, g.retries = g.rows+more.rows, g.errors+more.errors, g.retries+more.retries
	for i, n := range more.times {
		g.times[i] += n
	}
}

// step makes the step of the history.
func (g *growth) step() functionStep {
	return functionStep{
		rows: clamp(g.rows), errors: clamp(g.errors), retries: clamp(g.retries),
		p50: float32(sketch.Quantile(&g.times, 0.5).Seconds()), p99: float32(sketch.Quantile(&g.times, 0.99).Seconds()),
	}
}

// clamp returns n, or the largest number of 32 bits if n is larger.
func clamp(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }

// recentSteps is how many fine steps rates are computed from: the one under way, and those before.
const recentSteps = 3
