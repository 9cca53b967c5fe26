package scheduler_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// tester is what *testing.T, *testing.F's and *rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// shell carries a scheduler's actions out as a coordinator does, and checks that each one is allowed.
type shell struct {
	t    tester
	name string
	s    *scheduler.Scheduler
	now  time.Time

	// Every checkEvery steps the whole state is checked; 0: never.
	checkEvery, steps int

	live    map[*scheduler.Batch]*submission
	workers map[string]*peer
	active  map[string]int64 // revisions, by flow
	send    func(worker string, p *scheduler.Part, again bool)
	release func(worker, flow string, slots []batch.Range)
	// ended is called when a row got its outcome.
	ended    func(sub *submission, row uint32, outcome batch.Outcome)
	told     func(a scheduler.Action) // of each action
	behind   func()                   // called after a step that has left work
	digest   uint64                   // of all actions so far
	poisoned int                      // rows
}

// How much more than the remaining credit a part may use.
const (
	overdrawRows  = 1024
	overdrawBytes = 64 << 10
)

// submission is one batch as its owner sees it.
type submission struct {
	scheduler.Batch
	outcomes []batch.Outcome
	open     int
	of       *stream // nil in tests without streams
	runs     int     // of a whole batch
	refs     []rowRef
	killed   []int // by row: workers that announced it, and died
	kills    int   // the row that kills who runs it; -1: none
}

// peer is the coordinator's knowledge of a worker.
type peer struct {
	connected, draining, cordoned bool
	acknowledged                  map[string]int64
	credit                        map[string]*credit
	last                          uint64 // number of the newest part
}

type credit struct{ rows, bytes int64 }

// result is a worker's report about a part.
type result struct {
	finished []batch.Range
	notDone  []batch.RowOutcome
	began    []uint32
	last     bool
}

func newShell(t tester, c scheduler.Config) *shell {
	return &shell{
		t: t, s: scheduler.New(c), now: time.Unix(0, 0),
		live: map[*scheduler.Batch]*submission{}, workers: map[string]*peer{}, active: map[string]int64{},
		send:    func(string, *scheduler.Part, bool) {},
		release: func(string, string, []batch.Range) {},
		ended:   func(*submission, uint32, batch.Outcome) {},
		told:    func(scheduler.Action) {},
		behind:  func() {},
	}
}

func (h *shell) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s at %s: %s", h.name, h.now.Sub(time.Unix(0, 0)), fmt.Sprintf(format, args...))
}

// step passes an event to the scheduler and carries out the actions that it returns.
func (h *shell) step(e scheduler.Event) {
	h.t.Helper()
	flows, changed := h.mayMove(e)
	if h.s.Behind() {
		flows = nil // slots may move that an earlier event moves
	}
	before := make([]*scheduler.Owners, len(flows))
	for i, flow := range flows {
		before[i] = h.s.Owners(flow)
	}
	h.note(e)
	for _, a := range h.s.Step(e, h.now) {
		h.carryOut(a)
	}
	for i, flow := range flows {
		if h.s.Behind() {
			break
		}
		if after := h.s.Owners(flow); after != nil && before[i] != nil {
			for from, to := range after.Moves(before[i]) {
				if !changed(from) && !changed(to) {
					h.fatalf("flow %s: a slot moved from %s to %s, and neither came nor went", flow, from, to)
				}
			}
		}
	}
	if h.s.Behind() {
		h.behind()
	}
	h.steps++
	if h.checkEvery > 0 && h.steps%h.checkEvery == 0 {
		h.check()
	}
}

// check checks everything that must hold of the scheduler's state.
func (h *shell) check() {
	h.t.Helper()
	live := make([]*scheduler.Batch, 0, len(h.live))
	for b := range h.live {
		live = append(live, b)
	}
	divisor := max(16, len(h.workers))
	if err := h.s.Check(live, h.steps%divisor, divisor); err != nil {
		h.fatalf("%v", err)
	}
}

// mayMove lists the flows whose slots the event may move, and tells which workers it makes ready, or not ready any more.
func (h *shell) mayMove(e scheduler.Event) (flows []string, changed func(worker string) bool) {
	all := slices.Sorted(maps.Keys(h.active))
	only := func(worker string) func(string) bool { return func(id string) bool { return id == worker } }
	switch e := e.(type) {
	case scheduler.FlowSwitched:
		before := h.ready(e.Flow)
		return []string{e.Flow}, func(id string) bool { return before[id] != h.mayServe(h.workers[id], e.Flow) }
	case scheduler.WorkerReady:
		return []string{e.Flow}, only(e.Worker)
	case scheduler.WorkerConnected:
		return all, only(e.Worker)
	case scheduler.WorkerDraining:
		return all, only(e.Worker)
	case scheduler.WorkerCordoned:
		return all, only(e.Worker)
	case scheduler.WorkerGone:
		return all, only(e.Worker)
	}
	return nil, nil
}

// note keeps the facts that the coordinator itself learns from an event.
func (h *shell) note(e scheduler.Event) {
	acknowledge := func(worker, flow string, revision int64) {
		if w := h.workers[worker]; w != nil {
			w.acknowledged[flow] = revision
		}
	}
	switch e := e.(type) {
	case scheduler.WorkerConnected:
		h.workers[e.Worker] = &peer{
			connected: true, cordoned: e.Cordoned, acknowledged: map[string]int64{}, credit: map[string]*credit{},
		}
	case scheduler.WorkerResumed:
		if w := h.workers[e.Worker]; w != nil {
			w.connected = true
		}
	case scheduler.WorkerDisconnected:
		if w := h.workers[e.Worker]; w != nil {
			w.connected, w.credit = false, map[string]*credit{}
		}
	case scheduler.WorkerDraining:
		if w := h.workers[e.Worker]; w != nil {
			w.draining = true
		}
	case scheduler.WorkerCordoned:
		if w := h.workers[e.Worker]; w != nil {
			w.cordoned = e.Cordoned
		}
	case scheduler.WorkerGone:
		delete(h.workers, e.Worker)
	case scheduler.WorkerReady:
		if e.Revision == h.active[e.Flow] {
			acknowledge(e.Worker, e.Flow, e.Revision)
		}
	case scheduler.FlowSwitched:
		h.active[e.Flow] = e.Revision
		for _, id := range e.Ready {
			acknowledge(id, e.Flow, e.Revision)
		}
	case scheduler.Credited:
		if w := h.workers[e.Worker]; w != nil && w.connected {
			c := w.of(e.Flow)
			c.rows, c.bytes = c.rows+e.Rows, c.bytes+e.Bytes
		}
	case scheduler.Submitted:
		sub := e.Batch.Owner.(*submission)
		sub.outcomes = make([]batch.Outcome, e.Batch.Rows())
		sub.open = e.Batch.Rows()
		h.live[e.Batch] = sub
		for _, o := range e.Batch.Ended {
			h.end(sub, o.Row, o.Outcome)
		}
	case scheduler.Cancelled:
		if sub := h.live[e.Batch]; sub != nil {
			for row, o := range sub.outcomes {
				if o == 0 {
					h.end(sub, uint32(row), batch.Failed)
				}
			}
			delete(h.live, e.Batch)
		}
	}
}

func (w *peer) of(flow string) *credit {
	c := w.credit[flow]
	if c == nil {
		c = new(credit)
		w.credit[flow] = c
	}
	return c
}

// mayServe reports whether the worker may get rows of the flow.
func (h *shell) mayServe(w *peer, flow string) bool {
	return h.active[flow] > 0 && w.acknowledged[flow] == h.active[flow] && !w.draining && !w.cordoned
}

func (h *shell) ready(flow string) map[string]bool {
	ready := map[string]bool{}
	for id, w := range h.workers {
		if h.mayServe(w, flow) {
			ready[id] = true
		}
	}
	return ready
}

func (h *shell) carryOut(a scheduler.Action) {
	h.told(a)
	switch a := a.(type) {
	case scheduler.Send:
		h.mix('s', a.Part.Number, uint64(a.Part.Deaths), uint64(a.Part.Len()), uint64(a.Part.Row(0)))
		h.mixText(a.Worker)
		h.checkSend(a)
	case scheduler.Release:
		h.mix('r')
		h.mixText(a.Worker)
		for _, slots := range a.Slots {
			h.mix(uint64(slots.First), uint64(slots.Count))
		}
		if w := h.workers[a.Worker]; w == nil || !w.connected {
			h.fatalf("Release to worker %s, which has no session", a.Worker)
		}
		h.release(a.Worker, a.Flow, a.Slots)
	case scheduler.Answer:
		h.mix('a', a.Part.Number)
		h.mix(a.Only...)
		h.answered(a)
	case scheduler.Fail:
		h.mix('f', uint64(len(a.Rows)), uint64(a.Outcome), uint64(a.Code))
		sub := h.owner(a.Batch, "Fail")
		for _, r := range a.Rows {
			if a.Code == batch.CodePoison {
				h.poisoned++
			}
			if a.Code == batch.CodePoison && sub.killed != nil && sub.killed[r] < 2 {
				h.fatalf("row %d is poison, and %d workers announced it and died", r, sub.killed[r])
			}
			h.end(sub, r, a.Outcome)
		}
		h.last(sub, a.Last)
	case scheduler.Finish:
		h.mix('e')
		h.last(h.owner(a.Batch, "Finish"), true)
	default:
		h.fatalf("an action of unknown type %T", a)
	}
}

func (h *shell) mix(values ...uint64) {
	for _, v := range values {
		h.digest = (h.digest ^ v) * 0x9e3779b97f4a7c15
		h.digest ^= h.digest >> 29
	}
}

func (h *shell) mixText(s string) {
	for i := range len(s) {
		h.mix(uint64(s[i]))
	}
}

// checkSend checks a part against its worker's state and credit.
func (h *shell) checkSend(a scheduler.Send) {
	p, b := a.Part, a.Part.Batch
	w := h.workers[a.Worker]
	again := w != nil && p.Number <= w.last
	switch {
	case w == nil:
		h.fatalf("part %d to worker %s, which is not there", p.Number, a.Worker)
	case !w.connected:
		h.fatalf("part %d to worker %s, which has no session", p.Number, a.Worker)
	case !h.mayServe(w, b.Flow) && !(again && (w.draining || w.cordoned)) && (w.draining || b.Revision == h.active[b.Flow] || w.acknowledged[b.Flow] == 0):
		h.fatalf("part %d to worker %s, which is not ready for %s: draining %v, revision %d, active %d, acknowledged %d, again %v", p.Number, a.Worker, b.Flow, w.draining,
			b.Revision, h.active[b.Flow], w.acknowledged[b.Flow], again)
	case !again && p.Number != w.last+1:
		h.fatalf("part %d to worker %s after part %d", p.Number, a.Worker, w.last)
	case p.Len() == 0:
		h.fatalf("part %d to worker %s is empty", p.Number, a.Worker)
	case p.Rows != nil && !slices.IsSorted(p.Rows):
		h.fatalf("part %d to worker %s is not in order: %v", p.Number, a.Worker, p.Rows)
	}
	w.last = max(w.last, p.Number)
	sub := h.owner(b, "Send")
	bytes := int64(0)
	for i := range uint32(p.Len()) {
		row := p.Row(i)
		if sub.outcomes[row] != 0 {
			h.fatalf("part %d to worker %s has row %d, which is %s", p.Number, a.Worker, row, sub.outcomes[row])
		}
		bytes += int64(b.Ends[row])
		if row > 0 {
			bytes -= int64(b.Ends[row-1])
		}
	}
	c, rows := w.of(b.Flow), int64(p.Len())
	if !again {
		switch {
		case c.rows <= 0 || c.bytes <= 0:
			h.fatalf("part %d to worker %s without credit: %d rows, %d bytes", p.Number, a.Worker, c.rows, c.bytes)
		case len(b.Keys) == 0:
		case rows > max(c.rows, overdrawRows), rows > 1 && bytes > max(c.bytes, overdrawBytes):
			h.fatalf("part %d to worker %s has %d rows and %d bytes on a credit of %d and %d", p.Number, a.Worker, rows, bytes, c.rows, c.bytes)
		}
	}
	c.rows, c.bytes = c.rows-rows, c.bytes-bytes
	h.send(a.Worker, p, again)
}

func (h *shell) owner(b *scheduler.Batch, action string) *submission {
	sub := h.live[b]
	if sub == nil {
		h.fatalf("%s for a batch that is over", action)
	}
	return sub
}

// answered reads a result as a coordinator does.
func (h *shell) answered(a scheduler.Answer) {
	p, r := a.Part, a.Result.(result)
	sub := h.owner(p.Batch, "Answer")
	n := uint32(p.Len())
	counts := func(i uint32) bool { return i < n && (a.Only == nil || a.Only.Has(i)) }
	for _, o := range r.notDone {
		if counts(o.Row) {
			h.end(sub, p.Row(o.Row), o.Outcome)
		}
	}
	for _, f := range r.finished {
		for i := f.First; i < f.First+f.Count; i++ {
			if counts(i) {
				h.end(sub, p.Row(i), batch.Done)
			}
		}
	}
	if r.last {
		for i := range n {
			if counts(i) && sub.outcomes[p.Row(i)] == 0 {
				h.end(sub, p.Row(i), batch.Done)
			}
		}
	}
	h.last(sub, a.Last)
}

// end gives a row its outcome, the only one.
func (h *shell) end(sub *submission, row uint32, outcome batch.Outcome) {
	if was := sub.outcomes[row]; was != 0 {
		h.fatalf("row %d is %s, and was %s before", row, outcome, was)
	}
	sub.outcomes[row] = outcome
	sub.open--
	h.ended(sub, row, outcome)
}

// last checks that a batch is over when the scheduler says so.
func (h *shell) last(sub *submission, last bool) {
	if last != (sub.open == 0) {
		h.fatalf("last is %v, and %d rows have no outcome", last, sub.open)
	}
	if last {
		delete(h.live, &sub.Batch)
	}
}
