package conformance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Store is the store under test.
type Store struct {
	// Open opens one more connection to the store, with a key prefix, and closes it when the test ends. The connection must not
	// find watched keys by polling, so that a lost notification makes a test fail.
	Open func(t testing.TB, prefix string) connector.Connection
	// List returns the list at a whole key.
	List func(t testing.TB, key string) []string
	// Pairs is how many pairs of a Save and a Watcher race.
	Pairs int
	// Wraps means that the store does not notice when a whole number grows too large.
	Wraps bool
	// Spread means that the store remembers effects together with their keys, in several places. In such a store a function that
	// makes its commands in another order when it runs again makes other effects.
	Spread bool
	// InBubble, if it is not nil, makes the store of one test, and the other fields but Pairs mean nothing. Each test then runs in a bubble of
	// testing/synctest, where time is virtual, and so does InBubble.
	InBubble func(t *testing.T) Store

	bubble bool // the test runs in a bubble
}

// patience is the longest that a test waits for something that must happen.
const patience = 30 * time.Second

// Run runs all tests of the suite.
func Run(t *testing.T, s Store) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"effects", effects}, {"numbers", numbers}, {"refusals", refusals}, {"overflow", overflow}, {"load", load}, {"empty calls", emptyCalls},
		{"once", once}, {"repeated", repeated}, {"once under contention", contention}, {"once at random", random}, {"floor", floor}, {"age", age},
		{"order of commands", order}, {"positions", positions}, {"positions below the floor", settled}, {"terms", terms}, {"readers of a log", readers},
		{"own keys", ownKeys},
		{"callers share round trips", sharing}, {"a caller that gives up", givingUp}, {"wait", wait}, {"watch", watch},
		{"wait races save", races}, {"close", closing},
	} {
		t.Run(test.name, func(t *testing.T) {
			if s.InBubble == nil {
				test.run(t, s)
				return
			}
			bubble.Test(t, func(t *testing.T) {
				own := s.InBubble(t)
				own.Pairs, own.bubble = s.Pairs, true
				test.run(t, own)
			})
		})
	}
}

// part runs a part of a test, as a test of its own where that is possible: a bubble has no tests within.
func (s Store) part(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	if s.bubble {
		test(t)
	} else {
		t.Run(name, test)
	}
}

// prefix returns a key prefix that no other test of the suite uses: the test's name and a colon.
func prefix(t *testing.T) string {
	t.Helper()
	return t.Name() + ":"
}

// set makes an effect that gives a field of a key's hash a value.
func set(key, field, value string) connector.Effect {
	return connector.Effect{Op: connector.Set, Key: key, Field: field, Value: value}
}

// incr makes an effect that adds a number to a field of a key's hash.
func incr(key, field, value string) connector.Effect {
	return connector.Effect{Op: connector.Incr, Key: key, Field: field, Value: value}
}

// add makes an effect that appends a value to a key's list.
func add(key, value string) connector.Effect {
	return connector.Effect{Op: connector.Append, Key: key, Value: value}
}

// remove makes an effect that deletes a key.
func remove(key string) connector.Effect { return connector.Effect{Op: connector.Delete, Key: key} }

// save carries out effects, without a batch, and fails the test unless all of them take place.
func save(t *testing.T, c connector.Connection, effects ...connector.Effect) {
	t.Helper()
	verdicts, err := c.Save(t.Context(), connector.Cause{}, effects)
	if err != nil || verdicts != nil {
		t.Fatalf("Save: verdicts %v, error %v", verdicts, err)
	}
}

// check fails the test unless the hashes at the keys of want are as want says. A nil map stands for a key that is not there.
func check(tb testing.TB, c connector.Connection, want map[string]map[string]string) {
	tb.Helper()
	var keys []string
	for key := range want {
		keys = append(keys, key)
	}
	values, err := c.Load(tb.Context(), keys)
	if err != nil {
		tb.Fatalf("Load: %v", err)
	}
	got := map[string]map[string]string{}
	for i, v := range values {
		if v.Err != nil {
			tb.Errorf("key %s: %v", keys[i], v.Err)
		}
		if got[keys[i]] = nil; v.Missing() {
			continue
		}
		got[keys[i]] = map[string]string{}
		for _, f := range v.Fields {
			got[keys[i]][f.Name] = f.Value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("keys hold something else (- wanted, + got):\n%s", diff)
	}
}

// effects tests each operation, with keys and values of all bytes, and the key prefix.
func effects(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	binary := string([]byte{0, 1, 0xff, '\r', '\n'})
	save(t, c,
		set("a", "name", "first"), set("a", "name", "second"), set("a", "other", ""),
		set("b", binary, binary),
		add("list", "x"), add("list", ""), add("list", "x"), add("list", binary),
		set("gone", "name", "x"), remove("gone"), remove("never there"),
		set("again", "name", "x"), set("again", "old", "x"), remove("again"), set("again", "name", "y"),
		set("ключ:{1} \"", "f", "v"), set("", "f", "the prefix alone"),
	)
	check(t, c, map[string]map[string]string{
		"a": {"name": "second", "other": ""}, "b": {binary: binary}, "gone": nil, "never there": nil, "again": {"name": "y"},
		"ключ:{1} \"": {"f": "v"}, "": {"f": "the prefix alone"},
	})
	if diff := cmp.Diff([]string{"x", "", "x", binary}, s.List(t, prefix(t)+"list")); diff != "" {
		t.Errorf("the list is wrong (- wanted, + got):\n%s", diff)
	}
	save(t, c, remove("list"))
	check(t, c, map[string]map[string]string{"list": nil})

	elsewhere := s.Open(t, prefix(t)+"a")
	check(t, elsewhere, map[string]map[string]string{"": {"name": "second", "other": ""}, "a": nil})
}

// numbers tests that the operation Incr adds whole and decimal numbers exactly, to a field that has a number or none.
func numbers(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	save(t, c,
		incr("n", "whole", "3"), incr("n", "whole", "-5"), incr("n", "zero", "0"),
		incr("n", "large", "9007199254740993"), incr("n", "large", "1"),
		incr("n", "least", "-9223372036854775808"), incr("n", "least", "1"),
		incr("n", "decimal", "1.5"), incr("n", "decimal", "0.25"), incr("n", "tiny", "0.1"), incr("n", "tiny", "0.2"),
		incr("n", "to decimal", "1.5"), incr("n", "to decimal", "2"), incr("n", "to decimal", "3"),
		incr("n", "to whole", "2"), incr("n", "to whole", "0.5"), incr("n", "back", "0.5"), incr("n", "back", "0.5"),
		incr("n", "back", "1"), incr("n", "exponent", "1e2"),
		set("n", "set", "2.5"), incr("n", "set", "2"),
	)
	// The field has the decimal sum, whichever effect follows.
	save(t, c, set("later", "f", "0.5"), incr("later", "f", "1"), set("later", "f", "7"))
	save(t, c, set("again", "f", "0.5"), incr("again", "f", "1"), set("again", "other", "7"), incr("again", "f", "1"))
	save(t, c, set("gone", "f", "0.5"), incr("gone", "f", "1"), remove("gone"))
	save(t, c, set("anew", "f", "0.5"), incr("anew", "f", "1"), remove("anew"), incr("anew", "f", "1"))
	check(t, c, map[string]map[string]string{
		"n": {
			"whole": "-2", "zero": "0", "large": "9007199254740994", "least": "-9223372036854775807", "decimal": "1.75",
			"tiny": "0.3", "to decimal": "6.5", "to whole": "2.5", "back": "2", "exponent": "100", "set": "4.5",
		},
		"later": {"f": "7"}, "again": {"f": "2.5", "other": "7"}, "gone": nil, "anew": {"f": "1"},
	})
}

// refusals tests that an effect which the store refuses has a verdict, and does not keep others from taking place.
func refusals(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	save(t, c, set("hash", "text", "abc"), add("list", "x"))
	effects := []connector.Effect{
		set("hash", "a", "1"), set("list", "a", "1"), incr("list", "a", "1"), add("hash", "x"), incr("hash", "text", "1"),
		incr("hash", "text", "0.5"), incr("hash", "n", "not a number"), incr("hash", "n", ""), add("list", "y"), set("hash", "z", "1"),
	}
	verdicts, err := c.Save(t.Context(), connector.Cause{}, effects)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]batch.Code, len(effects))
	for i, verdict := range verdicts {
		got[i] = batch.CodeOf(verdict)
	}
	no := batch.CodeSaveFailed
	if diff := cmp.Diff([]batch.Code{0, no, no, no, no, no, no, no, 0, 0}, got); diff != "" {
		t.Errorf("verdicts (- wanted, + got):\n%s%v", diff, verdicts)
	}
	check(t, c, map[string]map[string]string{"hash": {"text": "abc", "a": "1", "z": "1"}})
	if diff := cmp.Diff([]string{"x", "y"}, s.List(t, prefix(t)+"list")); diff != "" {
		t.Errorf("the list is wrong (- wanted, + got):\n%s", diff)
	}
}

// overflow tests that an Incr is refused if the sum of two whole numbers would not fit into 64 bits. It is skipped if Store.Wraps
// is true.
func overflow(t *testing.T, s Store) {
	t.Helper()
	if s.Wraps {
		t.Skip("this store does not notice")
	}
	c := s.Open(t, prefix(t))
	save(t, c, set("n", "most", "9223372036854775807"), set("n", "least", "-9223372036854775808"))
	verdicts, err := c.Save(t.Context(), connector.Cause{}, []connector.Effect{incr("n", "most", "1"), incr("n", "least", "-1")})
	if err != nil || len(verdicts) != 2 || batch.CodeOf(verdicts[0]) != batch.CodeSaveFailed || batch.CodeOf(verdicts[1]) != batch.CodeSaveFailed {
		t.Errorf("verdicts %v, error %v", verdicts, err)
	}
	check(t, c, map[string]map[string]string{"n": {"most": "9223372036854775807", "least": "-9223372036854775808"}})
}

// load tests that values come in the order of the keys, with missing keys and a list among them.
func load(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	save(t, c, set("a", "x", "1"), set("a", "y", "2"), set("b", "x", "3"), add("list", "x"))
	values, err := c.Load(t.Context(), []string{"b", "missing", "list", "a", "b"})
	if err != nil || len(values) != 5 {
		t.Fatalf("got %d values, error %v", len(values), err)
	}
	if batch.CodeOf(values[2].Err) != batch.CodeConversionFailed || values[2].Missing() {
		t.Errorf("a list: error %v, missing %v", values[2].Err, values[2].Missing())
	}
	values[2].Err = nil
	b := connector.Value{Fields: []connector.Field{{Name: "x", Value: "3"}}}
	want := []connector.Value{b, {}, {}, {Fields: []connector.Field{{Name: "x", Value: "1"}, {Name: "y", Value: "2"}}}, b}
	order := cmpopts.SortSlices(func(a, b connector.Field) bool { return a.Name < b.Name })
	if diff := cmp.Diff(want, values, order, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("values (- wanted, + got):\n%s", diff)
	}
}

// emptyCalls tests that calls without keys and without effects do nothing and return no error.
func emptyCalls(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	if verdicts, err := c.Save(t.Context(), connector.Cause{}, nil); verdicts != nil || err != nil {
		t.Errorf("Save of nothing: %v, %v", verdicts, err)
	}
	if values, err := c.Load(t.Context(), nil); len(values) != 0 || err != nil {
		t.Errorf("Load of nothing: %v, %v", values, err)
	}
	w := c.Watch(func(key string) { t.Errorf("told of %q, which nobody waits for", key) })
	w.Add()
	w.Remove()
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// sharing tests many callers at once, whose calls may go to the store together: each gets its own verdicts, and keeps its own
// order.
func sharing(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	save(t, c, add("list", "x"))
	const callers, rounds = 16, 50
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			key := "caller" + strconv.Itoa(caller)
			for round := range rounds {
				n := strconv.Itoa(round)
				effects := []connector.Effect{incr("sum", "n", "1"), set(key, "first", n), set(key, "first", n+"'"), add(key+"list", n)}
				bad := caller%2 == 0
				if bad {
					effects = append(effects, set("list", "f", n))
				}
				verdicts, err := c.Save(t.Context(), connector.Cause{}, effects)
				if err != nil || (verdicts != nil) != bad || bad && (verdicts[0] != nil || verdicts[4] == nil) {
					t.Errorf("caller %d, round %d: verdicts %v, error %v", caller, round, verdicts, err)
				}
				values, err := c.Load(t.Context(), []string{key})
				if err != nil || len(values[0].Fields) != 1 || values[0].Fields[0].Value != n+"'" {
					t.Errorf("caller %d, round %d: loaded %v, error %v", caller, round, values, err)
				}
			}
		})
	}
	group.Wait()
	want := make([]string, rounds)
	for round := range rounds {
		want[round] = strconv.Itoa(round)
	}
	for caller := range callers {
		if diff := cmp.Diff(want, s.List(t, fmt.Sprintf("%scaller%dlist", prefix(t), caller))); diff != "" {
			t.Errorf("caller %d's list (- wanted, + got):\n%s", caller, diff)
		}
	}
	check(t, c, map[string]map[string]string{"sum": {"n": strconv.Itoa(callers * rounds)}})
}

// givingUp tests that a call whose context is over returns its error, and saves nothing.
func givingUp(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithTimeout(t.Context(), 0)
	defer stop()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 50 {
				ctx, code, cause := cancelled, batch.CodeCancelled, context.Canceled
				if i%2 == 0 {
					ctx, code, cause = late, batch.CodeDeadline, context.DeadlineExceeded
				}
				_, errSave := c.Save(ctx, connector.Cause{}, []connector.Effect{set("given up", "f", "v")})
				_, errLoad := c.Load(ctx, []string{"a"})
				for _, err := range []error{errSave, errLoad} {
					if batch.CodeOf(err) != code || !errors.Is(err, cause) {
						t.Errorf("got %v, want %v", err, code)
					}
				}
				if _, err := c.Save(context.WithoutCancel(ctx), connector.Cause{}, []connector.Effect{incr("kept", "n", "1")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	check(t, c, map[string]map[string]string{"kept": {"n": "400"}, "given up": nil})
}

// closing tests that calls during and after Close fail with CodeConnectorUnavailable.
func closing(t *testing.T, s Store) {
	t.Helper()
	c := s.Open(t, prefix(t))
	w := c.Watch(func(key string) { t.Errorf("told of %q, which nobody saved", key) })
	w.Add("never")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for {
				_, err := c.Save(t.Context(), connector.Cause{}, []connector.Effect{set("k"+strconv.Itoa(i), "f", "v")})
				if err == nil {
					_, err = c.Load(t.Context(), []string{"k"})
				}
				if err == nil {
					continue
				}
				if batch.CodeOf(err) != batch.CodeConnectorUnavailable {
					t.Errorf("a call during Close: %v", err)
				}
				return
			}
		})
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	group.Wait()
	w.Add("nor this")
	w.Remove("never", "nor this")
	_, errSave := c.Save(t.Context(), connector.Cause{}, []connector.Effect{set("k", "f", "v")})
	_, errLoad := c.Load(t.Context(), []string{"k"})
	for name, err := range map[string]error{
		"Save": errSave, "Load": errLoad, "Ping": c.Ping(t.Context()),
	} {
		if batch.CodeOf(err) != batch.CodeConnectorUnavailable {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}
