package admin

import (
	"context"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

// keyedRunner is a LetterRunner that gives letters the shard keys of a flow's revision, and notes which letters are started. A letter without
// a key can't be run.
type keyedRunner struct {
	keys    map[string]uint64 // by the row; 0 means that the revision has no shard key
	started []string          // rows
}

func (r *keyedRunner) Prepare(l *deadletter.Letter) (*Attempt, error) {
	key, ok := r.keys[string(l.Row)]
	if !ok {
		return nil, batch.Errorf(batch.CodeRowUndecodable, "no key")
	}
	return &Attempt{Letter: l, Keyed: key != 0, Key: key}, nil
}

func (r *keyedRunner) Begin(bool) Attempts { return r }

func (r *keyedRunner) Start(_ context.Context, a *Attempt) error {
	r.started = append(r.started, string(a.Letter.Row))
	return nil
}

func (r *keyedRunner) Ready() <-chan struct{} { return nil }
func (r *keyedRunner) Ended() []*Attempt      { return nil }
func (r *keyedRunner) Finish(*Attempt)        {}
func (r *keyedRunner) Close()                 {}

// A letter that waits for another of its shard key runs by the key that its flow has when its turn comes: documents may change meanwhile.
func TestShardKeyChangesDuringRedrive(t *testing.T) {
	runner := &keyedRunner{keys: map[string]uint64{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}}
	r := &redrive{admin: &admin{Config: Config{Runner: runner}}, attempts: runner, tally: &redriveTally{reasons: map[deadReason]uint64{}}, keys: map[uint64]*keyQueue{}}
	ended := func(row string, key uint64, failed bool, want ...string) {
		t.Helper()
		runner.started = nil
		if err := r.release(t.Context(), &Attempt{Letter: &deadletter.Letter{Row: []byte(row)}, Keyed: key != 0, Key: key}, failed); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(runner.started, want) {
			t.Errorf("behind %s, %q are started, not %q", row, runner.started, want)
		}
	}
	for _, row := range []string{"a", "b", "c", "d", "e", "f"} {
		r.rows++
		if err := r.queue(t.Context(), &deadletter.Letter{Flow: "F", Row: []byte(row)}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(runner.started, []string{"a"}) {
		t.Fatalf("%q are started", runner.started)
	}
	runner.keys = map[string]uint64{"b": 2, "c": 2, "d": 0, "f": 3}
	ended("a", 1, false, "b", "d", "f")
	ended("d", 0, false)
	ended("f", 3, false)
	ended("b", 2, false, "c")
	ended("c", 2, true)
	if len(r.keys) != 1 || !r.keys[2].stuck {
		t.Errorf("queues %v are left", r.keys)
	}
	if r.rows != 5 { // settle takes the others out
		t.Errorf("%d letters are under way or wait", r.rows)
	}
	if n := r.tally.reasons[deadReason{flow: "F", code: batch.CodeRowUndecodable, reason: "no key"}]; n != 1 {
		t.Errorf("%d letters could not be run: %v", n, r.tally.reasons)
	}
	if err := r.queue(t.Context(), &deadletter.Letter{Row: []byte("c")}); err != nil || len(runner.started) != 0 {
		t.Errorf("a letter of a stuck key is started: %q, %v", runner.started, err)
	}
}

// TestLimited lets as many letters begin as the limit has room for, and then says when the next one may.
func TestLimited(t *testing.T) {
	t.Parallel()
	r := &redrive{}
	if r.limited() {
		t.Error("a redrive without a limit waits")
	}
	r.limit = rate.NewLimiter(rate.Every(time.Hour), 2)
	for range 2 {
		if r.limited() {
			t.Fatal("a letter waits although there is room")
		}
	}
	for range 3 {
		if !r.limited() || r.paced == nil {
			t.Fatal("a letter begins although there is no room")
		}
	}
	if left := r.limit.Tokens(); left < 0 {
		t.Errorf("letters that wait have taken %v tokens", -left)
	}
}
