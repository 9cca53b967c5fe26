package conformance

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// cause makes the Cause of a Save, for a batch of a new stream.
func cause() connector.Cause {
	return connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, Floor: 1, Born: time.Now()}
}

// counting makes an effect with the given numbers, which adds 1 to a field of the key counts. Each such effect has another field,
// so the field says how often the effect took place.
func counting(row uint32, output uint64, visit, command uint32) connector.Effect {
	e := incr("counts", "", "1")
	e.Row, e.Output, e.Visit, e.Command = row, output, visit, command
	e.Field = strconv.Itoa(int(row)) + " " + strconv.FormatUint(output, 10) + " " + strconv.Itoa(int(visit)) + " " + strconv.Itoa(int(command))
	return e
}

// saveFor carries out effects of a Cause, and fails the test if one is refused.
func saveFor(tb testing.TB, c connector.Connection, cause connector.Cause, effects ...connector.Effect) {
	tb.Helper()
	if verdicts, err := c.Save(tb.Context(), cause, effects); err != nil || verdicts != nil {
		tb.Fatalf("Save: verdicts %v, error %v", verdicts, err)
	}
}

// counts loads the hash with the key counts: each field is a number that the effects under test add to.
func counts(tb testing.TB, c connector.Connection) map[string]string {
	tb.Helper()
	values, err := c.Load(tb.Context(), []string{"counts"})
	if err != nil {
		tb.Fatalf("Load: %v", err)
	}
	got := map[string]string{}
	for _, f := range values[0].Fields {
		got[f.Name] = f.Value
	}
	return got
}

// once tests that an effect which is saved again does not take place again, and that two effects take place which differ in one
// part of their names: the row, output, visit, command, function, flow, batch or stream.
func once(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	var all []connector.Effect
	want := map[string]string{}
	for _, row := range []uint32{0, 1, 7, 8, 1023, 1024, 65_535, 1 << 31, batch.WholeBatch} {
		for _, output := range []uint64{0, 1, 1 << 63} {
			for visit := range uint32(2) {
				for command := range uint32(12) {
					all = append(all, counting(row, output, visit, command))
					want[all[len(all)-1].Field] = "1"
				}
			}
		}
	}
	first := cause()
	saveFor(t, c, first, all[:len(all)/2]...)
	saveFor(t, c, first, all...)
	saveFor(t, s.Open(t, prefix(t)), first, all...)
	if diff := gocmp.Diff(want, counts(t, c)); diff != "" {
		t.Errorf("counts (- wanted, + got):\n%s", diff)
	}
	// The same effect is another one of another batch, stream, flow or function.
	for i, change := range []func(*connector.Cause){
		func(c *connector.Cause) { c.Batch.Sequence++ }, func(c *connector.Cause) { c.Batch.Stream[0]++ },
		func(c *connector.Cause) { c.Flow, c.Function = "F:s", "" }, func(c *connector.Cause) { c.Flow, c.Function = "F", ":s" },
		func(c *connector.Cause) { c.Function = "S" },
	} {
		other := first
		change(&other)
		for range 2 {
			saveFor(t, c, other, all[0])
		}
		if got := counts(t, c)[all[0].Field]; got != strconv.Itoa(i+2) {
			t.Errorf("change %d: the effect took place %s times in all", i, got)
		}
	}
	// A refused effect is not done, and the effects beside it are.
	second := cause()
	add, list, removal := add("list", "x"), add("hash", "x"), remove("gone")
	add.Row, list.Row, removal.Row, removal.Command = 1, 2, 2, 1
	save(t, c, set("hash", "f", "v"), set("gone", "f", "v"))
	for range 2 {
		verdicts, err := c.Save(t.Context(), second, []connector.Effect{all[0], add, list, removal})
		if err != nil || len(verdicts) != 4 || verdicts[0] != nil || verdicts[1] != nil || batch.CodeOf(verdicts[2]) != batch.CodeSaveFailed || verdicts[3] != nil {
			t.Fatalf("verdicts %v, error %v", verdicts, err)
		}
	}
	check(t, c, map[string]map[string]string{"gone": nil})
	save(t, c, remove("hash"), set("gone", "f", "later"))
	saveFor(t, c, second, all[0], add, list, removal)
	saveFor(t, c, second, all[0], add, list, removal)
	if got := counts(t, c)[all[0].Field]; got != "7" {
		t.Errorf("the effect took place %s times in all, not 7", got)
	}
	for _, key := range []string{"list", "hash"} {
		if diff := gocmp.Diff([]string{"x"}, s.List(t, prefix(t)+key)); diff != "" {
			t.Errorf("%s (- wanted, + got):\n%s", key, diff)
		}
	}
	check(t, c, map[string]map[string]string{"gone": {"f": "later"}})
	// An effect without a batch is done each time.
	saveFor(t, c, connector.Cause{}, all[1])
	saveFor(t, c, connector.Cause{}, all[1])
	if got := counts(t, c)[all[1].Field]; got != "3" {
		t.Errorf("the effect took place %s times in all, not 3", got)
	}
}

// repeated saves rows whose effects have one operation on one field each, as most Saves do: first some of the effects, then all
// of them twice. Some effects are refused.
func repeated(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	save(t, c, add("n7", "a list"), add("text8", "a list"), set("n9", "f", "no number"))
	want := map[string]map[string]string{}
	var all []connector.Effect
	for row := range uint32(40) {
		n := strconv.Itoa(int(row))
		for command, e := range []connector.Effect{incr("n"+n, "f", "1"), incr("n"+n, "g", "0.5"), set("text"+n, "f", n)} {
			e.Row, e.Command = row, uint32(command)
			all = append(all, e)
		}
		want["n"+n], want["text"+n] = map[string]string{"f": "1", "g": "0.5"}, map[string]string{"f": n}
	}
	slices.SortStableFunc(all, func(a, b connector.Effect) int { return cmp.Compare(a.Command, b.Command) })
	delete(want, "n7")
	delete(want, "text8")
	want["n9"] = map[string]string{"f": "no number", "g": "0.5"}
	first := cause()
	saveSome := func(effects []connector.Effect) {
		t.Helper()
		verdicts, err := c.Save(t.Context(), first, effects)
		if err != nil || verdicts == nil {
			t.Fatalf("Save: verdicts %v, error %v", verdicts, err)
		}
		for i, e := range effects {
			refused := e.Key == "n7" || e.Key == "text8" || e.Key == "n9" && e.Field == "f"
			if (batch.CodeOf(verdicts[i]) == batch.CodeSaveFailed) != refused {
				t.Errorf("%s of %s: verdict %v", e.Field, e.Key, verdicts[i])
			}
		}
	}
	saveSome(all[5:50])
	saveSome(all)
	saveSome(all)
	check(t, c, want)
	save(t, c, remove("n7"), remove("text8"))
	saveFor(t, c, first, slices.DeleteFunc(slices.Clone(all), func(e connector.Effect) bool { return e.Key == "n9" })...)
	want["n7"], want["text8"] = map[string]string{"f": "1", "g": "0.5"}, map[string]string{"f": "8"}
	check(t, c, want)
}

// contention has several callers save the same effects at the same time, over two connections, in pieces of different sizes. Each
// effect must take place once.
func contention(t *testing.T, s Store) {
	t.Helper()
	connections := []connector.Connection{s.Open(t, prefix(t)), s.Open(t, prefix(t))}
	const rows, callers = 3000, 6
	var effects []connector.Effect
	var want []string
	for row := range uint32(rows) {
		e := add("list", strconv.Itoa(int(row)))
		e.Row = row
		effects, want = append(effects, e, counting(row, 0, 0, 1)), append(want, e.Value)
	}
	c := cause()
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			piece := 2 * (17 + 50*caller)
			for at := 0; at < len(effects); at += piece {
				verdicts, err := connections[caller%2].Save(t.Context(), c, effects[at:min(at+piece, len(effects))])
				if verdicts != nil || err != nil {
					t.Errorf("caller %d: verdicts %v, error %v", caller, verdicts, err)
				}
			}
		})
	}
	group.Wait()
	if diff := gocmp.Diff(want, s.List(t, prefix(t)+"list")); diff != "" {
		t.Errorf("the list (- wanted, + got):\n%s", diff)
	}
	got := counts(t, connections[0])
	for field, n := range got {
		if n != "1" {
			t.Errorf("%s took place %s times", field, n)
		}
	}
	if len(got) != rows {
		t.Errorf("%d rows took place, not %d", len(got), rows)
	}
}

// random saves random effects of a few batches, again and again, while the floor of their stream rises. Each effect must take
// place once.
func random(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	dice := rand.New(rand.NewPCG(1, 2))
	stream, floor := batch.NewStreamID(), uint64(1)
	want := map[string]string{}
	for round := range 300 {
		if dice.IntN(4) == 0 {
			floor += uint64(dice.IntN(3))
		}
		sequence := floor + uint64(dice.IntN(4))
		var effects []connector.Effect
		for range dice.IntN(60) {
			e := counting(uint32(dice.IntN(40)*dice.IntN(60)), uint64(dice.IntN(3)), uint32(dice.IntN(2)), uint32(dice.IntN(3)))
			e.Field = strconv.FormatUint(sequence, 10) + ": " + e.Field
			if want[e.Field] == "" {
				effects = append(effects, e) // a call names an effect once
			} else if dice.IntN(2) == 0 {
				effects = append(effects, e)
			}
			want[e.Field] = "1"
		}
		seen := map[string]bool{}
		var single []connector.Effect
		for _, e := range effects {
			if !seen[e.Field] {
				seen[e.Field], single = true, append(single, e)
			}
		}
		if len(single) == 0 {
			continue
		}
		saveFor(t, c, connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: stream, Sequence: sequence}, Floor: floor - uint64(dice.IntN(2))}, single...)
		if round%50 == 49 {
			if diff := gocmp.Diff(want, counts(t, c)); diff != "" {
				t.Fatalf("round %d (- wanted, + got):\n%s", round, diff)
			}
		}
	}
}

// floor tests that batches below the floor of their stream are refused.
func floor(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	at := cause()
	save := func(sequence, floor uint64) error {
		at.Batch.Sequence, at.Floor = sequence, floor
		e := counting(0, sequence, 0, 0)
		_, err := c.Save(t.Context(), at, []connector.Effect{e})
		return err
	}
	for sequence := range uint64(200) {
		if err := save(sequence+1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := save(300, 150); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		sequence, floor uint64
		code            batch.Code
	}{
		{149, 1, batch.CodeBatchGivenUp}, {1, 1, batch.CodeBatchGivenUp}, {500, 100, 0}, {149, 149, batch.CodeBatchGivenUp},
		{150, 1, 0}, {200, 150, 0}, {199, 150, 0},
		// A floor above the batch itself: the producer is through with it, too.
		{400, 450, batch.CodeBatchGivenUp}, {449, 1, batch.CodeBatchGivenUp}, {300, 301, batch.CodeBatchGivenUp}, {450, 1, 0}, {450, 450, 0},
		{450, 451, batch.CodeBatchGivenUp}, {450, 450, batch.CodeBatchGivenUp}, {451, 451, 0},
	} {
		for range 2 {
			if err := save(test.sequence, test.floor); batch.CodeOf(err) != test.code {
				t.Errorf("batch %d with floor %d: %v", test.sequence, test.floor, err)
			}
		}
	}
	got := counts(t, c)
	for field, n := range got {
		if n != "1" {
			t.Errorf("effect %s took place %s times", field, n)
		}
	}
	if len(got) != 204 {
		t.Errorf("%d effects took place, not 204", len(got))
	}
}

// order runs a function again: first with its commands in the same order, in pieces, then in another order, as a range over a map
// makes it. An effect's name has the number of its command. In a store that remembers effects together with their keys, a command
// whose key has changed is another effect, and takes place again.
func order(t *testing.T, s Store) {
	t.Helper()
	const commands = 32
	for name, again := range map[string]func(int) int{"same": func(i int) int { return i }, "reversed": func(i int) int { return commands - 1 - i }} {
		c := s.Open(t, prefix(t)+name+":")
		made := func(number func(int) int) []connector.Effect {
			effects := make([]connector.Effect, 2*commands)
			for i := range effects {
				effects[i] = incr("key"+strconv.Itoa(i%commands)+" of row "+strconv.Itoa(i/commands), "n", "1")
				effects[i].Row, effects[i].Command = uint32(i/commands), uint32(number(i%commands))
			}
			return effects
		}
		from, first, rerun := cause(), made(func(i int) int { return i }), made(again)
		saveFor(t, c, from, first...)
		saveFor(t, s.Open(t, prefix(t)+name+":"), from, rerun[commands:]...) // as another worker does, with fewer rows
		for at := 0; at < len(rerun); at += 7 {
			saveFor(t, c, from, rerun[at:min(at+7, len(rerun))]...)
		}
		keys := make([]string, len(first))
		for i, e := range first {
			keys[i] = e.Key
		}
		values, err := c.Load(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		doubled := 0
		for i, v := range values {
			switch {
			case len(v.Fields) != 1:
				t.Errorf("%s: %s has %v", name, keys[i], v.Fields)
			case v.Fields[0].Value != "1":
				doubled++
			}
		}
		if doubled > 0 != (s.Spread && name == "reversed") {
			t.Errorf("%s order: %d of %d effects took place twice", name, doubled, len(keys))
		}
	}
}

// age tests that a Save for a batch which is older than the once-window is refused.
func age(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	at := cause()
	at.Born = time.Now().Add(-connector.OnceWindow - time.Second)
	if _, err := c.Save(t.Context(), at, []connector.Effect{counting(0, 0, 0, 0)}); batch.CodeOf(err) != batch.CodeBatchTooOld {
		t.Errorf("a batch beyond the once-window: %v", err)
	}
	at.Born = time.Now().Add(-connector.OnceWindow + time.Minute)
	saveFor(t, c, at, counting(0, 0, 0, 0))
	at.Born = time.Time{}
	saveFor(t, c, at, counting(0, 0, 0, 0))
	if got := counts(t, c)["0 0 0 0"]; got != "1" {
		t.Errorf("the effect took place %q times", got)
	}
}
