package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// recorder is a memory store that tells what it was asked, and can refuse or be away.
type recorder struct {
	connector.Connection
	mu     sync.Mutex
	saves  [][]connector.Effect         // guarded by mu
	causes []connector.Cause            // of saves; guarded by mu
	loads  int                          // guarded by mu
	refuse func(connector.Effect) error // nil: nothing
	away   func() error                 // nil: never
}

func newRecorder(t testing.TB) *recorder {
	c, err := memory.New().Open(context.Background(), &definition.Connector{Name: "store", Type: "memory", Key: "s_"})
	if err != nil {
		t.Fatal(err)
	}
	return &recorder{Connection: c}
}

func (r *recorder) option() flowexec.LocalOption {
	return flowexec.WithOpeners(map[string]connector.Opener{
		"redis": func(context.Context, *definition.Connector) (connector.Connection, error) { return r, nil },
	})
}

func (r *recorder) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	if r.away != nil {
		if err := r.away(); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	r.saves, r.causes = append(r.saves, effects), append(r.causes, cause)
	r.mu.Unlock()
	var errs []error
	var good []connector.Effect
	for i, e := range effects {
		if r.refuse != nil && r.refuse(e) != nil {
			if errs == nil {
				errs = make([]error, len(effects))
			}
			errs[i] = r.refuse(e)
			continue
		}
		good = append(good, e)
	}
	if _, err := r.Connection.Save(ctx, cause, good); err != nil {
		return nil, err
	}
	return errs, nil
}

func (r *recorder) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	if r.away != nil {
		if err := r.away(); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	r.loads++
	r.mu.Unlock()
	return r.Connection.Load(ctx, keys)
}

// effects are those of the n-th Save, one per line.
func (r *recorder) effects(n int) string {
	var lines []string
	for _, e := range r.saves[n] {
		lines = append(lines, fmt.Sprintf("%d %s.%s=%s row %d output %d visit %d command %d of %s", e.Op, e.Key, e.Field, e.Value,
			e.Row, e.Output, e.Visit, e.Command, r.causes[n].Function))
	}
	return strings.Join(lines, "\n")
}

func saveRow(_ context.Context, to kis.Writer, i in) error {
	switch {
	case i.N < 0:
		to.Set(i.K, "lost", 1)
		return errors.New("negative")
	case i.N == 99:
		to.Incr(i.K, "n", "many")
		return nil
	}
	to.Set(i.K, "n", i.N)
	to.Incr(i.K, "count", 1.5)
	to.Append(i.K+"_list", i.K)
	return nil
}

func TestSave(t *testing.T) {
	store := newRecorder(t)
	store.refuse = func(e connector.Effect) error {
		if e.Key == "c" {
			return errors.New("c is no hash")
		}
		return nil
	}
	l := local(t, chain("", "e Expand", "s Save"), func(r *kis.Registry) {
		r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
			emit(i)
			if i.K == "b" {
				emit(in{"b2", 0})
			}
			return nil
		}))
		r.Func("s", kis.Save(saveRow))
	}, store.option())
	expect(t, submit(t, l, row("a", 1), row("b", -1), row("c", 3), row("d", 99), row("e", 5)), `
		1 dead FUNCTION_ERROR s: negative
		2 dead SAVE_FAILED s: connector store refused what the row saves: c is no hash
		3 dead FUNCTION_ERROR s: add to field "n" of key "d": a string is not a number: pass an integer or a float
		0 → {"k":"a","n":1}
		1 → {"k":"b2","n":0}
		4 → {"k":"e","n":5}`)
	if len(store.saves) != 1 {
		t.Fatalf("a run made %d saves, not one", len(store.saves))
	}
	expect(t, store.effects(0), `
		1 a.n=1 row 0 output 0 visit 0 command 0 of s
		2 a.count=1.5 row 0 output 0 visit 0 command 1 of s
		3 a_list.=a row 0 output 0 visit 0 command 2 of s
		1 b2.n=0 row 1 output 627405149472732430 visit 0 command 0 of s
		2 b2.count=1.5 row 1 output 627405149472732430 visit 0 command 1 of s
		3 b2_list.=b2 row 1 output 627405149472732430 visit 0 command 2 of s
		1 c.n=3 row 2 output 0 visit 0 command 0 of s
		2 c.count=1.5 row 2 output 0 visit 0 command 1 of s
		3 c_list.=c row 2 output 0 visit 0 command 2 of s
		1 e.n=5 row 4 output 0 visit 0 command 0 of s
		2 e.count=1.5 row 4 output 0 visit 0 command 1 of s
		3 e_list.=e row 4 output 0 visit 0 command 2 of s`)
}

// Visits tell apart the effects of a row that jumped back; a row behind which the whole batch stands is saved as the batch's.
// The numbers are for ever: other builds know the effects by them.
func TestSaveNames(t *testing.T) {
	store := newRecorder(t)
	l := local(t, chain("", "s Save", "v Verify"), func(r *kis.Registry) {
		r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Delete(i.K); return nil }))
		visits := 0
		r.Func("v", kis.Verify(ctxErr(func(in) error {
			if visits++; visits < 3 {
				return kis.Jump("s")
			}
			return nil
		})))
	}, store.option())
	expect(t, submit(t, l, row("a", 1)), `0 → {"k":"a","n":1}`)
	for visit := range 3 {
		expect(t, store.effects(visit), fmt.Sprintf("4 a.= row 0 output 0 visit %d command 0 of s", visit))
	}

	store = newRecorder(t)
	l = local(t, chain("", "f Calculate", "s Save"), func(r *kis.Registry) {
		r.Func("f", batchOf(func(context.Context, []in) ([]in, error) { return []in{{"x", 1}, {"y", 2}, {"z", 3}}, nil }))
		r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Set(i.K, "n", i.N); return nil }))
	}, store.option())
	submit(t, l, row("a", 1), row("b", 2))
	expect(t, store.effects(0), `
		1 x.n=1 row 0 output 16321491304643971414 visit 0 command 0 of s
		1 y.n=2 row 1 output 16321491304643971414 visit 0 command 0 of s
		1 z.n=3 row 2 output 16321491304643971414 visit 0 command 0 of s`)
}

func TestStoreAway(t *testing.T) {
	register := func(r *kis.Registry) {
		r.Func("s", kis.Save(saveRow))
		r.Func("l", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, saved *in) (in, error) { return *saved, nil }))
	}
	for _, function := range []string{"s Save", "l Load"} {
		t.Run(function, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				store := newRecorder(t)
				if _, err := store.Connection.Save(t.Context(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: "a", Field: "n", Value: "7"}}); err != nil {
					t.Fatal(err)
				}
				back := time.Now().Add(10 * time.Second)
				store.away = func() error {
					if time.Now().Before(back) {
						return batch.Errorf(batch.CodeConnectorUnavailable, "redis is away")
					}
					return nil
				}
				l := local(t, chain("timeout: 15s\n", function), register, store.option())
				if got := submit(t, l, row("a", 1)); !strings.HasPrefix(got, "0 → ") {
					t.Errorf("a store that came back: %s", got)
				}
				if waited := time.Until(back); waited > 0 || waited < -2*time.Second {
					t.Errorf("came through %v after the store was back", -waited)
				}
				back = time.Now().Add(time.Hour)
				begin := time.Now()
				expect(t, submit(t, l, row("a", 1)), "0 failed CONNECTOR_UNAVAILABLE "+function[:1]+": connector store could not be asked: CONNECTOR_UNAVAILABLE: redis is away…")
				if took := time.Since(begin); took != 15*time.Second {
					t.Errorf("gave up after %v, not with the flow's timeout", took)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

type saved struct {
	N    int       `json:"n"`
	Name string    `json:"name"`
	When time.Time `json:"when"`
	List []int     `json:"list"`
	P    *float64  `json:"p"`
}

func TestLoad(t *testing.T) {
	store := newRecorder(t)
	set := func(key, field, value string) {
		t.Helper()
		if _, err := store.Connection.Save(t.Context(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: key, Field: field, Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	set("a", "n", "1")
	set("a", "name", "95")
	set("a", "when", "2026-01-02T03:04:05Z")
	set("a", "list", "[1,2]")
	set("a", "p", "2.5")
	set("a", "more", "x")
	set("b", "n", "many")
	register := func(r *kis.Registry) {
		r.Func("l", kis.Load(func(i in) string {
			if i.N == 7 {
				panic("no key")
			}
			return i.K
		}, func(_ context.Context, i in, s *saved) (map[string]any, error) {
			if s == nil {
				return map[string]any{"missing": i.K}, nil
			}
			return map[string]any{"s": *s}, nil
		}))
	}
	want := `0 → {"s":{"n":1,"name":"95","when":"2026-01-02T03:04:05Z","list":[1,2],"p":2.5}}`
	l := local(t, chain("", "l Load; on_missing: dead"), register, store.option())
	expect(t, submit(t, l, row("a", 0), row("b", 0), row("c", 0), row("d", 7), row("a", 2)), `
		1 dead CONVERSION_FAILED l: what connector store has does not fit l: n must be a whole number, it is a string
		2 dead LOAD_MISSING l: connector store has no key "s_c"
		3 dead FUNCTION_PANIC l: panic: no key
		`+want+`
		4`+want[1:])
	if store.loads != 1 {
		t.Errorf("the keys of a run were read in %d round trips", store.loads)
	}
	l = local(t, chain("", `l Load; on_missing: "null"`), register, store.option())
	expect(t, submit(t, l, row("c", 0), row("a", 0)), "0 → {\"missing\":\"c\"}\n1"+want[1:])
}

func TestLoadWaits(t *testing.T) {
	register := func(r *kis.Registry) {
		r.Func("l", kis.Load(func(i in) string { return i.K },
			func(_ context.Context, i in, s *map[string]string) (in, error) { return in{(*s)["name"], i.N}, nil }))
	}
	bubble.Test(t, func(t *testing.T) {
		store := newRecorder(t)
		l := local(t, chain("", "l Load; wait: 10s"), register, store.option())
		go func() {
			for _, key := range []string{"b", "a"} {
				time.Sleep(3 * time.Second)
				if _, err := store.Connection.Save(context.Background(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: key, Field: "name", Value: key + "!"}}); err != nil {
					t.Error(err)
				}
			}
		}()
		begin := time.Now()
		expect(t, submit(t, l, row("a", 1), row("b", 2)), "0 → {\"k\":\"a!\",\"n\":1}\n1 → {\"k\":\"b!\",\"n\":2}")
		if took := time.Since(begin); took != 6*time.Second {
			t.Errorf("the keys were there after 6s, the rows came through after %v", took)
		}
		begin = time.Now()
		expect(t, submit(t, l, row("a", 1), row("x", 2)), `
			1 dead LOAD_TIMEOUT l: connector store had no key "s_x" within 10s: save it first, or raise option.wait
			0 → {"k":"a!","n":1}`)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("gave up after %v, not 10s", took)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Two flows of which each waits for what the other would save behind its Load both time out, and say for what they waited.
func TestFlowsThatWaitForEachOther(t *testing.T) {
	const flow = `
kistype: flow
status: 1
flow_name: %[1]s
shard_key: k
flows: [{fname: load%[2]s}, {fname: save%[1]s}]
---
kistype: func
fname: load%[2]s
fmode: Load
option: {cname: store, wait: 5s}
---
kistype: func
fname: save%[1]s
fmode: Save
option: {cname: store}
`
	bubble.Test(t, func(t *testing.T) {
		store := newRecorder(t)
		docs := definition.Split("both.yml", []byte(fmt.Sprintf(flow, "A", "B")+"---"+fmt.Sprintf(flow, "B", "A")+
			"---\nkistype: conn\ncname: store\ntype: redis\naddrs: localhost:1\nkey: s_\n"))
		l := local(t, docs, func(r *kis.Registry) {
			for _, name := range []string{"A", "B"} {
				r.Func("load"+name, kis.Load(func(i in) string { return name + i.K },
					func(_ context.Context, i in, _ *map[string]string) (in, error) { return i, nil }))
				r.Func("save"+name, kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Set(name+i.K, "n", i.N); return nil }))
			}
		}, store.option())
		submit := func(flow string, rows ...string) *flowexec.Pending {
			t.Helper()
			s, err := l.Stream(t.Context(), flow)
			if err != nil {
				t.Fatal(err)
			}
			p, err := s.Send(t.Context(), batch.Rows(rows...))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return p
		}
		begin := time.Now()
		for flow, p := range map[string]*flowexec.Pending{"A": submit("A", row("x", 1), row("y", 1)), "B": submit("B", row("x", 1))} {
			result, err := p.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"A": `
				0 dead LOAD_TIMEOUT loadB: connector store had no key "s_Bx" within 5s: save it first, or raise option.wait
				1 dead LOAD_TIMEOUT loadB: connector store had no key "s_By" within 5s: save it first, or raise option.wait`,
				"B": `0 dead LOAD_TIMEOUT loadA: connector store had no key "s_Ax" within 5s: save it first, or raise option.wait`}[flow]
			expect(t, tell(result), want)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("they waited for %v, not 5s", took)
		}
	})
}

func TestDeclared(t *testing.T) {
	store := newRecorder(t)
	l := local(t, chain("",
		`s Save; save: {key: "{k}/{n}", set: {name: K, "n": n}}`,
		`l Load; load: {key: "{k}/{n}", set: {name: name, copied: "n", none: nothing}}`,
		"c Calculate",
	), func(r *kis.Registry) {
		r.Func("c", kis.Calculate(func(_ context.Context, m struct {
			K, Name string
			N       int
			Copied  float64
			None    *int
		}) (map[string]any, error) {
			return map[string]any{"all": fmt.Sprint(m)}, nil
		}))
	}, store.option())
	expect(t, submit(t, l, row("7", 1), `{"k":"b"}`, `[]`, row("c", 3)), `
		1 dead MISSING_FIELD s: the key {k}/{n}: the row lacks the field n
		2 dead ROW_UNDECODABLE s: s needs the row's fields, and it is no JSON object: …
		0 → {"all":"{7 7 1 1 <nil>}"}
		3 → {"all":"{c c 3 3 <nil>}"}`)
	expect(t, store.effects(0), `
		1 7/1.n=1 row 0 output 0 visit 0 command 0 of s
		1 7/1.name=7 row 0 output 0 visit 0 command 1 of s
		1 c/3.n=3 row 3 output 0 visit 0 command 0 of s
		1 c/3.name=c row 3 output 0 visit 0 command 1 of s`)
}
