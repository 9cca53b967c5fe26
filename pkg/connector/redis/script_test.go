package redis

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// model is what a store and its records must come to.
type model struct {
	hashes map[string]map[string]float64
	lists  map[string][]string
	seen   map[saved]bool
	floors map[place]uint64
	slot   func(key string) int
}

// place is where a stream has a record.
type place struct {
	stream batch.StreamID
	slot   int
}

// saved is an effect of a batch.
type saved struct {
	id  batch.ID
	row uint32
}

// save takes in a Save. It returns which effects must be refused, and whether its batch is given up, somewhere.
func (m *model) save(cause *connector.Cause, effects []connector.Effect) (refused []bool, givenUp bool) {
	below := map[place]bool{} // its floor
	refused = make([]bool, len(effects))
	for i, e := range effects {
		at, name := place{cause.Batch.Stream, m.slot(e.Key)}, saved{cause.Batch, e.Row}
		if !cause.Batch.IsZero() {
			m.floors[at] = max(m.floors[at], cause.Floor)
			below[at] = cause.Batch.Sequence < m.floors[at]
			givenUp = givenUp || below[at]
		}
		if !below[at] && !m.seen[name] {
			refused[i] = !m.apply(e)
			m.seen[name] = !refused[i] && !cause.Batch.IsZero()
		}
	}
	return refused, givenUp
}

func (m *model) apply(e connector.Effect) (ok bool) {
	hash, list := m.hashes[e.Key], m.lists[e.Key]
	switch e.Op {
	case connector.Delete:
		delete(m.hashes, e.Key)
		delete(m.lists, e.Key)
	case connector.Append:
		if hash != nil {
			return false
		}
		m.lists[e.Key] = append(list, e.Value)
	default:
		if list != nil {
			return false
		}
		if hash == nil {
			hash = map[string]float64{}
			m.hashes[e.Key] = hash
		}
		n, _ := strconv.ParseFloat(e.Value, 64)
		if e.Op == connector.Incr {
			n += hash[e.Field]
		}
		hash[e.Field] = n
	}
	return true
}

// Scripts of several Saves carry out each as if it were alone: whatever operations and fields follow each other, with batches that
// are given up, effects that took place before, and some that are refused among them.
func TestScriptsOfSeveralSaves(t *testing.T) {
	const rounds = 300
	for name, addrs := range map[string][]string{"single": {startServer(t, "").addr}, "cluster": startCluster(t)} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			dice := rand.New(rand.NewPCG(seed, 0))
			c := open(t, document(addrs...))
			m := &model{map[string]map[string]float64{}, map[string][]string{}, map[saved]bool{}, map[place]uint64{}, func(string) int { return 0 }}
			if c.cluster != nil {
				m.slot = slotOf
			}
			streams := []batch.StreamID{batch.NewStreamID(), batch.NewStreamID()}
			next := []uint64{1, 1}
			type save struct {
				cause   connector.Cause
				effects []connector.Effect
			}
			var before []save
			draw := func() save {
				if len(before) > 0 && dice.IntN(3) == 0 { // again, in part
					s := before[max(0, len(before)-1-dice.IntN(8))]
					if !s.cause.Batch.IsZero() {
						s.effects = s.effects[dice.IntN(len(s.effects)):]
						return s
					}
				}
				s := save{cause: connector.Cause{Flow: "F", Function: "s"}}
				if i := dice.IntN(3); i < len(streams) {
					s.cause.Batch = batch.ID{Stream: streams[i], Sequence: next[i]}
					s.cause.Floor = max(1, next[i]-min(next[i], dice.Uint64N(4)))
					if next[i]++; dice.IntN(16) == 0 {
						s.cause.Floor += dice.Uint64N(6) // over the batch itself
					}
				}
				e := connector.Effect{}
				n := 1 + dice.IntN(20)
				if dice.IntN(50) == 0 {
					n += maxPart // more than one share
				}
				for row := range n {
					if row == 0 || dice.IntN(4) == 0 {
						e.Op = []connector.Op{connector.Set, connector.Incr, connector.Append, connector.Delete}[dice.IntN(4)]
					}
					if dice.IntN(4) == 0 {
						e.Field = []string{"", "a", "b", "[^S]"}[dice.IntN(4)]
					}
					e.Key, e.Value, e.Row = "k"+strconv.Itoa(dice.IntN(12)), strconv.FormatFloat(float64(dice.IntN(9))/2, 'f', -1, 64), uint32(row)
					s.effects = append(s.effects, e)
				}
				before = append(before, s)
				return s
			}
			for round := range rounds {
				var saves []save
				var reqs []*request
				for range 1 + dice.IntN(5) {
					s := draw()
					one, err := c.encode(&s.cause, s.effects)
					if err != nil {
						t.Fatal(err)
					}
					one.done, one.gone = make(chan struct{}), context.Background().Done()
					saves, reqs = append(saves, s), append(reqs, one)
				}
				c.sendSaves(t.Context(), reqs)
				for i, s := range saves {
					if reqs[i].err != nil {
						t.Fatal(reqs[i].err)
					}
					refused, givenUp := m.save(&s.cause, s.effects)
					if slices.ContainsFunc(reqs[i].parts, func(s *scriptPart) bool { return s.givenUp }) != givenUp {
						t.Fatalf("round %d: batch %v with floor %d is given up: %v", round, s.cause.Batch, s.cause.Floor, !givenUp)
					}
					for k := range refused {
						if got := reqs[i].verdicts != nil && reqs[i].verdicts[k] != nil; got != refused[k] {
							t.Fatalf("round %d: %+v is refused: %v", round, s.effects[k], got)
						}
					}
				}
			}
			client := goredis.NewUniversalClient(&goredis.UniversalOptions{Addrs: addrs})
			defer client.Close()
			for k := range 12 {
				key := "k" + strconv.Itoa(k)
				hash, list := client.HGetAll(t.Context(), key), client.LRange(t.Context(), key, 0, -1)
				got := map[string]float64{}
				for field, text := range hash.Val() {
					n, err := strconv.ParseFloat(text, 64)
					if err != nil {
						t.Fatal(err)
					}
					got[field] = n
				}
				if diff := cmp.Diff(m.hashes[key], got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("hash %s (- wanted, + got):\n%s", key, diff)
				}
				if diff := cmp.Diff(m.lists[key], list.Val(), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("list %s (- wanted, + got):\n%s", key, diff)
				}
			}
		})
	}
}
