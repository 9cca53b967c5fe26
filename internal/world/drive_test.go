package world_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/point"
	"github.com/kisgrid/kisgrid/internal/world"
	"github.com/kisgrid/kisgrid/internal/world/drive"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/oracle"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

var (
	seeds    = flag.Int("world.seeds", 0, "how many seeds to live through; 0 means 100, or 10 with the race detector or -short")
	seed     = flag.Uint64("world.seed", 1, "the first seed; the others follow it")
	bound    = flag.Duration("world.time", 0, "no seed begins after this time; 0 means 50s if -world.seeds is not given, else no bound")
	first    = flag.Bool("world.first", false, "end at the first breach, and do not shrink it")
	shrink   = flag.Duration("world.shrink", 2*time.Minute, "how long shrinking one breach may take; 0 shrinks none")
	jobs     = flag.Int("world.jobs", 0, "how many processes run at the same time; 0 means one for each processor")
	patience = flag.Duration("world.patience", 0, "how much processor time one life may take, and how long it may take none; 0 means 5m, or 10m with the race detector")
	folder   = flag.String("world.folder", "", "the `folder` for scripts of breaches; empty means that they are only printed")
	summary  = flag.String("world.json", "", "a `file` for what came of the seeds, as JSON")
	script   = flag.String("world.script", "", "a `file` with a script to live through instead of seeds")
	print    = flag.Bool("world.print", false, "print the script of the seed, and do not live through it")
	repeat   = flag.Int("world.repeat", 0, "live through this many seeds twice, and count how many have two equal lives")
)

// children are the processes that live through scenarios.
func children() drive.Children {
	c := drive.Children{Test: "TestLife", Patience: *patience}
	if c.Patience == 0 && bubble.Race {
		c.Patience = 10 * time.Minute
	}
	return c
}

// TestWorld lives through scenarios made from seeds. Flags say which; the target world of the Makefile sets them.
func TestWorld(t *testing.T) {
	switch {
	case *print:
		fmt.Print(scenario.Generate(*seed))
		return
	case *script != "":
		text, err := os.ReadFile(*script)
		if err != nil {
			t.Fatal(err)
		}
		drive.Replay(t, children(), string(text))
		return
	case *repeat > 0:
		if _, err := drive.Repeat(t.Context(), children(), *seed, *repeat, os.Stdout); err != nil {
			t.Fatal(err)
		}
		return
	}
	p := drive.Plan{
		Children: children(), Seeds: *seeds, First: *seed, Time: *bound, Jobs: *jobs, Stop: *first, Shrink: *shrink, Folder: *folder, Out: os.Stdout,
	}
	if p.Seeds == 0 { // the short form, among all other tests
		p.Seeds = 100
		if bubble.Race || testing.Short() {
			p.Seeds, p.Small = 10, true
		}
		if p.Time == 0 {
			p.Time = 50 * time.Second
		}
	}
	tally, err := p.Drive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := tally.Print(&table); err != nil {
		t.Fatal(err)
	}
	if *seeds > 0 && !*first || testing.Verbose() {
		fmt.Print("\n", table.String())
	}
	if *summary != "" {
		if err := tally.WriteFile(*summary); err != nil {
			t.Fatal(err)
		}
	}
	if tally.Broken > 0 {
		t.Errorf("%d of %d seeds broke a promise", tally.Broken, tally.Seeds)
	}
}

// TestKept lives through the scripts that were kept. Each of them has broken a promise once.
func TestKept(t *testing.T) { drive.ReplayAll(t, children(), "testdata") }

// TestLife is one life, in a child process of the other tests.
func TestLife(t *testing.T) {
	drive.Life(t, func(t *testing.T, s *scenario.Scenario, lines bool) drive.Outcome {
		r := world.Run(t, *s)
		o := drive.Outcome{Faults: map[string]int{}, Points: map[string]int64{}}
		for _, p := range point.All() {
			o.Points[p.Name] = p.Hits
		}
		if r.Stuck != "" {
			line, _, _ := strings.Cut(r.Stuck, "\n")
			o.Breaches = append(o.Breaches, drive.Breach{Oracle: drive.Deadlock, Text: line, Story: r.Stuck})
		}
		h := r.History
		if h == nil {
			return o
		}
		o.Virtual = h.Ended
		for _, b := range h.Batches {
			o.Rows += len(b.Rows)
		}
		for _, f := range h.Faults {
			o.Faults[f.Kind]++
		}
		for _, c := range h.Changes {
			o.Faults[c.Kind]++
		}
		if r.Stuck == "" {
			for _, b := range oracle.Judge(h).Breaches {
				o.Breaches = append(o.Breaches, drive.Breach{Oracle: b.Oracle, Subject: b.Subject.String(), Text: b.Text})
				if first := len(o.Breaches) - 1; first < 3 {
					o.Breaches[first].Story = b.Story(h)
				}
			}
		}
		if lines {
			all := historyLines(t, h)
			sum := sha256.Sum256([]byte(strings.Join(all, "\n")))
			o.Digest, o.Lines = hex.EncodeToString(sum[:]), all
		}
		return o
	})
}

// historyLines returns everything in a history, a line for each event, in order of time, so that two lives can be compared.
func historyLines(t *testing.T, h *history.History) []string {
	type line struct {
		at   time.Duration
		text string
	}
	var all []line
	add := func(at time.Duration, what string, event any) {
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line{at, fmt.Sprintf("%s %s %s", at, what, text)})
	}
	for _, r := range h.Runs {
		add(r.At, "run", r)
	}
	for _, b := range h.Batches {
		for i, try := range b.Tries {
			add(try.At, fmt.Sprintf("%s submits batch %d, try %d:", b.Client, b.Number, i+1), try.ID)
			if try.Ended > 0 {
				add(try.Ended, fmt.Sprintf("%s has the answer to batch %d, try %d:", b.Client, b.Number, i+1), try)
			}
		}
	}
	for _, c := range h.Calls {
		add(c.At, "call", c)
	}
	for _, d := range h.Documents {
		add(d.At, "document", d)
	}
	for _, e := range h.Events {
		add(e.At, "event", e)
	}
	for _, l := range h.Lives {
		for _, log := range l.Logs {
			add(log.At, l.Process+" logs", log)
		}
		bare := *l
		bare.Snaps, bare.Logs = nil, nil
		add(l.Ended, "life", bare)
	}
	slices.SortStableFunc(all, func(a, b line) int { return int(a.at - b.at) })
	texts := make([]string, len(all))
	for i, l := range all {
		texts[i] = l.text
	}
	return texts
}

// kept lives through a script that was kept in a test of its own.
func kept(t *testing.T, script string) { drive.Replay(t, children(), script) } //nolint:unused // the driver prints tests that call it
