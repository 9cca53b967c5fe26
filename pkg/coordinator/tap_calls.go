package coordinator

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// workerTaps are the taps that are open at one worker for calls to this coordinator. They end with the session. Any goroutine may use it.
type workerTaps struct {
	mu   sync.Mutex
	last uint64              // guarded by mu: number of the last tap; taps are numbered from 1, also over sessions
	open map[uint64]*openTap // guarded by mu
}

// openTap is a tap at one worker, for one call.
type openTap struct {
	peer   *workerPeer
	number uint64
	inbox  *tapInbox
	told   *pb.Tapped // guarded by inbox.mu: the worker's last message; nil means that none has come
	over   bool       // guarded by inbox.mu: no further message comes
}

// tapInbox has what came of the taps of one call and the call has not taken. Nothing ever waits for room in it.
type tapInbox struct {
	wake  chan struct{} // holds a token when there may be something to take
	mu    sync.Mutex
	rows  []*pb.TappedRow // guarded by mu
	bytes int             // guarded by mu: about how large the rows are together
}

// tapInboxBytes is how many bytes of rows wait for a call of Tap at most. Rows for which there is no room are dropped.
const tapInboxBytes = 1 << 20

// begin makes a tap at a worker. The caller tells the worker.
func (q *workerTaps) begin(peer *workerPeer, inbox *tapInbox) *openTap {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = map[uint64]*openTap{}
	}
	q.last++
	t := &openTap{peer: peer, number: q.last, inbox: inbox}
	q.open[t.number] = t
	return t
}

// answer takes a message of the worker. A message of a tap that is not open any more is dropped.
func (q *workerTaps) answer(m *pb.Tapped) {
	q.mu.Lock()
	t := q.open[m.GetNumber()]
	if m.GetEnded() != nil {
		delete(q.open, m.GetNumber())
	}
	q.mu.Unlock()
	if t == nil {
		return
	}
	in := t.inbox
	in.mu.Lock()
	for _, row := range m.GetRows() {
		size := len(row.GetBefore().GetText()) + len(row.GetReason()) + 200
		for _, after := range row.GetAfter() {
			size += len(after.GetText()) + 20
		}
		if in.bytes+size > tapInboxBytes && in.bytes > 0 {
			pointTapDropped.Hit()
			break
		}
		in.rows, in.bytes = append(in.rows, row), in.bytes+size
	}
	m.Rows = nil
	t.told, t.over = m, m.GetEnded() != nil
	in.mu.Unlock()
	in.signal()
}

// end forgets a tap. It returns false if the tap is over already.
func (q *workerTaps) end(t *openTap) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, open := q.open[t.number]
	delete(q.open, t.number)
	return open
}

// endAll ends all taps, because the session with the worker has ended.
func (q *workerTaps) endAll() {
	q.mu.Lock()
	all := q.open
	q.open = nil
	q.mu.Unlock()
	for _, t := range all {
		t.inbox.mu.Lock()
		t.over = true
		t.inbox.mu.Unlock()
		t.inbox.signal()
	}
}

// signal puts a token into wake, unless it has one.
func (in *tapInbox) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// take returns the rows that have come since it was called last.
func (in *tapInbox) take() []*pb.TappedRow {
	in.mu.Lock()
	defer in.mu.Unlock()
	taken := in.rows
	in.rows, in.bytes = nil, 0
	return taken
}

// state returns the last message of a tap, which has no rows; nil means that none has come. over is true if no further one comes.
func (t *openTap) state() (told *pb.Tapped, over bool) {
	t.inbox.mu.Lock()
	defer t.inbox.mu.Unlock()
	return t.told, t.over
}

// These are the times of a call of Tap.
const (
	tapLook  = 250 * time.Millisecond // how often it looks for workers that have come or gone
	tapAgain = 5 * time.Second        // after which time it asks a worker again that has ended the tap
)

// tapCall is one call of Tap: it has a tap at each worker that can show rows. The goroutine of the call owns it.
type tapCall struct {
	loop     *schedulerLoop
	question *pb.Tap
	viewer   admin.TapViewer
	inbox    *tapInbox
	workers  map[string]*tappedWorker
}

// tappedWorker is one worker, as a call of Tap deals with it.
type tappedWorker struct {
	tap    *openTap       // nil means that none is open
	note   string         // the last note about the worker
	again  time.Time      // when the worker may be asked again
	before admin.TapCount // the counts of earlier taps
	now    admin.TapCount // the counts of tap
}

// Tap keeps a tap open at each worker that can show rows, and hands rows, counts and notes to the viewer, until ctx is done, the viewer returns an
// error, or the loop has ended. It returns the viewer's error.
func (l *schedulerLoop) Tap(ctx context.Context, question *pb.Tap, viewer admin.TapViewer) error {
	c := &tapCall{
		loop: l, question: question, viewer: viewer, inbox: &tapInbox{wake: make(chan struct{}, 1)}, workers: map[string]*tappedWorker{},
	}
	defer c.close()
	look := time.NewTicker(tapLook)
	defer look.Stop()
	for due := true; ; {
		if due && !c.look() {
			return nil
		}
		if err := c.tell(); err != nil {
			return err
		}
		select {
		case <-c.inbox.wake:
			due = false
		case <-look.C:
			due = true
		case <-ctx.Done():
			return c.tell()
		}
	}
}

// look opens a tap at each worker that has a session and none, and finds out which workers show nothing. It returns false if the loop has ended.
func (c *tapCall) look() bool {
	for _, w := range c.workers {
		w.settle()
	}
	wants := map[string]bool{}
	for id, w := range c.workers {
		wants[id] = w.tap == nil && time.Now().After(w.again)
	}
	type standing struct{ connected, knows bool }
	peers, opened := map[string]standing{}, map[string]*openTap{}
	// In the loop no session ends unseen: a tap is told to the session that is up, or ends with it. The loop is waited for in any case, because it
	// may open taps.
	if !c.loop.do(context.Background(), func(l *schedulerLoop) {
		for id, p := range l.peers {
			is := standing{p.connected.Load(), p.knowsTaps.Load()}
			peers[id] = is
			if known := c.workers[id]; is.connected && is.knows && (known == nil || wants[id]) {
				opened[id] = c.open(p)
			}
		}
	}) {
		return false
	}
	for id := range peers {
		if c.workers[id] == nil {
			c.workers[id] = &tappedWorker{}
		}
	}
	for id, w := range c.workers {
		if t := opened[id]; t != nil {
			w.tap = t
		}
		switch is, there := peers[id]; {
		case !there:
			w.note = "it has ended, or is given up; its rows run elsewhere"
		case !is.connected:
			w.note = "it has no session with this coordinator now; the tap goes on when it has one"
		case !is.knows:
			w.note = "it is of an older build, which knows no tap, and shows no rows"
		}
	}
	return true
}

// open opens a tap at a worker that has a session. The loop's goroutine calls it.
func (c *tapCall) open(p *workerPeer) *openTap {
	t := p.taps.begin(p, c.inbox)
	p.instructions.put(instruction{tap: &pb.Tap{
		Number: t.number, Flow: c.question.GetFlow(), Function: c.question.GetFunction(), HasKey: c.question.GetHasKey(), Key: c.question.GetKey(),
		Where: c.question.GetWhere(), Masks: c.question.GetMasks(),
	}})
	return t
}

// settle takes over the counts of the worker's tap, and notes whether the tap is over.
func (w *tappedWorker) settle() {
	if w.tap == nil {
		return
	}
	told, over := w.tap.state()
	if told != nil {
		w.now = admin.TapCount{Passed: told.GetPassed(), Unmatched: told.GetUnmatched(), Failed: told.GetFailed(), Failure: told.GetFailure()}
		w.note = ""
	}
	if !over {
		return
	}
	w.tap, w.before, w.now = nil, w.before.Plus(w.now), admin.TapCount{}
	if why := told.GetEnded(); why != nil {
		w.again = time.Now().Add(tapAgain)
		w.note = "it shows no rows: " + wire.ToError(why).Error()
	}
}

// tell hands everything that is new to the viewer.
func (c *tapCall) tell() error {
	rows := c.inbox.take()
	var all admin.TapCount
	for _, id := range slices.Sorted(maps.Keys(c.workers)) {
		w := c.workers[id]
		w.settle()
		if w.tap != nil && w.note == "" {
			all.Workers++
		}
		all = all.Plus(w.before).Plus(w.now)
		if err := c.viewer.Note(id, w.note); err != nil {
			return err
		}
	}
	if err := c.viewer.Counts(all); err != nil {
		return err
	}
	if len(rows) > 0 {
		return c.viewer.Rows(rows)
	}
	return nil
}

// close ends the taps of the call.
func (c *tapCall) close() {
	for _, w := range c.workers {
		if t := w.tap; t != nil && t.peer.taps.end(t) {
			t.peer.instructions.put(instruction{untap: &pb.Untap{Number: t.number}})
		}
	}
}
