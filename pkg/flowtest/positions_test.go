package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

const logged = "kistype: flow\nflow_name: Log\nstatus: 1\nshard_key: id\nflows: [{fname: Twice}, {fname: Sum}]\n---\n" +
	"kistype: func\nfname: Twice\nfmode: Expand\n---\n" +
	"kistype: func\nfname: Sum\nfmode: Save\noption: {cname: Store}\n---\n" +
	"kistype: flow\nflow_name: Look\nstatus: 1\nshard_key: id\nflows: [{fname: Find}]\n---\n" +
	"kistype: func\nfname: Find\nfmode: Load\noption: {cname: Store, on_missing: 'null'}\n---\n" +
	"kistype: conn\ncname: Store\ntype: redis\naddrs: ${REDIS_ADDR}\nkey: log_\nparams: {read_timeout: 200ms, dial_timeout: 200ms}\n"

// entry is a row of the log: at is its position, and n tells the rows apart that Twice makes of it.
type entry struct {
	ID int    `json:"id"`
	At uint64 `json:"at"`
	N  int    `json:"n,omitempty"`
}

// sums is what Sum has saved of a key.
type sums struct {
	ID    int    `json:"id"`
	Rows  string `json:"rows"`
	Last  string `json:"last"`
	Names string `json:"names"`
}

func registerLog(r *kis.Registry) {
	r.Func("Twice", kis.Expand(func(_ context.Context, in entry, emit func(entry)) error {
		emit(in)
		emit(entry{in.ID, in.At, 1})
		return nil
	}))
	r.Func("Sum", kis.Save(func(ctx context.Context, to kis.Writer, in entry) error {
		key := strconv.Itoa(in.ID)
		to.Incr(key, "rows", 1)
		to.Set(key, "last", fmt.Sprint(in.At, " ", in.N))
		to.Set(key, "names", kis.From(ctx).RowID().String())
		to.Append("list"+key, fmt.Sprint(in.At, " ", in.N))
		return nil
	}))
	r.Func("Find", kis.Load(func(in entry) string { return strconv.Itoa(in.ID) }, func(_ context.Context, in entry, saved *map[string]string) (sums, error) {
		if saved == nil {
			return sums{ID: in.ID}, nil
		}
		return sums{in.ID, (*saved)["rows"], (*saved)["last"], (*saved)["names"]}, nil
	}))
}

// broker has a log, and the position below which its readers have committed every row.
type broker struct {
	id   client.LogID
	rows uint64 // the number of rows; row i has the key i % keys
	keys uint64

	mu        sync.Mutex
	committed uint64          // guarded by mu
	settled   map[uint64]bool // guarded by mu: at and above committed
}

// settle notes that a row has its outcome, and commits the rows below the first that has none.
func (b *broker) settle(at uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled[at] = true
	for b.settled[b.committed] {
		delete(b.settled, b.committed)
		b.committed++
	}
}

// floor returns the committed position.
func (b *broker) floor() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.committed
}

// errCrash ends a reader of the test.
var errCrash = errors.New("the reader crashes")

// read reads the log from its committed position to its end, in batches cut at random, and commits what has its outcome. Rows that failed are
// sent again. It crashes after so many batches, without waiting for answers; below 0 means never. It returns errCrash, or the error that
// ended it.
func (b *broker) read(ctx context.Context, c *client.Client, dice *rand.Rand, crash int) error {
	term, err := c.BeginTerm(ctx, "Log", b.id, b.floor())
	for batch.CodeOf(err) == batch.CodeLogRewound || batch.CodeOf(err).Retryable() { // another reader has committed meanwhile
		time.Sleep(10 * time.Millisecond)
		term, err = c.BeginTerm(ctx, "Log", b.id, b.floor())
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Stream(ctx, "Log")
	if err != nil {
		return err
	}
	next := term.Floor
	for next < b.rows {
		var sent []*client.Pending
		var firsts []uint64
		for range 1 + dice.IntN(8) {
			if next == b.rows {
				break
			}
			if crash == 0 {
				return errCrash
			}
			crash--
			n := min(b.rows-next, uint64(1+dice.IntN(60)))
			p, err := b.send(ctx, stream, term, next, n)
			if err != nil {
				return err
			}
			sent, firsts, next = append(sent, p), append(firsts, next), next+n
		}
		for i, p := range sent {
			if err := b.await(ctx, stream, term, p, firsts[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends n rows of the log.
func (b *broker) send(ctx context.Context, stream *client.Stream, term *client.Term, first, n uint64) (*client.Pending, error) {
	rows, positions := make([]entry, n), make([]uint64, n)
	for i := range n {
		rows[i], positions[i] = entry{ID: int((first + i) % b.keys), At: first + i}, first+i
	}
	all := client.Rows(rows...)
	if err := term.Place(all, b.floor(), positions); err != nil {
		return nil, err
	}
	return stream.Send(ctx, all, client.NoOutput())
}

// await waits for a batch that began at position first, and sends its rows again until none fails.
func (b *broker) await(ctx context.Context, stream *client.Stream, term *client.Term, p *client.Pending, first uint64) error {
	for {
		result, err := p.Wait(ctx)
		if err != nil {
			return err
		}
		failed := map[uint32]bool{}
		for _, o := range result.NotDone {
			if o.Code == batch.CodeLogSuperseded {
				return batch.Errorf(o.Code, "%s", o.Reason)
			}
			if o.Outcome != client.Failed {
				return fmt.Errorf("position %d is %v: %s", first+uint64(o.Row), o.Outcome, o.Reason)
			}
			failed[o.Row] = true
		}
		for i := range uint32(result.Rows) {
			if !failed[i] {
				b.settle(first + uint64(i))
			}
		}
		if len(failed) == 0 {
			return nil
		}
		if p, err = b.send(ctx, stream, term, first, uint64(result.Rows)); err != nil { // those that are settled change nothing
			return err
		}
	}
}

// Readers of a log crash, are superseded while they go on, and cut batches in other ways; workers die, and coordinators stand still. Each row
// takes effect once, and in the order of its key.
func TestLogIsReadOnce(t *testing.T) { inBothTimes(t, logIsReadOnce) }

func logIsReadOnce(t *testing.T) {
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	opts := []flowtest.Option{flowtest.Register(registerLog), flowtest.Coordinators(2)}
	virtual := strings.HasSuffix(t.Name(), inVirtualTime)
	if virtual {
		opts = append(opts, flowtest.VirtualTime())
	}
	g := flowtest.Cluster(t, 3, opts...)
	if err := g.Apply(logged); err != nil {
		t.Fatal(err)
	}
	b := &broker{id: client.LogIDOf(t.Name()), rows: 1000, keys: 7, settled: map[uint64]bool{}}
	var old sync.WaitGroup
	for round := 0; b.floor() < b.rows; round++ {
		if round == 200 {
			t.Fatalf("it does not come to an end: position %d of %d", b.floor(), b.rows)
		}
		crash := dice.IntN(25)
		if dice.IntN(3) > 0 {
			// This reader goes on while the next one begins: it ends by itself, because its term is over.
			own := rand.New(rand.NewPCG(seed, uint64(round)))
			old.Go(func() {
				if err := b.read(t.Context(), g.Client(), own, -1); err != nil && batch.CodeOf(err) != batch.CodeLogSuperseded {
					t.Errorf("a reader that was superseded: %v", err)
				}
			})
			time.Sleep(time.Duration(dice.IntN(20)) * time.Millisecond)
		} else if err := b.read(t.Context(), g.Client(), dice, crash); err != nil && !errors.Is(err, errCrash) && batch.CodeOf(err) != batch.CodeLogSuperseded {
			t.Fatalf("round %d: %v", round, err)
		}
		switch dice.IntN(6) {
		case 0:
			w := g.Worker(dice.IntN(len(g.Workers())))
			w.Kill()
			w.Restart()
		case 1:
			time.AfterFunc(time.Duration(dice.IntN(3000))*time.Millisecond, g.Coordinator(dice.IntN(2)).Pause())
		}
	}
	old.Wait()
	b.check(t, g, !virtual)
}

// check fails the test unless each row of the log took effect once, in the order of its key.
func (b *broker) check(t *testing.T, g *flowtest.Grid, lists bool) {
	t.Helper()
	var asked []any
	for key := range b.keys {
		asked = append(asked, entry{ID: int(key)})
	}
	result := run(t, g.Client(), "Look", asked...)
	found, err := client.Output[sums](result)
	if err != nil {
		t.Fatal(err)
	}
	for key, got := range found {
		var all []string
		for at := uint64(key); at < b.rows; at += b.keys {
			all = append(all, fmt.Sprint(at, " ", 0), fmt.Sprint(at, " ", 1))
		}
		if got.Rows != strconv.Itoa(len(all)) || got.Last != all[len(all)-1] || !strings.HasPrefix(got.Names, b.id.String()) {
			t.Errorf("key %d: %+v, of %d rows", key, got, len(all))
		}
		if lists {
			r := redis.NewClient(&redis.Options{Addr: g.Redis()})
			list, err := r.LRange(t.Context(), "log_list"+strconv.Itoa(key), 0, -1).Result()
			if err != nil || !slices.Equal(list, all) {
				t.Errorf("key %d: the list has %d values, of %d, or another order: %v", key, len(list), len(all), err)
			}
			_ = r.Close()
		}
	}
}
