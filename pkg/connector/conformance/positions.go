package conformance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// readingOf makes the Cause of a Save for a batch of rows that stand in a log. Each has a batch id of its own, as batches of several readers
// do.
func readingOf(log batch.LogID, term, floor uint64) connector.Cause {
	at := cause()
	at.Log = &connector.Log{ID: log, Term: term, Floor: floor}
	return at
}

// counted makes an effect of the row at a position, which adds 1 to a field of the key counts that no other position has.
func counted(position uint64) connector.Effect {
	e := incr("counts", strconv.FormatUint(position, 10), "1")
	e.Position = position
	return e
}

// positions tests that an effect of a row in a log takes place once for its position, whatever the batch, and that two effects take place
// which differ in the position, another part of their names, or the log.
func positions(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	log := batch.LogIDOf(t.Name())
	all := []uint64{0, 1, 63, 64, 65, 1023, 1024, 1 << 31, 1<<32 + 5, 1<<53 + 1, 1<<53 + 2, math.MaxUint64 - 1}
	want := map[string]string{}
	var effects []connector.Effect
	for _, at := range all {
		for _, output := range []uint64{0, 1, 1 << 63} {
			for visit := range uint32(2) {
				for command := range uint32(10) {
					e := counted(at)
					e.Output, e.Visit, e.Command = output, visit, command
					e.Field = fmt.Sprint(at, output, visit, command)
					effects, want[e.Field] = append(effects, e), "1"
				}
			}
		}
	}
	saveFor(t, c, readingOf(log, 1, 0), effects[:len(effects)/3]...)
	saveFor(t, c, readingOf(log, 1, 0), effects[len(effects)/4:]...)
	saveFor(t, s.Open(t, prefix(t)), readingOf(log, 2, 0), effects...)
	if diff := gocmp.Diff(want, counts(t, c)); diff != "" {
		t.Errorf("counts (- wanted, + got):\n%s", diff)
	}
	// The same effect is another one of another log, flow or function.
	for i, change := range []func(*connector.Cause){
		func(c *connector.Cause) { c.Log.ID[0]++ }, func(c *connector.Cause) { c.Flow, c.Function = "F:s", "" },
		func(c *connector.Cause) { c.Flow, c.Function = "F", ":s" }, func(c *connector.Cause) { c.Function = "S" },
	} {
		for range 2 {
			other := readingOf(log, 2, 0)
			change(&other)
			saveFor(t, c, other, effects[0])
		}
		if got := counts(t, c)[effects[0].Field]; got != strconv.Itoa(i+2) {
			t.Errorf("change %d: the effect took place %s times in all", i, got)
		}
	}
	// A refused effect is not done, and the effects beside it are.
	list, beside := add("hash", "x"), counted(7)
	list.Position = 8
	save(t, c, set("hash", "f", "v"))
	for range 2 {
		verdicts, err := c.Save(t.Context(), readingOf(log, 2, 0), []connector.Effect{beside, list})
		if err != nil || len(verdicts) != 2 || verdicts[0] != nil || batch.CodeOf(verdicts[1]) != batch.CodeSaveFailed {
			t.Fatalf("verdicts %v, error %v", verdicts, err)
		}
	}
	save(t, c, remove("hash"))
	saveFor(t, c, readingOf(log, 2, 0), list, beside)
	saveFor(t, c, readingOf(log, 2, 0), beside, list)
	if diff := gocmp.Diff([]string{"x"}, s.List(t, prefix(t)+"hash")); diff != "" || counts(t, c)["7"] != "1" {
		t.Errorf("position 7 took place %s times; the list (- wanted, + got):\n%s", counts(t, c)["7"], diff)
	}
}

// settled tests that rows below the highest floor change nothing and are not refused, each for itself, and that a lower floor that comes
// later, or none, changes nothing about that.
func settled(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	log := batch.LogIDOf(t.Name())
	for _, floor := range []uint64{100, 1<<32 + 1000, 1<<53 + 1025, math.MaxUint64 - 1} {
		// The floor comes together with a row above it; then rows on both sides of it come with floors that lie below.
		saveFor(t, c, readingOf(log, 1, floor), counted(floor))
		for i, at := range []uint64{floor - 100, floor - 64, floor - 63, floor - 1, floor} {
			saveFor(t, c, readingOf(log, 1, floor-uint64(i)), counted(at), counted(floor))
			saveFor(t, c, readingOf(log, 1, 0), counted(at))
		}
		if got := counts(t, c)[strconv.FormatUint(floor-1, 10)]; got != "" {
			t.Errorf("floor %d: the position before it took place %s times", floor, got)
		}
		if got := counts(t, c)[strconv.FormatUint(floor, 10)]; got != "1" {
			t.Errorf("floor %d: its position took place %q times", floor, got)
		}
	}
	if got := len(counts(t, c)); got != 4 {
		t.Errorf("%d positions took place, not 4: %v", got, counts(t, c))
	}
}

// terms tests that a term is refused once a later one was seen, and changes nothing then; and that a batch that is older than the once-window
// is refused as any other.
func terms(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	log := batch.LogIDOf(t.Name())
	saveFor(t, c, readingOf(log, 9, 0), counted(1))
	saveFor(t, c, readingOf(log, 10, 0), counted(2))
	saveFor(t, c, readingOf(log, 100, 0), counted(3))
	for _, term := range []uint64{1, 9, 10, 99} {
		for range 2 {
			if _, err := c.Save(t.Context(), readingOf(log, term, 50), []connector.Effect{counted(60)}); batch.CodeOf(err) != batch.CodeLogSuperseded {
				t.Errorf("term %d after term 100: %v", term, err)
			}
		}
	}
	other := readingOf(log, 1, 0)
	other.Function = "another"
	saveFor(t, c, other, counted(4)) // this function has not seen the later terms
	saveFor(t, c, readingOf(log, 100, 0), counted(1), counted(5))
	old := readingOf(log, 101, 0)
	old.Born = time.Now().Add(-connector.OnceWindow - time.Second)
	if _, err := c.Save(t.Context(), old, []connector.Effect{counted(6)}); batch.CodeOf(err) != batch.CodeBatchTooOld {
		t.Errorf("a batch beyond the once-window: %v", err)
	}
	want := map[string]string{"1": "1", "2": "1", "3": "1", "4": "1", "5": "1"}
	if diff := gocmp.Diff(want, counts(t, c)); diff != "" {
		t.Errorf("counts (- wanted, + got):\n%s", diff)
	}
}

// logReader is a reader of the log in the test readers. It has read the log from begun on up to next, exclusive.
type logReader struct{ term, floor, next uint64 }

// readers has readers read one log, one after another: each begins at the position that was committed last, cuts the log into batches at
// random, saves some batches twice, or again from an earlier row on, commits now and then, and is then replaced. Readers that were replaced
// go on for a while. Each row adds to a number and appends its position to the list of its key: each takes place once, and the lists are in
// order. A model says what is there in the end: every row that some reader has read.
func readers(t *testing.T, s Store) {
	t.Helper()
	const keys = 5
	rounds := 400
	if testing.Short() {
		rounds = 100
	}
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	log := batch.LogIDOf(t.Name())
	gap := uint64(1 + dice.IntN(3)*dice.IntN(100)) // positions of a log that is sparse lie apart
	base := []uint64{0, 1 << 31, 1<<53 - 3000, 1<<60 + 7}[dice.IntN(4)]
	place := func(i uint64) uint64 { return base + i*gap }
	open := []connector.Connection{s.Open(t, prefix(t)), s.Open(t, prefix(t)), s.Open(t, prefix(t))}
	end, committed := uint64(0), uint64(0) // numbers of rows
	// run saves rows from one number up to another, exclusive, and reports whether the term is over.
	run := func(r *logReader, from, to uint64) (over bool) {
		var effects []connector.Effect
		for i := from; i < to; i++ {
			n, list := incr("n"+strconv.FormatUint(i%keys, 10), "sum", "1"), add("list"+strconv.FormatUint(i%keys, 10), strconv.FormatUint(i, 10))
			n.Position, list.Position, list.Command = place(i), place(i), 1
			effects = append(effects, n, list)
		}
		verdicts, err := open[dice.IntN(len(open))].Save(t.Context(), readingOf(log, r.term, place(r.floor)), effects)
		if batch.CodeOf(err) == batch.CodeLogSuperseded {
			return true
		}
		if err != nil || verdicts != nil {
			t.Fatalf("Save: verdicts %v, error %v", verdicts, err)
		}
		end = max(end, to)
		return false
	}
	current := &logReader{term: 1}
	var zombies []*logReader
	for range rounds {
		r, zombie := current, len(zombies) > 0 && dice.IntN(4) == 0
		if zombie {
			r = zombies[dice.IntN(len(zombies))]
		}
		from := r.next - min(r.next-r.floor, uint64(dice.IntN(30)*dice.IntN(2))) // sent again, cut in another way
		to := r.next + 1 + uint64(dice.IntN(40))
		if over := run(r, from, to); over && !zombie {
			t.Fatalf("term %d is over while it is the last one", r.term)
		} else if over {
			continue
		}
		r.next = max(r.next, to)
		switch {
		case zombie:
		case dice.IntN(3) == 0:
			r.floor += uint64(dice.IntN(int(r.next-r.floor) + 1)) // every row below it has its outcome
			committed = r.floor
		case dice.IntN(8) == 0:
			zombies = append(zombies, current)
			current = &logReader{term: current.term + 1, floor: committed, next: committed}
		}
	}
	run(&logReader{term: current.term, floor: committed}, committed, end)
	for key := range uint64(keys) {
		var want []string
		for i := key; i < end; i += keys {
			want = append(want, strconv.FormatUint(i, 10))
		}
		if diff := gocmp.Diff(want, s.List(t, prefix(t)+"list"+strconv.FormatUint(key, 10))); diff != "" {
			t.Errorf("key %d (- wanted, + got):\n%s", key, diff)
		}
		check(t, open[0], map[string]map[string]string{"n" + strconv.FormatUint(key, 10): {"sum": strconv.Itoa(len(want))}})
	}
}
