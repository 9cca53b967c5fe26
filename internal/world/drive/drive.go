package drive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Plan says which seeds to live through, and what to do about breaches.
type Plan struct {
	Children
	Seeds int    // how many
	First uint64 // the first seed; the others follow it
	// Small leaves out scenarios that last over a minute, or have over 2,000 rows. Other seeds take their place.
	Small bool
	// Time bounds the run: no seed begins after it. 0 means no bound.
	Time time.Duration
	// Jobs is how many processes run at the same time; 0 means one for each processor.
	Jobs int
	// Stop ends the run at the first breach, which is not shrunk.
	Stop bool
	// Shrink is how long shrinking one scenario may take; 0 means that nothing is shrunk.
	Shrink time.Duration
	// Runs is how often a smaller scenario is tried before it counts as one without the breach; 0 means 2.
	Runs int
	// Folder is where the scripts of breaches are written; "" means nowhere.
	Folder string
	// Out takes progress, breaches and the table.
	Out io.Writer
}

// mostShrunk is how many seeds are shrunk that broke the same promise. The others are listed.
const mostShrunk = 3

// run is the state of Plan.Drive.
type run struct {
	Plan
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time

	mu     sync.Mutex
	next   uint64 // the next seed
	begun  int    // the seeds that have begun
	tally  *Tally
	shrunk map[string]int // how many seeds were shrunk, by the name of the check
	err    error          // the first error
	spoke  time.Time      // when the last line of progress was printed
}

// Drive lives through the seeds, and returns what came of them. It prints a line for each breach as it is found. The error is about
// running the processes.
func (p Plan) Drive(ctx context.Context) (*Tally, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Plan: p, ctx: ctx, cancel: cancel, began: time.Now(), spoke: time.Now(), tally: newTally(), shrunk: map[string]int{}}
	if r.Jobs == 0 {
		r.Jobs = runtime.GOMAXPROCS(0)
	}
	var jobs sync.WaitGroup
	for range r.Jobs {
		jobs.Go(r.work)
	}
	jobs.Wait()
	r.tally.Real = time.Since(r.began)
	if r.tally.Broken == 0 && r.err == nil {
		r.printf("world: %d seeds, no breach\n", r.tally.Seeds)
	}
	return r.tally, r.err
}

// printf prints. The caller holds the lock, or no other goroutine is left.
func (r *run) printf(format string, args ...any) { fmt.Fprintf(r.Out, format, args...) }

// work takes one seed after the other.
func (r *run) work() {
	for {
		s := r.begin()
		if s == nil {
			return
		}
		o, err := r.Live(r.ctx, s)
		if err != nil {
			r.fail(err)
			return
		}
		r.ended(s, o)
	}
}

// begin returns the scenario of the next seed, or nil when no more is to be lived through.
func (r *run) begin() *scenario.Scenario {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun >= r.Seeds || r.err != nil || r.ctx.Err() != nil || r.Time > 0 && time.Since(r.began) > r.Time {
		return nil
	}
	r.begun++
	for {
		s := scenario.Generate(r.First + r.next)
		r.next++
		rows := 0
		for _, c := range s.Clients {
			rows += c.Rows
		}
		if !r.Small || s.Lasts <= time.Minute && rows <= 2000 {
			return s
		}
	}
}

// fail notes an error and ends the run, unless that was the end of the run already.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && !errors.Is(err, context.Canceled) {
		r.err = err
	}
	r.cancel()
}

// ended notes the outcome of a seed, and shrinks its scenario if that broke a promise.
func (r *run) ended(s *scenario.Scenario, o *Outcome) {
	r.mu.Lock()
	r.tally.add(s.Seed, o)
	if time.Since(r.spoke) > 10*time.Second {
		r.spoke = time.Now()
		r.printf("world: %d seeds, %s virtual, %s real, %d broke a promise\n", r.tally.Seeds, r.tally.Virtual.Round(time.Second), time.Since(r.began).Round(time.Second), r.tally.Broken)
	}
	if len(o.Breaches) == 0 {
		r.mu.Unlock()
		return
	}
	r.printf("world: seed %d broke %s after %d seeds\n", s.Seed, o.oracles(), r.tally.Seeds)
	first := o.Breaches[0]
	r.tally.Breaches = append(r.tally.Breaches, Found{Seed: s.Seed, Breaches: o.Breaches})
	place := len(r.tally.Breaches) - 1
	if r.Stop {
		r.cancel()
		r.mu.Unlock()
		return
	}
	r.shrunk[first.Oracle]++
	again := r.shrunk[first.Oracle] <= mostShrunk
	r.mu.Unlock()
	found, text := Found{Seed: s.Seed, Breaches: o.Breaches}, ""
	if again {
		found, text = r.examine(s, o)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Breaches[place] = found
	r.printf("%s", text)
}
