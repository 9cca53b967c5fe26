package scheduler_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

var update = flag.Bool("update", false, "write what the scripts in testdata give now into them")

// TestScripts runs testdata/*.txt. A line that begins at the margin is an event; the lines below it, indented, are the
// actions that it gives. The whole state is checked after each. commands lists the events; keys are slots.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript(t).run(string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(got, "\n")
			for i := range gotLines {
				if i >= len(wantLines) || wantLines[i] != gotLines[i] {
					t.Fatalf("%s, line %d: got\n%s\nThe script goes on differently. If it should: go test ./pkg/scheduler -run TestScripts -update",
						file, i+1, strings.Join(gotLines[max(0, i-3):min(len(gotLines), i+4)], "\n"))
				}
			}
			if len(wantLines) != len(gotLines) {
				t.Fatalf("%s has more lines than the %d that it gives now", file, len(gotLines))
			}
		})
	}
}

type script struct {
	*shell
	batches map[string]*submission
	names   map[*scheduler.Batch]string
	out     strings.Builder
}

func newScript(t *testing.T) *script {
	s := &script{shell: newShell(t, scheduler.Config{}), batches: map[string]*submission{}, names: map[*scheduler.Batch]string{}}
	s.checkEvery = 1
	s.told = func(a scheduler.Action) { s.print("%s", s.describe(a)) }
	return s
}

func (s *script) print(format string, args ...any) {
	fmt.Fprintf(&s.out, "    "+format+"\n", args...)
}

// run gives the script with the actions that its events give now.
func (s *script) run(text string) string {
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		s.out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s.name = fmt.Sprintf("line %d (%s)", i+1, line)
		words := strings.Fields(line)
		do := commands[words[0]]
		if do == nil {
			s.fatalf("no such event")
		}
		do(s, words[1:])
	}
	return s.out.String()
}

// commands are the events of scripts, and some questions.
var commands = map[string]func(s *script, args []string){
	// switch FLOW REVISION [WORKER...]: workers that acknowledged it
	"switch": func(s *script, args []string) {
		s.step(scheduler.FlowSwitched{Flow: args[0], Revision: s.number(args[1]), Ready: args[2:]})
	},
	// retire FLOW
	"retire": func(s *script, args []string) {
		s.print("idle: %t", s.s.Idle(args[0]))
		s.step(scheduler.FlowRetired{Flow: args[0]})
	},
	// void WORKER FLOW: its credit
	"void": func(s *script, args []string) { s.step(scheduler.CreditEnded{Worker: args[0], Flow: args[1]}) },
	// connect WORKER [PART-ROWS PART-BYTES]: the most that it takes in one part
	"connect": func(s *script, args []string) {
		e := scheduler.WorkerConnected{Worker: args[0], Name: args[0]}
		if len(args) > 1 {
			e.PartRows, e.PartBytes = s.number(args[1]), s.number(args[2])
		}
		s.step(e)
	},
	// worker WORKER FLOW ROWS BYTES: connects, is ready for revision 1, and gives credit
	"worker": func(s *script, args []string) {
		s.step(scheduler.WorkerConnected{Worker: args[0], Name: args[0]})
		s.step(scheduler.WorkerReady{Worker: args[0], Flow: args[1], Revision: 1})
		s.step(scheduler.Credited{Worker: args[0], Flow: args[1], Rows: s.number(args[2]), Bytes: s.number(args[3])})
	},
	// resume WORKER PARTS-RECEIVED
	"resume": func(s *script, args []string) {
		s.step(scheduler.WorkerResumed{Worker: args[0], PartsReceived: uint64(s.number(args[1]))})
	},
	// disconnect WORKER
	"disconnect": func(s *script, args []string) { s.step(scheduler.WorkerDisconnected{Worker: args[0]}) },
	// ready WORKER FLOW REVISION
	"ready": func(s *script, args []string) {
		s.step(scheduler.WorkerReady{Worker: args[0], Flow: args[1], Revision: s.number(args[2])})
	},
	// drain WORKER
	"drain": func(s *script, args []string) { s.step(scheduler.WorkerDraining{Worker: args[0]}) },
	// cordon WORKER
	"cordon": func(s *script, args []string) {
		s.step(scheduler.WorkerCordoned{Worker: args[0], Cordoned: true})
	},
	// uncordon WORKER
	"uncordon": func(s *script, args []string) { s.step(scheduler.WorkerCordoned{Worker: args[0]}) },
	// gone WORKER
	"gone": func(s *script, args []string) { s.step(scheduler.WorkerGone{Worker: args[0]}) },
	// died WORKER
	"died": func(s *script, args []string) { s.step(scheduler.WorkerGone{Worker: args[0], Died: true}) },
	// credit WORKER FLOW ROWS BYTES
	"credit": func(s *script, args []string) {
		s.step(scheduler.Credited{Worker: args[0], Flow: args[1], Rows: s.number(args[2]), Bytes: s.number(args[3])})
	},
	// submit BATCH FLOW keys=SLOTS|rows=N [revision=N, else 1] [bytes=OF-EACH-ROW] [deadline=AFTER] [dead=ROWS, before they came]
	"submit": (*script).submit,
	// cancel BATCH
	"cancel": func(s *script, args []string) { s.step(scheduler.Cancelled{Batch: &s.batches[args[0]].Batch}) },
	// answer WORKER PART [done=ROWS] [dead=ROWS] [filtered=ROWS] [returned=ROWS] [began=ROWS] [parked=ROWS] [last], rows counted within the part
	"answer": (*script).answer,
	// tick AFTER
	"tick": func(s *script, args []string) {
		d, err := time.ParseDuration(args[0])
		if err != nil {
			s.fatalf("%v", err)
		}
		s.now = s.now.Add(d)
		s.step(scheduler.Tick{})
	},
	// ledger FLOW
	"ledger": func(s *script, args []string) {
		s.s.Ledgers(func(flow string, l scheduler.Ledger) {
			if flow == args[0] {
				s.print("in %d = done %d + filtered %d + aborted %d + dead %d + failed %d + in flight %d", l.In, l.Outcomes[batch.Done],
					l.Outcomes[batch.Filtered], l.Outcomes[batch.Aborted], l.Outcomes[batch.Dead], l.Outcomes[batch.Failed], l.InFlight())
			}
		})
	},
	// explain FLOW SLOT
	"explain": func(s *script, args []string) {
		e := s.s.Explain(args[0], uint64(s.number(args[1])))
		if e.Worker == "" {
			e.Worker = "nowhere"
		}
		s.print("%s: %s", e.Worker, e.Reason)
	},
}

func (s *script) submit(args []string) {
	sub := new(submission)
	b := &sub.Batch
	*b = scheduler.Batch{Flow: args[1], Revision: 1, Owner: sub}
	bytes, rows := uint32(50), 0
	for _, arg := range args[2:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "keys":
			for _, slot := range s.places(value) {
				b.Keys = append(b.Keys, uint64(slot))
			}
			rows = len(b.Keys)
		case "rows":
			rows = int(s.number(value))
		case "revision":
			b.Revision = s.number(value)
		case "bytes":
			bytes = uint32(s.number(value))
		case "deadline":
			d, err := time.ParseDuration(value)
			if err != nil {
				s.fatalf("%v", err)
			}
			b.Deadline = s.now.Add(d)
		case "dead":
			for _, row := range s.places(value) {
				b.Ended = append(b.Ended, batch.RowOutcome{Row: row, Outcome: batch.Dead, Code: batch.CodeMissingShardKey})
			}
		default:
			s.fatalf("a batch has no %s", name)
		}
	}
	for i := range rows {
		b.Ends = append(b.Ends, bytes*uint32(i+1))
	}
	s.batches[args[0]], s.names[b] = sub, args[0]
	s.step(scheduler.Submitted{Batch: b})
}

func (s *script) answer(args []string) {
	e := scheduler.Answered{Worker: args[0], Part: uint64(s.number(args[1]))}
	for _, arg := range args[2:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "done":
			e.Finished = append(e.Finished, s.ranges(value)...)
		case "returned":
			e.Returned = append(e.Returned, s.ranges(value)...)
		case "dead", "filtered":
			outcome := batch.Dead
			if name == "filtered" {
				outcome = batch.Filtered
			}
			for _, row := range s.places(value) {
				e.NotDone = append(e.NotDone, batch.RowOutcome{Row: row, Outcome: outcome})
			}
		case "began":
			e.Began = append(e.Began, s.ranges(value)...)
		case "parked":
			e.Parked = append(e.Parked, s.ranges(value)...)
		case "last":
			e.Last = true
		default:
			s.fatalf("an answer has no %s", name)
		}
	}
	e.Result = result{finished: e.Finished, notDone: e.NotDone, last: e.Last}
	s.step(e)
}

func (s *script) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.fatalf("%v", err)
	}
	return n
}

// places reads 1,2,5-7.
func (s *script) places(text string) []uint32 {
	var places []uint32
	for _, r := range s.ranges(text) {
		for i := range r.Count {
			places = append(places, r.First+i)
		}
	}
	return places
}

func (s *script) ranges(text string) []batch.Range {
	var ranges []batch.Range
	for word := range strings.SplitSeq(text, ",") {
		first, last, found := strings.Cut(word, "-")
		if !found {
			last = first
		}
		from, to := s.number(first), s.number(last)
		ranges = append(ranges, batch.Range{First: uint32(from), Count: uint32(to - from + 1)})
	}
	return ranges
}

// pack writes 1,2,5-7.
func pack(places []uint32) string {
	var words []string
	for i := 0; i < len(places); {
		n := i + 1
		for n < len(places) && places[n] == places[n-1]+1 {
			n++
		}
		if n-i > 2 {
			words = append(words, fmt.Sprintf("%d-%d", places[i], places[n-1]))
		} else {
			n = i + 1
			words = append(words, strconv.Itoa(int(places[i])))
		}
		i = n
	}
	return strings.Join(words, ",")
}

func (s *script) describe(a scheduler.Action) string {
	rows := func(n int, row func(uint32) uint32) string {
		places := make([]uint32, n)
		for i := range places {
			places[i] = row(uint32(i))
		}
		return pack(places)
	}
	over := func(last bool) string {
		if last {
			return ", its last"
		}
		return ""
	}
	switch a := a.(type) {
	case scheduler.Send:
		p := a.Part
		deaths := ""
		if p.Deaths > 0 {
			deaths = fmt.Sprintf(", deaths %d", p.Deaths)
		}
		return fmt.Sprintf("send %s part %d: %s %s%s", a.Worker, p.Number, s.names[p.Batch], rows(p.Len(), p.Row), deaths)
	case scheduler.Release:
		var slots []uint32
		for _, r := range a.Slots {
			for i := range r.Count {
				slots = append(slots, r.First+i)
			}
		}
		return fmt.Sprintf("release %s %s: slots %s", a.Worker, a.Flow, pack(slots))
	case scheduler.Answer:
		only := ""
		if a.Only != nil {
			var counts []uint32
			for i := range uint32(a.Part.Len()) {
				if a.Only.Has(i) {
					counts = append(counts, i)
				}
			}
			only = " of which count " + pack(counts)
		}
		return fmt.Sprintf("answer %s: part %d%s%s", s.names[a.Part.Batch], a.Part.Number, only, over(a.Last))
	case scheduler.Fail:
		return fmt.Sprintf("fail %s: %s %s %s%s", s.names[a.Batch], pack(a.Rows), a.Outcome, a.Code, over(a.Last))
	case scheduler.Finish:
		return fmt.Sprintf("finish %s", s.names[a.Batch])
	}
	panic(fmt.Sprintf("an action of unknown type %T", a))
}

func TestPackedPlaces(t *testing.T) {
	s := newScript(t)
	for _, text := range []string{"0", "0,1", "0-2", "3,5-9,11,12", "7,3-5"} {
		if got := pack(s.places(text)); got != text {
			t.Errorf("%s is read and written as %s", text, got)
		}
	}
	if got := s.places("4-6,1"); !slices.Equal(got, []uint32{4, 5, 6, 1}) {
		t.Errorf("4-6,1 is read as %v", got)
	}
}
