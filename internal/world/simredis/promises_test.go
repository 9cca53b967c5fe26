package simredis_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/redisfault"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

var (
	livesFlag = flag.Int("lives", 20, "how many lives TestSavesInTrouble and TestLettersInTrouble live through")
	firstFlag = flag.Uint64("life", 1, "seed of the first life")
)

// ownAnswers are the beginnings of answers that Redis gives about a row's own command. A script's command may get one, and no script.
var ownAnswers = []string{"WRONGTYPE", "BUSYKEY", "BUSYGROUP", "NOGROUP", "ERR hash", "ERR value", "ERR increment", "ERR string", "ERR no such", "ERR index", "ERR offset"}

// stateAnswers returns the errors that Redis gives about its state, and may give to any command.
func stateAnswers() []string {
	return slices.DeleteFunc(redisfault.Answers(), func(text string) bool {
		return slices.ContainsFunc(ownAnswers, func(begin string) bool {
			return strings.HasPrefix(text, begin) || strings.Contains(text, "@user_script") && strings.Contains(text, begin)
		}) ||
			text == "ERR" || text == "?" || strings.HasPrefix(text, "FROZEN") || strings.HasPrefix(text, "ERR something")
	})
}

// life is one life of a few workers' connectors and a Redis. Lanes save batches of rows, each over one connector or another, and again until
// they have an answer, while Redis and the network are in trouble.
type life struct {
	t        *testing.T
	random   *rand.Rand // of the troubles
	net      *simnet.Net
	redis    *simredis.Redis
	workers  []connector.Connection
	begin    time.Time
	troubled time.Duration // how long troubles happen

	mu   sync.Mutex
	done map[string]time.Time // effects that a connector called done: the text of a list's entry; guarded by mu
	dead map[string]string    // effects that it called refused, with the error; guarded by mu
	log  []string             // guarded by mu
}

const (
	lanes        = 5
	keysOfALane  = 3
	batchesALane = 12
)

// note keeps a line for the report of a breach.
func (l *life) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf("%8.3fs ", time.Since(l.begin).Seconds())+fmt.Sprintf(format, args...))
}

// TestSavesInTrouble lets connectors save through every trouble that Redis and the network have. A Save that is done has its effect in Redis,
// once and in the order of its key, unless a failover has lost it. A Save that is refused has none. When the troubles are over, everything
// is saved soon, and whoever waited for a key has been told.
func TestSavesInTrouble(t *testing.T) {
	for n := range *livesFlag {
		seed := *firstFlag + uint64(n)
		bubble.Test(t, func(t *testing.T) { live(t, seed) })
		if t.Failed() {
			t.Fatalf("it was the life with the seed %d: -life=%d -lives=1", seed, seed)
		}
	}
}

// live lives one life.
func live(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l := &life{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), net: simnet.New(seed), begin: time.Now(), troubled: 20 * time.Second,
		done: map[string]time.Time{}, dead: map[string]string{},
	}
	var err error
	l.redis, err = simredis.Start(ctx, simredis.Config{
		Listen:   func(ctx context.Context) (net.Listener, error) { return l.net.Host("redis-1").Listen(ctx, ":6379") },
		Owner:    func(c net.Conn) string { return c.(*simnet.Conn).Peer() },
		Password: "one", Replicas: 1, Lag: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.redis.Close()
	for i := range 3 {
		name := "w" + strconv.Itoa(i+1)
		c, err := redis.Config{Network: simredis.ForClients(l.net.Host(name).Process(name))}.Open(ctx, &definition.Connector{
			Name: "Store", Type: "redis", Addrs: []string{"redis-1:6379"}, Key: "w:", Params: map[string]string{"password": "one", "retries": strconv.Itoa(l.random.IntN(4))},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l.workers = append(l.workers, c)
	}
	var group sync.WaitGroup
	for lane := range lanes {
		group.Go(func() { l.lane(ctx, lane, rand.New(rand.NewPCG(seed, 10+uint64(lane)))) })
		group.Go(func() { l.wait(ctx, lane) })
	}
	group.Go(l.trouble)
	group.Wait()
	if took := time.Since(l.begin); took > l.troubled+2*time.Minute {
		l.breach("", "it took %v", took)
	}
	l.check()
	if t.Failed() {
		return
	}
	time.Sleep(5 * time.Second)
	for _, c := range l.workers {
		if err := c.(interface{ Down() error }).Down(); err != nil {
			l.breach("", "a connector is down after the troubles: %v", err)
		}
	}
}

// lane saves batches in order, each until it has an answer.
func (l *life) lane(ctx context.Context, lane int, random *rand.Rand) {
	for sequence := range batchesALane {
		cause := connector.Cause{Flow: "F", Function: "Save", Batch: batch.ID{Stream: batch.StreamID{byte(lane)}, Sequence: uint64(sequence + 1)}, Floor: uint64(sequence + 1), Born: time.Now()}
		var effects []connector.Effect
		for row := range 1 + random.IntN(6) {
			key := fmt.Sprintf("%d:%d", lane, random.IntN(keysOfALane))
			effects = append(effects,
				connector.Effect{Op: connector.Append, Key: "list:" + key, Value: fmt.Sprintf("%d/%02d/%d", lane, sequence, row), Row: uint32(row)},
				connector.Effect{Op: connector.Incr, Key: "sum:" + key, Field: "n", Value: "1", Row: uint32(row), Command: 1})
		}
		for try := 1; !l.save(ctx, cause, effects, random, try) && ctx.Err() == nil; try++ {
			time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
		}
		if random.IntN(4) == 0 { // somebody who was given up for dead does it again
			l.save(ctx, cause, effects, random, 0)
		}
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
	}
	effect := []connector.Effect{{Op: connector.Set, Key: "end:" + strconv.Itoa(lane), Field: "f", Value: "v"}}
	for ctx.Err() == nil {
		if verdicts, err := l.workers[lane%3].Save(ctx, connector.Cause{}, effect); err == nil && verdicts == nil {
			break
		}
		time.Sleep(time.Second)
	}
}

// save saves a batch over some connector, or over two at once, for some time. It reports whether there is an answer.
func (l *life) save(ctx context.Context, cause connector.Cause, effects []connector.Effect, random *rand.Rand, try int) (answered bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(20+random.IntN(8000))*time.Millisecond)
	defer cancel()
	at := random.IntN(3)
	once := func(worker int) bool {
		verdicts, err := l.workers[worker].Save(ctx, cause, effects)
		l.note("lane %d saves %d over w%d, try %d: %v, %v", cause.Batch.Stream[0], cause.Batch.Sequence, worker+1, try, verdicts, err)
		if err != nil {
			return false
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, e := range effects {
			name := nameOf(&cause, &e)
			switch {
			case verdicts == nil || verdicts[i] == nil:
				if _, is := l.done[name]; !is {
					l.done[name] = time.Now()
				}
			default:
				l.dead[name] = verdicts[i].Error()
			}
		}
		return true
	}
	if random.IntN(5) > 0 {
		return once(at)
	}
	var group sync.WaitGroup
	var both [2]bool
	for i := range both {
		group.Go(func() { both[i] = once((at + i) % 3) })
	}
	group.Wait()
	return both[0] || both[1]
}

// nameOf names an effect: an entry of a list by its text, an addition by that of its row and a plus.
func nameOf(cause *connector.Cause, e *connector.Effect) string {
	if e.Op == connector.Append {
		return e.Value
	}
	return fmt.Sprintf("%d/%02d/%d+", cause.Batch.Stream[0], cause.Batch.Sequence-1, e.Row)
}

// wait waits for the last key of a lane, over another connector.
func (l *life) wait(ctx context.Context, lane int) {
	key, told := "end:"+strconv.Itoa(lane), make(chan struct{}, 1)
	w := l.workers[(lane+1)%3].Watch(func(string) {
		select {
		case told <- struct{}{}:
		default:
		}
	})
	w.Add(key)
	select {
	case <-told:
	case <-ctx.Done():
		l.breach("", "nobody is told of %s", key)
	}
}

// trouble makes troubles happen, one after the other, and then mends them all.
func (l *life) trouble() {
	r, p := l.redis, l.random
	strike := rand.New(rand.NewPCG(p.Uint64(), 2)) // of rules alone, which connections ask
	var faults []*simnet.Fault
	over := func() {
		r.Let(nil)
		r.SetSlow(0)
		r.Resume()
		r.Fill(false)
		r.ReadOnly(false)
		r.RefuseWrites("")
		r.Load(false)
		r.SetPassword("one")
		_ = r.Up(l.t.Context())
		for _, f := range faults {
			f.Heal()
		}
		faults = nil
	}
	pause := func(most int) time.Duration { return time.Duration(1+p.IntN(most)) * time.Millisecond }
	time.Sleep(pause(1000))
	for time.Since(l.begin) < l.troubled {
		kind := p.IntN(16)
		l.note("trouble %d", kind)
		worker := "w" + strconv.Itoa(1+p.IntN(3))
		switch kind {
		case 0, 1:
			r.Let(simredis.Often(strike, 50+p.IntN(500), stateAnswers()))
		case 2:
			bytes := p.IntN(30)
			r.Let(func(simredis.Command) simredis.Fault {
				if strike.IntN(4) > 0 {
					return simredis.Fault{}
				}
				return simredis.Fault{Done: true, Cut: true, Bytes: bytes}
			})
		case 3:
			answers := stateAnswers()
			answer := answers[p.IntN(len(answers))]
			r.Let(func(c simredis.Command) simredis.Fault {
				if c.IsHandshake() {
					return simredis.Fault{Answer: answer}
				}
				return simredis.Fault{}
			})
			r.CutAll()
		case 4:
			r.Fill(true)
		case 5:
			r.ReadOnly(true)
		case 6:
			r.Load(true)
		case 7:
			r.RefuseWrites("MISCONF Errors writing to the AOF file: No space left on device")
		case 8:
			r.Pause()
		case 9:
			r.SetSlow(pause(4000))
		case 10:
			r.SetPassword("two")
			r.CutAll()
		case 11:
			r.Down()
			time.Sleep(pause(3000))
			if p.IntN(2) == 0 {
				l.must(r.Failover())
			}
		case 12:
			l.must(r.Failover())
		case 13:
			faults = append(faults, l.net.Break(simnet.Trouble{From: worker, To: "redis-1", BothWays: p.IntN(2) == 0, Cut: true}))
		case 14:
			faults = append(faults, l.net.Break(simnet.Trouble{From: "redis-1", To: worker, Cut: true}))
		case 15:
			l.net.Reset(worker, "redis-1")
			r.Let(func(c simredis.Command) simredis.Fault { return simredis.Fault{Hang: strike.IntN(20) == 0} })
		}
		time.Sleep(pause(4000))
		over()
		r.CutAll()
		time.Sleep(pause(2000))
	}
	over()
	r.CutAll()
	l.note("calm")
}

// must fails the test if there is an error.
func (l *life) must(err error) {
	if err != nil {
		l.t.Error(err)
	}
}

// breach reports a broken promise, with the lines of the journal and the log that have a text.
func (l *life) breach(text, format string, args ...any) {
	l.t.Errorf(format, args...)
	for _, w := range l.redis.Journal() {
		if text != "" && slices.Contains(w.Args, text) {
			l.t.Logf("journal: %v by connection %d of %s: %s %q, lost %v", w.At.Sub(l.begin), w.Conn, w.Owner, w.Name, w.Args, w.Lost)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.log {
		l.t.Log(line)
	}
}

// check holds the data against what the lanes were told.
func (l *life) check() {
	lost := map[string]bool{} // entries of lists whose write was undone
	for _, w := range l.redis.Journal() {
		if w.Name == "RPUSH" && w.Lost {
			lost[w.Args[1]] = true
		}
	}
	there := map[string]bool{}
	for lane := range lanes {
		for n := range keysOfALane {
			key := fmt.Sprintf("%d:%d", lane, n)
			list := l.redis.List(0, "w:list:"+key)
			if !slices.IsSorted(list) {
				l.breach("", "the list of %s is out of order: %q", key, list)
				return
			}
			for _, text := range list {
				if there[text] {
					l.breach(text, "the effect %s took place twice", text)
					return
				}
				there[text] = true
			}
			if sum := l.redis.Hash(0, "w:sum:"+key)["n"]; len(list) > 0 && sum != strconv.Itoa(len(list)) {
				l.breach("w:sum:"+key, "the sum of %s is %s, the list has %d: %q", key, sum, len(list), list)
				return
			}
		}
	}
	for text := range l.done {
		if !strings.HasSuffix(text, "+") && !there[text] && !lost[text] {
			l.breach(text, "%s is done, and is not there", text)
			return
		}
	}
	for text, why := range l.dead {
		l.breach(text, "%s was refused: %s", text, why)
		return
	}
}
