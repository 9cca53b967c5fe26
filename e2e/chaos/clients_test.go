//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// keys is the number of shard keys. Every client uses all of them.
const keys = 2000

// sent is one batch in a client's ledger, which lists the batches that the client has sent.
type sent struct {
	rows   []row
	at     time.Time // when Send was called
	batch  *client.Batch
	answer time.Time // when the last row was done; zero means that some row is not done
	tries  int
	// outOfOrder has the rows, by index, whose order is free: they came back failed, or their batch came back without an answer.
	outOfOrder map[int]bool
}

// producer is one client with one stream. Its ledger has every batch that it has sent.
type producer struct {
	id     uint32
	client *client.Client
	stream *client.Stream
	random *rand.Rand
	zipf   *rand.Zipf
	next   [keys]uint64 // by key: the sequence of the latest row

	mu       sync.Mutex
	ledger   []*sent  // guarded by mu
	breaches []string // guarded by mu
	resent   map[string]int
}

// startProducer makes a client of the target, an address or several, and opens its stream once the flow is active.
func startProducer(ctx context.Context, t *testing.T, id int, seed uint64, target string, logger hclog.Logger) *producer {
	t.Helper()
	p := &producer{id: uint32(id), random: rand.New(rand.NewPCG(seed, uint64(id))), resent: map[string]int{}}
	p.zipf = rand.NewZipf(p.random, 1.1, 4, keys-1)
	var err error
	if p.client, err = client.Dial(target, client.WithLogger(logger.Named(fmt.Sprintf("client-%d", id)))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.client.Close() })
	for deadline := time.Now().Add(*patienceFlag); ; {
		if p.stream, err = p.client.Stream(ctx, flowName); err == nil {
			return p
		}
		if batch.CodeOf(err) != batch.CodeUnknownFlow || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // the client gets no signal when the first revision becomes active
	}
}

// breach notes that a promise of the cluster was broken, for the end of the test.
func (p *producer) breach(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breaches = append(p.breaches, fmt.Sprintf("client %d: ", p.id)+fmt.Sprintf(format, args...))
}

// produce sends batches, rate rows per second and fewer while too many are unanswered, until stop is closed. It returns when each
// batch is answered, or ctx is done.
func (p *producer) produce(ctx context.Context, stop <-chan struct{}, rate float64) {
	const every = 25 * time.Millisecond
	load := testgrid.Load{
		Stream: p.stream, Every: every, Open: *openFlag, KeepOn: true,
		Next: func(int) *client.Batch {
			n := 1 + p.random.IntN(max(1, int(2*rate*every.Seconds())))
			s := &sent{rows: make([]row, n), outOfOrder: map[int]bool{}, tries: 1}
			for i := range s.rows {
				key := p.zipf.Uint64()
				p.next[key]++
				s.rows[i] = row{Client: p.id, Key: uint32(key), Sequence: p.next[key]}
			}
			s.batch, s.at = client.Rows(s.rows...), time.Now()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ledger = append(p.ledger, s)
			return s.batch
		},
		Answered: func(n int, r *client.Result, err error) {
			p.mu.Lock()
			s := p.ledger[n]
			p.mu.Unlock()
			p.finish(ctx, s, r, err)
		},
	}
	_ = load.Run(ctx, stop) // finish is told of each Send that fails
}

// finish takes the answer to a batch, and submits the batch again and again until each of its rows is done.
func (p *producer) finish(ctx context.Context, s *sent, r *client.Result, err error) {
	for {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.note(err)
			for i := range s.rows {
				s.outOfOrder[i] = true
			}
			if !errors.Is(err, client.ErrUnanswered) && !batch.CodeOf(err).Retryable() {
				p.breach("batch %s ended for good: %v", s.batch.ID(), err)
				return
			}
		default:
			if p.check(s, r) {
				s.answer = time.Now()
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
		s.tries++
		var pending *client.Pending
		if pending, err = p.stream.Send(ctx, s.batch); err == nil {
			r, err = pending.Wait(ctx)
		}
	}
}

// note counts, by its code, an error after which a batch is sent again.
func (p *producer) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resent[batch.CodeOf(err).String()]++
}

// check notes a breach unless each row has exactly one outcome, and each row that is done exactly one output. It reports whether
// all rows are done.
func (p *producer) check(s *sent, r *client.Result) (done bool) {
	outcomes := make([]int, len(s.rows))
	for i := range r.NotDone {
		o := &r.NotDone[i]
		outcomes[o.Row]++
		if o.Outcome != client.Failed {
			p.breach("row %+v of batch %s is %s: %s %s", s.rows[o.Row], s.batch.ID(), o.Outcome, o.Code, o.Reason)
			continue
		}
		s.outOfOrder[int(o.Row)] = true
		p.note(batch.Errorf(o.Code, "%s", o.Reason))
	}
	rows, err := client.Output[row](r)
	if err != nil {
		p.breach("batch %s: %v", s.batch.ID(), err)
	}
	for i, origin := range r.Output.Origins {
		outcomes[origin]++
		if rows[i] != s.rows[origin] {
			p.breach("batch %s: row %+v has the output %+v", s.batch.ID(), s.rows[origin], rows[i])
		}
	}
	for i, n := range outcomes {
		if n != 1 {
			p.breach("row %+v of batch %s has %d outcomes", s.rows[i], s.batch.ID(), n)
		}
	}
	return len(r.NotDone) == 0
}
