package worker

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

var (
	handshakeRounds = flag.Int("handshake.rounds", 300, "sessions that TestHandshakeStates opens")
	handshakeSeed   = flag.Uint64("handshake.seed", 1, "seed of TestHandshakeStates")
)

// TestLostWelcome loses the answer to a Hello of a coordinator whose worker has forgotten it: the coordinator still counts
// results of before when it comes again.
func TestLostWelcome(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		lost := r.dial()
		lost.received = 65
		lost.send(hello("c-1", workerID, true))
		synctest.Wait()
		lost.hangUp()
		synctest.Wait()
		again := r.dial()
		again.received = 65
		if w := again.hello("c-1", true); w.GetResumed() || w.GetPartsReceived() != 0 {
			t.Errorf("Welcome %v", w)
		}
		again.received = 0
		again.define("whole")
		again.sendPart(batchOf(1, "whole", "a"))
		if got := again.result(); got.GetNumber() != 1 {
			t.Errorf("result %v", got)
		}
	})
}

// TestFalseHello has somebody say Hello with the id of a coordinator, which anybody may read, in each way in which one can: the
// session of the coordinator goes on, and what it was sent stands.
func TestFalseHello(t *testing.T) {
	for name, secret := range map[string][]byte{"without a secret": nil, "with another secret": []byte("guessed")} {
		for _, resume := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, resume %t", name, resume), func(t *testing.T) {
				inBubble(t, wideBudget, func(t *testing.T, r *rig) {
					b := r.dial()
					b.greet([]byte("drawn for this worker"), false)
					b.define("whole")
					b.sendPart(batchOf(1, "whole", "a"))
					b.result()
					r.hold("slow")
					b.sendPart(batchOf(2, "whole", "slow"))
					synctest.Wait()

					stranger := r.dial()
					stranger.received = 1
					if w := stranger.greet(secret, resume); w.GetResumed() || w.GetPartsReceived() != 0 {
						t.Errorf("it is told of another's sessions: %v", w)
					}
					synctest.Wait()
					r.open("slow")
					if got := b.result(); got.GetPart() != 2 || !got.GetLast() {
						t.Errorf("result %v", got)
					}
					b.hangUp()
					synctest.Wait()
					again := r.dial()
					again.received = 1
					if w := again.greet([]byte("drawn for this worker"), true); !w.GetResumed() || w.GetPartsReceived() != 2 {
						t.Errorf("Welcome %v", w)
					}
					if got := again.result(); got.GetNumber() != 2 {
						t.Errorf("sent again: %v", got)
					}
				})
			})
		}
	}
}

func TestSecretThatIsTooLong(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		m := hello("c-1", workerID, false)
		m.GetHello().Secret = make([]byte, maxSecretBytes+1)
		b.send(m)
		wantCode(t, b.ends(), batch.CodeBadMessage, "65 bytes")
	})
}

// greet says Hello with a secret.
func (b *boss) greet(secret []byte, resume bool) *pb.Welcome {
	b.t.Helper()
	m := hello("c-1", workerID, resume)
	m.GetHello().Secret = secret
	b.send(m)
	w := b.must().GetWelcome()
	if w == nil {
		b.t.Fatal("the first message is no Welcome")
	}
	return w
}

// TestHandshakeStates is a coordinator by the rules (its parts are numbered, what is unanswered is sent again, results are taken
// in order) whose connections break at any moment, also before its Hello is answered, whose numbers are wrong now and then, as
// those of a build with a defect, and which strangers pass for. Whatever the two sides believe of each other: the next
// handshake is answered with a Welcome, and each row is answered in the end.
func TestHandshakeStates(t *testing.T) {
	for _, secret := range [][]byte{nil, []byte("drawn")} {
		t.Run(fmt.Sprintf("secret %q", secret), func(t *testing.T) {
			inBubble(t, amount{4 << 20, 1 << 30}, func(t *testing.T, r *rig) {
				c := &modelCoordinator{t: t, rig: r, random: rand.New(rand.NewPCG(*handshakeSeed, uint64(len(secret)))), secret: secret, parts: map[uint64]int{}}
				for range *handshakeRounds {
					c.round()
				}
				c.finish()
			})
		})
	}
}

// modelCoordinator is a coordinator as the other side's code has it.
type modelCoordinator struct {
	t      *testing.T
	rig    *rig
	random *rand.Rand
	secret []byte

	met      bool
	received uint64
	sent     uint64         // the number of the last part
	parts    map[uint64]int // rows that wait for an answer, by part
	waiting  []int          // rows that are in no part
	rows     int            // so far
	answered int
}

func (c *modelCoordinator) chance(percent int) bool { return c.random.IntN(100) < percent }

// begin opens a session and says Hello; nil where the connection broke before the answer.
func (c *modelCoordinator) begin(breaks bool) *boss {
	b := c.rig.dial()
	m := hello("c-1", workerID, c.met)
	m.GetHello().Secret = c.secret
	b.received = c.received
	b.send(m)
	if breaks {
		synctest.Wait() // it has been answered, or not
		b.hangUp()
		synctest.Wait()
		return nil
	}
	w := b.must().GetWelcome()
	if w == nil {
		c.t.Fatal("no Welcome")
	}
	b.pump()
	if c.met && w.GetResumed() && w.GetPartsReceived() <= c.sent {
		c.define(b)
		for number := uint64(1); number <= c.sent; number++ {
			if row, unanswered := c.parts[number]; unanswered && number > w.GetPartsReceived() {
				b.sendPart(batchOf(number, "whole", fmt.Sprint(row)))
			}
		}
		return b
	}
	if c.met && w.GetResumed() {
		c.giveUp()
		b.hangUp()
		synctest.Wait()
		return nil
	}
	c.giveUp()
	c.met, b.received = true, 0
	c.define(b)
	return b
}

// define defines the flow, in each session. The answer comes with results.
func (c *modelCoordinator) define(b *boss) {
	b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{
		Flow: "whole", Revision: 5, Documents: documents("whole", "", "echo", 2),
	}}})
	b.catchUp() // to have credit
}

// giveUp has what was sent sent again, to a worker that knows nothing of it.
func (c *modelCoordinator) giveUp() {
	c.met = false
	for number := uint64(1); number <= c.sent; number++ {
		if row, unanswered := c.parts[number]; unanswered {
			c.waiting = append(c.waiting, row)
		}
	}
	clear(c.parts)
	c.received, c.sent = 0, 0
}

// send sends what waits.
func (c *modelCoordinator) send(b *boss) {
	for _, row := range c.waiting {
		c.sent++
		c.parts[c.sent] = row
		b.sendPart(batchOf(c.sent, "whole", fmt.Sprint(row)))
	}
	c.waiting = nil
}

// take takes results, at most so many.
func (c *modelCoordinator) take(b *boss, most int) {
	for taken := 0; taken < most; taken++ {
		if len(c.parts) == 0 {
			return
		}
		m, err := b.next()
		if err != nil {
			c.t.Fatalf("the session ended: %v", err)
		}
		result := m.GetResult()
		if m.GetCompiled() != nil && len(m.GetCompiled().GetErrors()) == 0 {
			taken--
			continue
		}
		if result == nil {
			c.t.Fatalf("said %v", m)
		}
		if result.GetNumber() <= c.received {
			continue
		}
		if result.GetNumber() != c.received+1 {
			c.t.Fatalf("result %d after result %d", result.GetNumber(), c.received)
		}
		c.received, b.received = result.GetNumber(), result.GetNumber()
		if _, unanswered := c.parts[result.GetPart()]; unanswered && result.GetLast() {
			delete(c.parts, result.GetPart())
			c.answered++
		}
	}
}

// round is a session, and what others do between two.
func (c *modelCoordinator) round() {
	for range c.random.IntN(4) {
		c.waiting = append(c.waiting, c.rows)
		c.rows++
	}
	if c.chance(15) {
		c.stranger()
	}
	switch {
	case c.chance(8):
		c.received += uint64(c.random.IntN(70)) // it counts what it was not sent
	case c.chance(4) && c.received > 0:
		c.received -= uint64(c.random.Int64N(int64(c.received))) // it has lost what it acknowledged
	}
	b := c.begin(c.chance(25))
	if b == nil {
		return
	}
	c.send(b)
	c.take(b, c.random.IntN(4))
	if c.chance(50) {
		b.ack()
	}
	synctest.Wait()
	b.hangUp()
	synctest.Wait()
	if c.chance(3) {
		time.Sleep(lease + time.Second) // the worker forgets it
	}
}

// stranger passes for the coordinator, without its secret. A coordinator that has none can't be told from it: then the stranger
// only says Hello, and what it leaves behind has no parts.
func (c *modelCoordinator) stranger() {
	b := c.rig.dial()
	m := hello("c-1", workerID, c.chance(50) && c.secret != nil)
	if c.secret != nil && c.chance(50) {
		m.GetHello().Secret = []byte("guessed")
	}
	b.received = uint64(c.random.IntN(100))
	b.send(m)
	if w := b.must().GetWelcome(); w == nil {
		c.t.Fatal("no Welcome for a stranger")
	}
	if c.secret != nil && c.chance(50) {
		b.received = 0
		b.define("whole")
	}
	b.hangUp()
	synctest.Wait()
}

// finish lets all rows be answered, in undisturbed sessions.
func (c *modelCoordinator) finish() {
	for range 3 {
		b := c.begin(false)
		if b == nil {
			continue
		}
		c.send(b)
		c.take(b, 1<<20)
		if len(c.parts) == 0 && c.answered == c.rows {
			return
		}
		b.hangUp()
		synctest.Wait()
	}
	c.t.Errorf("%d of %d rows are answered", c.answered, c.rows)
}
