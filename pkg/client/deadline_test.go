package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// silence waits until nothing moves, and fails the test if a call came.
func silence(t *testing.T, k *coordinator) {
	t.Helper()
	synctest.Wait()
	select {
	case c := <-k.calls:
		t.Errorf("a call came with %d ms left", c.Submission.DeadlineMilliseconds)
	default:
	}
}

// TestTimeoutIsAMoment: a batch that was not sent before its Timeout is over is not sent any more, for each reason that it may wait for.
func TestTimeoutIsAMoment(t *testing.T) {
	const timeout = 50 * time.Millisecond
	for _, test := range []struct {
		name string
		sent bool // a try may have run it
		// wait has the batch wait for something that comes 3 s later. It returns how that ends.
		wait func(n *network, c *client.Client, b *client.Batch) (ended <-chan outcome, over func())
	}{
		{"nobody there", false, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			return submit(n.t.Context(), c, "F", b, client.Timeout(timeout)), func() {}
		}},
		{"a connection that hangs", false, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			n.slow = 3 * time.Second
			k := n.start("a:7700")
			return submit(n.t.Context(), c, "F", b, client.Timeout(timeout)), func() { silence(n.t, k) }
		}},
		{"a connection that breaks", true, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			k := n.start("a:7700")
			out := submit(n.t.Context(), c, "F", b, client.Timeout(timeout))
			(<-k.calls).fail(status.Error(codes.Unavailable, "connection reset"))
			return out, func() { silence(n.t, k) }
		}},
		{"a coordinator that is full", false, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			k := n.start("a:7700")
			out := submit(n.t.Context(), c, "F", b, client.Timeout(timeout))
			(<-k.calls).refuse(&pb.Error{Code: pb.Code_CODE_OVERLOADED, Message: "full", RetryAfterMilliseconds: 3000})
			return out, func() { silence(n.t, k) }
		}},
		{"other calls", false, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			k := n.start("a:7700")
			large := client.Pack(client.Columns{Data: make([]byte, 3<<20), Ends: []uint32{3 << 20}})
			var others []<-chan outcome
			var calls []*call
			for range 2 {
				others = append(others, submit(n.t.Context(), c, "F", client.Pack(must(large.Columns()))))
				calls = append(calls, <-k.calls)
			}
			out := submit(n.t.Context(), c, "F", client.Pack(must(large.Columns())), client.Timeout(timeout))
			return out, func() {
				for i := range calls {
					calls[i].answer(&pb.Answer{Last: true})
					<-others[i]
				}
				silence(n.t, k)
			}
		}},
		{"a stream without a coordinator", true, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			k := n.start("a:7700")
			s, remote := k.stream(c, 100, 1000)
			p := send(n.t, s, b, client.Timeout(timeout))
			remote.next()
			k.kill()
			return waiting(n.t, p), func() {
				k = n.start("a:7700")
				if got := k.resume(100, 1000).sequences(); got != nil {
					n.t.Errorf("batches %v came late", got)
				}
			}
		}},
		{"a stream's window", false, func(n *network, c *client.Client, b *client.Batch) (<-chan outcome, func()) {
			k := n.start("a:7700")
			s, remote := k.stream(c, 1, 1000)
			send(n.t, s, numbered(5))
			out := make(chan outcome, 1)
			go func() {
				_, err := s.Send(n.t.Context(), b, client.Timeout(timeout))
				out <- outcome{err: err}
			}()
			return out, func() {
				remote.credit(100, 1000)
				if got := remote.sequences(); len(got) != 1 {
					n.t.Errorf("batches %v came, want the first alone", got)
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				n.t = t
				c := n.dial("passthrough:///a:7700", client.WithRetryDelay(4*timeout, time.Minute)) // over the Timeout, whatever is drawn
				began := time.Now()
				out, over := test.wait(n, c, numbered(1))
				r := <-out
				wantError(t, r.err, batch.CodeDeadline, test.sent)
				if took := time.Since(began); took > 2*timeout {
					t.Errorf("it ended after %s, want the Timeout of %s", took, timeout)
				}
				time.Sleep(3 * time.Second)
				over()
			})
		})
	}
}

// waiting is how a Pending ends.
func waiting(t *testing.T, p *client.Pending) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		r, err := p.Wait(t.Context())
		out <- outcome{r, err}
	}()
	return out
}

func must(c client.Columns, err error) client.Columns {
	if err != nil {
		panic(err)
	}
	return c
}

// TestManyTimeoutsOfAStream: each batch that waits for a coordinator ends at its own moment, in any order, and the others go on.
func TestManyTimeoutsOfAStream(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1000, 100_000)
		began := time.Now()
		pendings := map[int]*client.Pending{} // by milliseconds
		for _, ms := range []int{700, 100, 60_000, 300, 0} {
			var opts []client.SubmitOption
			if ms > 0 {
				opts = append(opts, client.Timeout(time.Duration(ms)*time.Millisecond))
			}
			pendings[ms] = send(t, s, numbered(1), opts...)
			remote.next()
		}
		k.kill()
		for _, ms := range []int{100, 300, 700} {
			_, err := pendings[ms].Wait(t.Context())
			wantError(t, err, batch.CodeDeadline, true)
			if took := time.Since(began); took != time.Duration(ms)*time.Millisecond {
				t.Errorf("a Timeout of %d ms ended after %s", ms, took)
			}
		}
		k = n.start("a:7700")
		again := k.resume(1000, 100_000)
		for _, sequence := range again.sequences() {
			again.done(sequence)
		}
		wait(t, pendings[60_000])
		wait(t, pendings[0])
	})
}

// TestBatchesThatNeverLeft: a client keeps nothing of them.
func TestBatchesThatNeverLeft(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(0))
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 200 {
			b := numbered(1)
			_, err := c.Submit(over, "F", b)
			wantError(t, err, batch.CodeCancelled, false)
			_, err = c.Submit(t.Context(), "F", b) // nobody is there
			wantError(t, err, batch.CodeUnavailable, false)
			if !b.ID().IsZero() || b.Age(time.Now()) != 0 {
				t.Fatalf("batch %d kept the id %s", i, b.ID())
			}
			own := numbered(1)
			own.Use(time.Now(), func() batch.ID { return batch.ID{Stream: batch.NewStreamID(), Sequence: 1} })
			_, err = c.Submit(over, "G", own)
			wantError(t, err, batch.CodeCancelled, true)
		}
		if _, producers := c.Held(); producers != 0 || c.Open() != 0 {
			t.Errorf("%d producers and %d batches are kept", producers, c.Open())
		}

		// Some that did leave in between change nothing.
		k := n.start("a:7700")
		time.Sleep(5 * time.Second) // until it is found
		exchange(t, c, k, numbered(1))
		for range 200 {
			_, err := c.Submit(over, "F", numbered(1))
			wantError(t, err, batch.CodeCancelled, false)
		}
		if m := exchange(t, c, k, numbered(1)); m.Floor != m.Sequence {
			t.Errorf("the floor is %d at sequence %d", m.Floor, m.Sequence)
		}
		if _, producers := c.Held(); producers != 1 || c.Open() != 0 {
			t.Errorf("%d producers and %d batches are kept", producers, c.Open())
		}
	})
}
