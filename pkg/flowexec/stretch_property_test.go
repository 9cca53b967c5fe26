package flowexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// tale is a row of TestCutsDoNotMatter. Functions decide by all of it, and by how often it has come to them.
type tale struct {
	K    string          `json:"k"`
	ID   int             `json:"id"`
	N    int             `json:"n"`
	Last json.RawMessage `json:"last,omitempty"`
}

// chance is a number below of that follows from the row and its visit alone.
func (s tale) chance(ctx context.Context, of int) int {
	call := kis.From(ctx)
	h := fnv.New64a()
	fmt.Fprint(h, call.Function, s.K, s.ID, s.N, string(s.Last), call.RowID().Visit)
	return int(h.Sum64() >> 20 % uint64(of))
}

// fails is an error for the first attempts at some rows, and for all at few. Pauses are of random lengths, so rows that come of one
// overtake each other: where there may be such rows none fails.
func (s tale) fails(ctx context.Context) error {
	if kis.From(ctx).Param("expands") == "" && kis.From(ctx).Attempt <= max(0, s.chance(ctx, 12)-8) {
		return errors.New("not yet")
	}
	return nil
}

// hangs does not return for few rows.
func (s tale) hangs(ctx context.Context) {
	if s.chance(ctx, 40) == 7 {
		time.Sleep(10 * time.Second)
	}
}

// effectLog is connectors in memory that note what was done to each key. Some calls take long, and some fail: rows park for both.
type effectLog struct {
	store *memory.Store
	moods []byte // of the calls, one after the other, again and again; nil: all are quick
	mu    sync.Mutex
	calls int                 // guarded by mu
	done  map[string][]string // guarded by mu
	known map[string]bool     // names of effects; guarded by mu
}

func (l *effectLog) open(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	conn, err := l.store.Open(ctx, c)
	return &logged{conn, l, c.Name}, err
}

// mood is how the next call goes.
func (l *effectLog) mood(ctx context.Context) error {
	l.mu.Lock()
	mood := byte(0)
	if l.calls++; len(l.moods) > 0 {
		mood = l.moods[l.calls%len(l.moods)]
	}
	l.mu.Unlock()
	switch {
	case mood < 200:
	case mood < 230:
		return errors.New("the store is away")
	default:
		timer := time.NewTimer(time.Duration(mood) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// logged is a connection of effectLog.
type logged struct {
	connector.Connection
	log  *effectLog
	name string
}

func (l *logged) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	if err := l.log.mood(ctx); err != nil {
		return nil, err
	}
	return l.Connection.Load(ctx, keys)
}

func (l *logged) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	if err := l.log.mood(ctx); err != nil {
		return nil, err
	}
	l.log.mu.Lock()
	for _, e := range effects {
		id := fmt.Sprint(cause.Batch, cause.Function, e.Row, e.Output, e.Visit, e.Command)
		if l.log.known[id] {
			continue // it takes no effect again
		}
		l.log.known[id] = true
		key := l.name + " " + e.Key
		l.log.done[key] = append(l.log.done[key], fmt.Sprint(e.Op, e.Field, e.Value))
	}
	l.log.mu.Unlock()
	return l.Connection.Save(ctx, cause, effects)
}

// A flow's forms of functions, by their first letters.
var taleForms = map[byte]string{
	's': "Save; cname: %s; save: {key: '{k}', set: {n: n}}",
	'i': "Save; cname: %s; save: {key: '{k}', incr: {n: n, m: id}}",
	'a': "Save; cname: %s; save: {key: '{k}l', append: {x: n}}",
	'd': "Save; cname: %s; save: {key: '{k}', delete: true}",
	'l': "Load; cname: %s; on_missing: 'null'; load: {key: '{k}', set: {last: n}}",
	'm': "Load; cname: %s; on_missing: dead; load: {key: '{k}', set: {last: m}}",
	'w': "Load; cname: %s; wait: 300ms; load: {key: '{k}', set: {last: n}}",
	'L': "Load; cname: %s; on_missing: 'null'; retry_times: 2; retry_duration: 20ms",
	'S': "Save; cname: %s; retry_times: 2; retry_duration: 20ms",
	'v': "Verify; timeout: 1s; retry_times: 2; retry_duration: 50ms",
	'c': "Calculate; timeout: 1s; retry_times: 2; retry_duration: 50ms",
	'e': "Expand",
}

// drawTale draws a flow, in which a row may jump from each Verify, as jumps says.
func drawTale(t *rapid.T) (functions []string, jumps map[string][]string) {
	forms := rapid.SliceOfN(rapid.SampledFrom([]byte("siadlmwLSLSvvce")), 2, 7).Draw(t, "forms")
	type step struct {
		name, connector string
		saves           bool
	}
	var steps []step
	for i, form := range forms {
		if form == 'e' && slices.Contains(forms[:i], 'e') {
			form = 'c' // rows that jump back over several Expands grow too many
		}
		s := step{name: fmt.Sprintf("%c%d", form, i)}
		text := taleForms[form]
		if strings.Contains(text, "%s") {
			s.connector = rapid.SampledFrom([]string{"store", "store", "other"}).Draw(t, "connector")
			s.saves = strings.HasPrefix(text, "Save")
			text = fmt.Sprintf(text, s.connector)
		}
		if steps = append(steps, s); slices.Contains(forms, 'e') {
			text += "; default_params: {expands: x}"
		}
		functions = append(functions, s.name+" "+text)
	}
	uses := make(map[string]int)
	for _, s := range steps {
		uses[s.connector]++
	}
	jumps = make(map[string][]string)
	for i, s := range steps {
		for k, target := range steps {
			// A connector that only one step uses has no stretch: rows that jump back over it are outside of the promise.
			alone := func(s step) bool { return s.saves && uses[s.connector] == 1 }
			if s.name[0] == 'v' && (k > i || !slices.ContainsFunc(steps[k:i], alone)) && k != i {
				jumps[s.name] = append(jumps[s.name], target.name)
			}
		}
	}
	return functions, jumps
}

func registerTale(r *kis.Registry, functions []string, jumps map[string][]string) {
	for _, f := range functions {
		name, _, _ := strings.Cut(f, " ")
		switch name[0] {
		case 'L':
			r.Func(name, kis.Load(func(s tale) string { return s.K }, func(ctx context.Context, s tale, saved *map[string]string) (tale, error) {
				if s.Last = nil; saved != nil {
					s.Last = json.RawMessage(raw(*saved))
				}
				return s, s.fails(ctx)
			}))
		case 'S':
			r.Func(name, kis.Save(func(ctx context.Context, w kis.Writer, s tale) error {
				switch s.chance(ctx, 6) {
				case 0:
				case 1:
					w.Delete(s.K)
				case 2:
					w.Incr(s.K, "m", s.ID)
				case 3:
					w.Append(s.K+"l", s.ID)
					w.Set(s.K, "n", s.N)
				default:
					w.Set(s.K, "n", s.N)
					w.Incr(s.K, "n", 1)
				}
				return s.fails(ctx)
			}))
		case 'v':
			r.Func(name, kis.Verify(func(ctx context.Context, s tale) error {
				s.hangs(ctx)
				targets, c := jumps[name], s.chance(ctx, 12)
				switch visit := kis.From(ctx).RowID().Visit; {
				case c == 0:
					return kis.Drop("so it is")
				case c < 4 && visit < 3 && len(targets) > 0:
					return kis.Jump(targets[s.chance(ctx, len(targets))])
				}
				return s.fails(ctx)
			}))
		case 'c':
			r.Func(name, kis.Calculate(func(ctx context.Context, s tale) (tale, error) {
				s.hangs(ctx)
				s.N += len(s.Last) + 1
				return s, s.fails(ctx)
			}))
		case 'e':
			r.Func(name, kis.Expand(func(ctx context.Context, s tale, emit func(tale)) error {
				for i := range s.chance(ctx, 4) {
					s.N += i
					emit(s)
				}
				return nil
			}))
		}
	}
}

// drawBatches cuts rows of few keys into batches.
func drawBatches(t *rapid.T) (batches [][]string) {
	for id, n := 0, rapid.IntRange(1, 5).Draw(t, "batches"); len(batches) < n; {
		var rows []string
		for range rapid.IntRange(1, 12).Draw(t, "rows") {
			id++
			rows = append(rows, raw(tale{K: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"), ID: id, N: rapid.IntRange(0, 3).Draw(t, "n")}))
		}
		batches = append(batches, rows)
	}
	return batches
}

// told runs batches as one stream, or each row once the one before has ended, and tells how each row ended, and what was done to each
// key.
func told(t *testing.T, l *flowexec.Local, log *effectLog, batches [][]string, each bool) string {
	s, err := l.Stream(t.Context(), "F")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var pending []*flowexec.Pending
	var lines []string
	wait := func() {
		for _, p := range pending {
			result, err := p.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows := make([]string, p.Batch().Len())
			for _, o := range result.NotDone {
				rows[o.Row] = fmt.Sprintf("%s %s %s %s %d", o.Outcome, o.Code, o.Function, o.Reason, o.Attempts)
			}
			for i, origin := range result.Output.Origins {
				rows[origin] += " " + string(result.Output.Rows.Row(i))
			}
			lines = append(lines, rows...)
		}
		pending = nil
	}
	for _, rows := range batches {
		cuts := [][]string{rows}
		if each {
			cuts = slices.Collect(slices.Chunk(rows, 1))
		}
		for _, rows := range cuts {
			p, err := s.Send(t.Context(), batch.Rows(rows...))
			if err != nil {
				t.Fatal(err)
			}
			if pending = append(pending, p); each {
				wait()
			}
		}
	}
	wait()
	return log.tell(lines)
}

// tell is how rows ended, and what was done to each key.
func (l *effectLog) tell(rows []string) string {
	var lines, keys []string
	for i, row := range rows {
		lines = append(lines, fmt.Sprintf("%d: %s", i+1, row))
	}
	for key, effects := range l.done {
		keys = append(keys, fmt.Sprint(key, " ", effects))
	}
	slices.Sort(keys)
	return strings.Join(append(lines, keys...), "\n")
}

// Get implements flowexec.Connectors.
func (l *effectLog) Get(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	return l.open(ctx, &definition.Connector{Name: c.Name, Type: "memory"})
}

// toldBounded is told for lanes whose runs hold little of what functions make: the rest of a run goes on as a run of its own.
func toldBounded(t *testing.T, plan *flowexec.Plan, log *effectLog, batches [][]string) string {
	var c collector
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: plan.Copies(), Connectors: log, RunBytes: 400})
	lanes.Watch(taps())
	defer lanes.Stop()
	first := make(map[*flowexec.Part]int)
	key, n, stream := batch.NewKeyField("k"), 0, batch.NewStreamID()
	for i, rows := range batches {
		p := &flowexec.Part{Plan: plan, Batch: batch.ID{Stream: stream, Sequence: uint64(i) + 1}, BatchRows: len(rows), Output: true, Attempt: 1, Done: c.done}
		for _, row := range rows {
			p.Columns.Append([]byte(row))
		}
		if bad := key.Fill(&p.Columns); bad != nil {
			t.Fatal(bad)
		}
		first[p] = n
		n += len(rows)
		lanes.Enqueue(p)
	}
	if err := lanes.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, n)
	for _, r := range c.runs {
		for _, o := range r.NotDone {
			lines[first[r.Part]+int(o.Row)] = fmt.Sprintf("%s %s %s %s %d", o.Outcome, o.Code, o.Function, o.Reason, o.Attempts)
		}
	}
	for _, r := range c.runs {
		for i, origin := range r.Output.Origins {
			lines[first[r.Part]+int(origin)] += " " + string(r.Output.Rows.Row(i))
		}
	}
	return log.tell(lines)
}

// However rows are cut into batches, they end as if each was submitted when the one before had ended, and so do connectors.
func TestCutsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		functions, jumps := drawTale(rt)
		batches := drawBatches(rt)
		copies := rapid.IntRange(1, 3).Draw(rt, "copies")
		var moods []byte
		if !strings.Contains(strings.Join(functions, " "), "expands") {
			moods = append(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "moods"), 0, 0, 0)
		}
		docs := append(chain(fmt.Sprintf("shard_key: k\ncopies: %d\n", copies), functions...),
			definition.Document{YAML: []byte("kistype: conn\ncname: other\ntype: redis\naddrs: localhost:1\n")})
		for i := range docs {
			docs[i].YAML = []byte(strings.Replace(string(docs[i].YAML), "  cname: store\n  cname", "  cname", 1))
		}
		register := func(r *kis.Registry) { registerTale(r, functions, jumps) }
		var got [3]string
		for i := range got {
			bubble.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // until functions that were left behind have ended
				log := &effectLog{store: memory.New(), done: make(map[string][]string), known: make(map[string]bool)}
				if i > 0 {
					log.moods = moods
				}
				if i == 2 {
					registry := kis.NewRegistry()
					register(registry)
					plan, err := flowexec.Compile(bundle(t, docs), registry)
					if err != nil {
						t.Fatal(err)
					}
					got[i] = toldBounded(t, plan, log, batches)
					return
				}
				l := local(t, docs, register,
					flowexec.WithOpeners(map[string]connector.Opener{"redis": log.open}), flowexec.WithLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Error})))
				got[i] = told(t, l, log, batches, i == 0)
			})
		}
		for i, in := range []string{"batches", "batches of which runs hold little"} {
			if got[0] != got[i+1] {
				rt.Errorf("flow %q, jumps %v\nrow by row it is\n%s\nin %s\n%s", functions, jumps, got[0], in, got[i+1])
			}
		}
	})
}
