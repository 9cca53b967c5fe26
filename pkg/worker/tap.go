package worker

import (
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The limits of taps. Rows that don't fit are left out; Tapped.passed tells the viewer how many there were.
const (
	tapsPerFlow = 8  // the most taps of one flow
	tapsAtOnce  = 32 // the most taps of the worker

	tapTick       = 100 * time.Millisecond // how often a tap gets leave to copy rows, and sends those that it has
	tapTell       = time.Second            // how often a tap says at least how many rows have passed
	tapRing       = 256                    // rows that lanes have copied and the tap has not looked at
	tapRows       = 100                    // rows that a tap sends in a second
	tapBytes      = 512 << 10              // bytes of rows that a tap sends in a second
	tapRowBytes   = 64 << 10               // bytes of one row that are copied
	tapAfterBytes = 128 << 10              // bytes of the rows behind a function that are sent with one row
	tapMessage    = 64 << 10               // about how many bytes of rows one message has
	tapsUnsent    = 4                      // messages of all taps that wait in one session to be sent
)

// tap copies rows of a flow for one viewer at one coordinator. Lanes copy rows into its ring, without ever waiting. Its goroutine hides fields,
// looks at the viewer's expression, and sends the rows. Lanes and goroutine together keep to the budget of all taps of the worker.
//
//	lanes ──► ring ──► goroutine: masks, where, rate ──► the session's queue ──► coordinator
//	   │                  │
//	   └──── budget ◄─────┘  at most 1 % of one processor
type tap struct {
	sess   *session
	number uint64
	flow   string
	budget *tapBudget
	viewer tapViewer
	lanes  *flowexec.Tap // what the lanes know of the tap
	ring   chan *flowexec.TappedRow
	stop   chan struct{} // closed by Untap

	// Lanes change these two.

	leave  atomic.Int64  // how many rows lanes may copy until the next tick
	passed atomic.Uint64 // rows that entered a function of the tap

	// Only the tap's goroutine uses these.

	rows, bytes       float64 // what may be sent now, by the limits of a second
	ticked            time.Time
	message           *pb.Tapped // the message that is being made
	size              int        // bytes of the rows in message
	told              time.Time
	unmatched, failed uint64
	failure           string
}

// openTap acts on a Tap message: it begins a tap, or answers why it does not.
func (sess *session) openTap(m *pb.Tap) error {
	if sess.taps[m.GetNumber()] != nil {
		return batch.Errorf(batch.CodeBadMessage, "tap %d began a second time in the session: the coordinator is defective", m.GetNumber())
	}
	s := sess.server
	t := &tap{
		sess: sess, number: m.GetNumber(), flow: m.GetFlow(), budget: &s.taps, stop: make(chan struct{}),
		ring: make(chan *flowexec.TappedRow, tapRing), viewer: tapViewer{masks: m.GetMasks()},
	}
	t.lanes = &flowexec.Tap{Function: m.GetFunction(), RowBytes: tapRowBytes, Admit: t.admit, Show: t.take, Spent: t.budget.spend}
	if m.GetHasKey() {
		key := m.GetKey()
		t.lanes.Key = &key
	}
	err := t.viewer.compile(m.GetWhere())
	if err == nil {
		err = s.flows.addTap(t.flow, t.lanes)
	}
	if err != nil {
		sess.tell(&pb.Tapped{Number: t.number, Ended: wire.FromError(err)})
		return nil
	}
	if sess.taps == nil {
		sess.taps = map[uint64]*tap{}
	}
	sess.taps[t.number] = t
	s.metrics.taps.Inc()
	s.goroutines.Go(t.run)
	return nil
}

// closeTap acts on an Untap message. A tap that is not known has been refused.
func (sess *session) closeTap(m *pb.Untap) {
	if t := sess.taps[m.GetNumber()]; t != nil {
		delete(sess.taps, m.GetNumber())
		close(t.stop)
	}
}

// tell has the session send a message of a tap.
func (sess *session) tell(m *pb.Tapped) {
	sess.tapsUnsent.Add(1)
	sess.peer.mu.Lock()
	sess.enqueue(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Tapped{Tapped: m}})
	sess.peer.mu.Unlock()
	sess.peer.wakeUp()
}

// admit implements flowexec.Tap.Admit.
func (t *tap) admit(rows int) (copies int) {
	t.passed.Add(uint64(rows))
	if t.leave.Load() <= 0 || t.budget.left.Load() <= 0 {
		return 0
	}
	copies = int(min(int64(rows), max(0, t.leave.Load())))
	t.leave.Add(int64(-copies))
	return copies
}

// take implements flowexec.Tap.Show: it puts a row into the ring, or drops it if the ring is full.
func (t *tap) take(row *flowexec.TappedRow) {
	select {
	case t.ring <- row:
	default:
		pointTapDropped.Hit()
	}
}

// run is the tap's goroutine. It ends with Untap, or with the session.
func (t *tap) run() {
	s := t.sess.server
	defer s.metrics.taps.Dec()
	defer s.flows.removeTap(t.flow, t.lanes)
	defer t.sess.endOnPanic("showing rows")
	beat := time.NewTicker(tapTick)
	defer beat.Stop()
	t.ticked, t.told = time.Now(), time.Now()
	t.rows, t.bytes = tapRows, tapBytes
	t.message = &pb.Tapped{Number: t.number}
	t.tick(t.ticked)
	for {
		ring := t.ring
		if t.budget.left.Load() <= 0 || t.size >= tapMessage && !t.flush() {
			ring = nil // until the next tick
		}
		select {
		case row := <-ring:
			began := time.Now()
			t.look(row)
			t.budget.spend(time.Since(began))
		case now := <-beat.C:
			t.tick(now)
			if len(t.message.GetRows()) > 0 || now.Sub(t.told) >= tapTell {
				t.flush()
			}
		case <-t.stop:
			return
		case <-t.sess.ended:
			return
		}
	}
}

// tick gives the lanes leave to copy rows, as the limits of the tap and the budget of all taps allow.
func (t *tap) tick(now time.Time) {
	passed := max(0, now.Sub(t.ticked).Seconds())
	t.ticked = now
	t.rows, t.bytes = min(t.rows+passed*tapRows, tapRows), min(t.bytes+passed*tapBytes, tapBytes)
	t.budget.refill(now)
	leave := int64(cap(t.ring) - len(t.ring))
	switch {
	case t.rows < 1 || t.bytes <= 0 || t.sess.tapsUnsent.Load() >= tapsUnsent:
		leave = 0
	case t.viewer.where == nil:
		leave = min(leave, int64(t.rows)) // each row that is copied will be sent
	}
	t.leave.Store(leave)
}

// look hides fields of a row, and adds the row to the message unless the viewer's expression leaves it out.
func (t *tap) look(row *flowexec.TappedRow) {
	switch wanted, err := t.viewer.wants(row); {
	case err != nil:
		t.unmatched++
		t.failed++
		t.failure = err.Error()
		return
	case wanted == unwanted:
		t.unmatched++
		return
	case wanted == unread || t.rows < 1 || t.bytes <= 0:
		return
	}
	m, size := t.viewer.show(row)
	m.Worker = t.sess.server.workerID()
	t.rows--
	t.bytes -= float64(size)
	t.size += size
	t.message.Rows = append(t.message.Rows, m)
}

// flush sends the message with the rows so far. It returns false, and sends nothing, while too many messages wait in the session.
func (t *tap) flush() bool {
	if t.sess.tapsUnsent.Load() >= tapsUnsent {
		return false
	}
	t.message.Passed, t.message.Unmatched, t.message.Failed, t.message.Failure = t.passed.Load(), t.unmatched, t.failed, t.failure
	t.sess.tell(t.message)
	t.message, t.size, t.told = &pb.Tapped{Number: t.number}, 0, time.Now()
	return true
}
