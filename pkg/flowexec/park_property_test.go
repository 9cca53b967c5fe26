package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// story is what happens to one row at each function that it comes to.
type story struct {
	Key    string `json:"k"`
	Number int    `json:"n"` // counts the key's rows
	Fails  int    `json:"fails"`
	Want   string `json:"want"` // what it loads; "": a key that is there
	Late   int    `json:"late"` // fails behind the Load
	Copies int    `json:"copies"`
	Skips  string `json:"skips"` // where it jumps from the first function; "": nowhere
}

// outcome is how a row ends when it runs alone.
func (s story) outcome(saved map[string]bool) string {
	if s.Skips != "" {
		s.Fails, s.Copies = 0, 1
	}
	if s.Skips == "g" {
		s.Want, s.Late = "", 0
	}
	switch {
	case s.Fails > 2:
		return "FUNCTION_ERROR r"
	case s.Copies == 0:
		return "NOT_COMMITTED e"
	case s.Want != "" && !saved[s.Want]:
		return "LOAD_TIMEOUT l"
	case s.Late > 2:
		return "FUNCTION_ERROR t"
	}
	return fmt.Sprintf("%d rows", s.Copies)
}

func draw(t *rapid.T, key string, n int) story {
	often := rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 3})
	return story{
		Key: key, Number: n, Fails: often.Draw(t, "fails"), Late: often.Draw(t, "late"), Copies: rapid.IntRange(0, 3).Draw(t, "copies"),
		Skips: rapid.SampledFrom([]string{"", "", "", "", "l", "g"}).Draw(t, "skips"),
		Want:  rapid.SampledFrom([]string{"", "", "", "x", "y", "never"}).Draw(t, "want"),
	}
}

// act is one thing that happens: rows are sent, a key is saved, a slot is recalled, or time passes.
type act struct {
	rows   []story
	save   string
	recall string
	pass   time.Duration
}

// play draws what happens.
func play(t *rapid.T) (acts []act) {
	keys := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	number := make(map[string]int)
	for range rapid.IntRange(1, 12).Draw(t, "acts") {
		var a act
		switch rapid.IntRange(0, 8).Draw(t, "act") {
		case 0, 1:
			a.pass = time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond
		case 2:
			a.save = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "save")
		case 3:
			a.recall = keys.Draw(t, "recall")
		default:
			for range rapid.IntRange(1, 12).Draw(t, "rows") {
				s := draw(t, keys.Draw(t, "key"), 0)
				s.Number = number[s.Key]
				number[s.Key]++
				a.rows = append(a.rows, s)
			}
		}
		acts = append(acts, a)
	}
	return acts
}

// Whatever rows wait for, each key's rows are first executed in order by every function, and end as if each ran alone. Of
// keys whose slots are recalled what has not ended comes back.
func TestParkingKeepsOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lanes, acts := rapid.IntRange(1, 3).Draw(rt, "lanes"), play(rt)
		var wrong []string
		bubble.Test(t, func(t *testing.T) { wrong = parking(t, lanes, acts) })
		for _, problem := range wrong {
			rt.Error(problem)
		}
	})
}

func parking(t *testing.T, copies int, acts []act) (wrong []string) {
	tell := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	b := &bed{t: t, store: newRecorder(t), begin: time.Now()}
	first := make(map[string][]int) // function and key → rows, in the order of first executions
	seen := make(map[string]bool)
	visit := func(function string, s story) {
		b.logging.Lock()
		defer b.logging.Unlock()
		if of := fmt.Sprint(function, " ", s.Key, " ", s.Number); !seen[of] {
			seen[of] = true
			first[function+s.Key] = append(first[function+s.Key], s.Number)
		}
	}
	fail := func(ctx context.Context, times int) error {
		if kis.From(ctx).Attempt <= times {
			return errors.New("not yet")
		}
		return nil
	}
	registry := kis.NewRegistry()
	registry.Func("j", kis.Verify(ctxErr(func(s story) error {
		if s.Skips != "" {
			return kis.Jump(s.Skips)
		}
		return nil
	})))
	registry.Func("r", kis.Verify(func(ctx context.Context, s story) error { visit("r", s); return fail(ctx, s.Fails) }))
	registry.Func("e", kis.Expand(func(_ context.Context, s story, emit func(story)) error {
		visit("e", s)
		for range s.Copies {
			emit(s)
		}
		return nil
	}))
	registry.Func("l", kis.Load(func(s story) string {
		if s.Want == "" {
			return "there"
		}
		return s.Want
	}, func(_ context.Context, s story, _ *map[string]string) (story, error) { visit("l", s); return s, nil }))
	registry.Func("t", kis.Verify(func(ctx context.Context, s story) error { visit("t", s); return fail(ctx, s.Late) }))
	registry.Func("g", kis.Batch(func(_ context.Context, rows []story) ([]story, error) {
		for _, s := range rows {
			visit("g", s)
		}
		return rows, nil
	}))
	plan, err := flowexec.Compile(bundle(t, chain("shard_key: k\ntimeout: 1h\n",
		"j Verify", "r Verify; retry_times: 2; retry_duration: 1s", "e Expand", "l Load; wait: 5s", "t Verify; retry_times: 2; retry_duration: 300ms", "g Calculate")), registry)
	if err != nil {
		t.Fatal(err)
	}
	metrics, parked := countParked(t)
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: copies, Connectors: pool{b.store}, Metrics: metrics})
	if copies%2 == 0 {
		lanes.Watch(taps()) // they change nothing
	}
	defer lanes.Stop()
	b.save("there")
	saved := map[string]bool{}
	stories := make(map[*flowexec.Part][]story)
	recalled := make(map[string]bool) // keys that went elsewhere
	for _, a := range acts {
		time.Sleep(a.pass)
		synctest.Wait()
		switch {
		case a.save != "" && time.Since(b.begin) < 4*time.Second: // later, all depends on when a row first looked
			b.save(a.save)
			saved[a.save] = true
		case a.recall != "":
			recalled[a.recall] = true
			lanes.Release([]batch.Range{{First: uint32(slotFor(a.recall)), Count: 1}}, nil)
		}
		p := &flowexec.Part{Plan: plan, Output: true, Attempt: 1, Done: b.done}
		for _, s := range a.rows {
			if recalled[s.Key] {
				continue
			}
			stories[p] = append(stories[p], s)
			p.Columns.Append(fmt.Appendf(nil, `{"k":%q,"n":%d,"fails":%d,"want":%q,"late":%d,"copies":%d,"skips":%q}`,
				s.Key, s.Number, s.Fails, s.Want, s.Late, s.Copies, s.Skips))
			p.Columns.Keys = append(p.Columns.Keys, slotFor(s.Key))
		}
		if p.BatchRows = len(stories[p]); p.BatchRows > 0 {
			lanes.Enqueue(p)
		}
	}
	if err := lanes.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := parked(); n != 0 {
		tell("%d rows are said to be parked", n)
	}
	for of, numbers := range first {
		if !slices.IsSorted(numbers) {
			tell("function and key %s first ran rows in the order %v", of, numbers)
		}
	}
	for p, rows := range stories {
		got := make(map[uint32]string)
		times := make(map[uint32]int)
		for _, r := range b.runs {
			if r.Part != p {
				continue
			}
			ended := r.Rows
			if ended == nil {
				for i := range rows {
					ended = append(ended, uint32(i))
				}
			}
			for _, row := range ended {
				times[row]++
			}
			for _, row := range r.Returned {
				got[row] = "returned"
			}
			for _, o := range r.NotDone {
				got[o.Row] = o.Code.String() + " " + o.Function
			}
			outputs := make(map[uint32]int)
			for _, origin := range r.Output.Origins {
				outputs[origin]++
			}
			for row, n := range outputs {
				if got[row] == "" {
					got[row] = fmt.Sprintf("%d rows", n)
				}
			}
		}
		for i, s := range rows {
			row := uint32(i)
			want := s.outcome(saved)
			if times[row] != 1 {
				tell("row %d, %+v, ended %d times", i, s, times[row])
			}
			if got[row] != want && (got[row] != "returned" || !recalled[s.Key]) {
				tell("row %d, %+v, ended as %q, not %q", i, s, got[row], want)
			}
		}
	}
	return wrong
}

// slotFor spreads the keys over the lanes.
func slotFor(key string) uint64 { return uint64(key[0]-'a') << 14 }
