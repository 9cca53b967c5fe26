package drive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// The seeds with which TestLife does not end: it waits for ever, or works for ever.
const (
	hangs = 1 << 60
	spins = 1<<60 + 1
)

// TestLife is the child of the other tests: a life without a cluster, in which some scenarios go wrong.
func TestLife(t *testing.T) {
	Life(t, func(t *testing.T, s *scenario.Scenario, lines bool) Outcome {
		o := Outcome{Virtual: s.Lasts, Faults: map[string]int{}, Points: map[string]int64{"test/point: never": 0, "test/point: fault": int64(len(s.Faults))}}
		for _, f := range s.Faults {
			o.Faults[f.Kind]++
		}
		for _, c := range s.Clients {
			o.Rows += c.Rows
		}
		o.Digest = s.String()
		if lines {
			o.Lines = []string{o.Digest}
		}
		has := func(kind string) bool {
			return slices.ContainsFunc(s.Faults, func(f scenario.Fault) bool { return f.Kind == kind })
		}
		switch {
		case has("twin"):
			panic(fmt.Sprintf("a map of %p", s))
		case has("host-cut"):
			bubble.Test(t, func(*testing.T) { <-make(chan int) })
		case s.Seed == hangs:
			for { // the watchdog ends it
				time.Sleep(time.Hour)
			}
		case s.Seed == spins:
			for n := 0; ; n++ {
				o.Rows = n
			}
		case has("redis-full"):
			o.Breaches = []Breach{{Oracle: "OrderPerKey", Subject: "k1", Text: "row 2 ran before row 1", Story: "1s: row 2 ran\n2s: row 1 ran\n"}, {Oracle: "OneOutcome", Text: "too"}}
		}
		return o
	})
}

// TestDrive lives through seeds of which some go wrong in every possible way. Each is found, the run goes on, and the first scenario that
// broke a promise is shrunk to the lines that matter.
func TestDrive(t *testing.T) {
	var out bytes.Buffer
	folder := t.TempDir()
	plan := Plan{Children: Children{Test: "TestLife", Patience: time.Minute}, Seeds: 120, First: 1, Folder: folder, Shrink: 20 * time.Second, Runs: 1, Out: &out}
	if bubble.Race { // each process takes long to start
		plan.Seeds, plan.Shrink = 20, 5*time.Second
	}
	plan.First = firstWith(t, "redis-full", plan.First)
	tally, err := plan.Drive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if tally.Seeds != plan.Seeds || tally.Rows == 0 || tally.Points["test/point: fault"] == 0 || !slices.Equal(tally.Unreached(), []string{"test/point: never"}) {
		t.Errorf("counted %+v", tally)
	}
	want := map[string]int{}
	for i := range plan.Seeds {
		s := scenario.Generate(plan.First + uint64(i))
		for _, kinds := range [][2]string{{"twin", Panic}, {"host-cut", Deadlock}, {"redis-full", "OrderPerKey"}} {
			if slices.ContainsFunc(s.Faults, func(f scenario.Fault) bool { return f.Kind == kinds[0] }) {
				want[kinds[1]]++
				break
			}
		}
	}
	for name, n := range want {
		if tally.Oracles[name] != n {
			t.Errorf("%d seeds broke %s, want %d", tally.Oracles[name], name, n)
		}
	}
	if !bubble.Race && (want["OrderPerKey"] == 0 || want[Panic] == 0 || want[Deadlock] == 0) {
		t.Fatalf("the seeds do not go wrong in all ways: %v", want)
	}
	for _, part := range []string{fmt.Sprintf("world: seed %d broke OrderPerKey, OneOutcome after ", plan.First), "row 2 ran before row 1", "func TestOrderPerKeySeed"} {
		if !strings.Contains(text, part) {
			t.Errorf("the output lacks %q", part)
		}
	}
	script, err := os.ReadFile(filepath.Join(folder, fmt.Sprintf("orderperkey-%d.txt", plan.First)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Parse(string(script))
	if err != nil || !bubble.Race && (len(s.Faults) != 1 || len(s.Clients) != 0 || len(s.Workers) != 1) {
		t.Errorf("the shrunk script, %v:\n%s", err, script)
	}
	if guards(string(script)) == nil {
		t.Error("a script says which rule it guards before a person has written it")
	}
	if t.Failed() {
		t.Log(text)
	}
	var table bytes.Buffer
	if err := tally.Print(&table); err != nil || !strings.Contains(table.String(), "1 of 2 reached") {
		t.Errorf("%v, the table:\n%s", err, table.String())
	}
	if err := tally.WriteFile(filepath.Join(folder, "tally.json")); err != nil {
		t.Error(err)
	}
}

// TestHang has the watchdog end lives that go on for ever, with and without work. Where they wait, their stacks say where.
func TestHang(t *testing.T) {
	for _, seed := range []uint64{hangs, spins} {
		s := scenario.Generate(1)
		s.Seed, s.Faults = seed, nil
		o, err := Children{Test: "TestLife", Patience: 2 * time.Second}.Live(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		// The stack of a goroutine that works may not be known: another thread gets the signal.
		if b, found := o.has(Breach{Oracle: Hang}); !found || seed == hangs && !strings.Contains(b.Story, "drive_test.go") {
			t.Errorf("seed %d: breaches %v", seed, o.Breaches)
		}
	}
}

// TestPatience shows that a life hangs which uses much processor time, or none for long, and that one is only slow which gets little of it.
func TestPatience(t *testing.T) {
	begin := time.Now()
	for _, c := range []struct {
		name  string
		used  []time.Duration // processor time after each minute
		hangs bool
	}{
		{"quick", []time.Duration{time.Second, 2 * time.Second}, false},
		{"slow", []time.Duration{time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 4 * time.Second, 5 * time.Second}, false},
		{"spins", []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute}, true},
		{"waits for ever", []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second, time.Second}, true},
		{"waits for ever, and its runtime does little", []time.Duration{time.Second, 1010 * time.Millisecond, 1020 * time.Millisecond, 1030 * time.Millisecond, 1040 * time.Millisecond, 1050 * time.Millisecond}, true},
	} {
		p := patience{limit: 5 * time.Minute, since: begin}
		hangs := false
		for i, used := range c.used {
			hangs = hangs || p.over(begin.Add(time.Duration(i+1)*time.Minute), used)
		}
		if hangs != c.hangs {
			t.Errorf("%s: hangs: %v", c.name, hangs)
		}
	}
	if used := processorTime(os.Getpid(), -1); used < 0 && runtime.GOOS == "linux" {
		t.Error("the processor time of this process is not known")
	}
}

// TestDriveStops ends a run at the first breach, and says so in the line that other programs read.
func TestDriveStops(t *testing.T) {
	var out bytes.Buffer
	first := firstWith(t, "redis-full", 1)
	plan := Plan{Children: Children{Test: "TestLife", Patience: time.Minute}, Seeds: 1000, First: first, Stop: true, Out: &out, Jobs: 1}
	if _, err := plan.Drive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("world: seed %d broke OrderPerKey, OneOutcome after 1 seeds\n", first); out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	out.Reset()
	plan.Seeds, plan.First = 0, 1
	if _, err := plan.Drive(t.Context()); err != nil || out.String() != "world: 0 seeds, no breach\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}

// TestRepeat compares two lives of some seeds.
func TestRepeat(t *testing.T) {
	var out bytes.Buffer
	first := firstWith(t, "kill", 1)
	if n, err := Repeat(t.Context(), Children{Test: "TestLife", Patience: time.Minute}, first, 2, &out); err != nil || n == 0 {
		t.Errorf("%d equal, %v:\n%s", n, err, out.String())
	}
}

// TestGuards takes only scripts that say which rule they guard.
func TestGuards(t *testing.T) {
	if err := guards("# A worker that is cut off gives its rows back.\nseed 1\n"); err != nil {
		t.Error(err)
	}
	for _, script := range []string{"seed 1\n", "# OrderPerKey: say here which rule this script guards.\n", "# order\n", ""} {
		if guards(script) == nil {
			t.Errorf("%q is taken", script)
		}
	}
}

// firstWith returns the first seed, from a seed on, whose scenario has a fault of this kind and none of the kinds with which TestLife
// crashes.
func firstWith(t *testing.T, kind string, from uint64) uint64 {
	t.Helper()
	for seed := from; seed < from+10000; seed++ {
		s := scenario.Generate(seed)
		kinds := map[string]bool{}
		for _, f := range s.Faults {
			kinds[f.Kind] = true
		}
		if kinds[kind] && !kinds["twin"] && !kinds["host-cut"] {
			return seed
		}
	}
	t.Fatalf("no seed has %s", kind)
	return 0
}
