package flowexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// hostile is an error whose methods do what no error should.
type hostile struct {
	text string
	do   map[string]func()
}

func (h *hostile) call(method string) {
	if do := h.do[method]; do != nil {
		do()
	}
}
func (h *hostile) Error() string { h.call("Error"); return h.text }
func (h *hostile) Unwrap() error { h.call("Unwrap"); return nil }
func (h *hostile) Is(error) bool { h.call("Is"); return false }
func (h *hostile) As(any) bool   { h.call("As"); return false }

// shouter is a value that can't be printed.
type shouter struct{}

func (shouter) String() string { panic("no text") }

// uncomparable is an error that can't be compared.
type uncomparable []string

func (u uncomparable) Error() string { return strings.Join(u, ",") }

// forever is closed when a test ends.
var forever chan struct{}

func hang() { <-forever }

// untilEnd has what hangs return when the test is over.
func untilEnd(t *testing.T) {
	forever = make(chan struct{})
	t.Cleanup(func() { close(forever) })
}

// faults are what a function may return or do in place of success, by what it leads to.
var faults = map[string]struct {
	fail func() error
	code batch.Code
}{
	"nil error of a type": {func() error { var e *hostile; return e }, batch.CodeFunctionError},
	"nil signal":          {func() error { var s *kis.Signal; return s }, batch.CodeFunctionError},
	"joined nil error":    {func() error { var e *hostile; return errors.Join(errors.New("one"), e) }, batch.CodeFunctionPanic},
	"wrapped nil signal":  {func() error { var s *kis.Signal; return fmt.Errorf("wrapped: %w", s) }, batch.CodeFunctionError},
	"unknown signal":      {func() error { return &kis.Signal{Kind: 77} }, batch.CodeFunctionError},
	"Error panics":        {func() error { return &hostile{do: map[string]func(){"Error": func() { panic("Error") }}} }, batch.CodeFunctionPanic},
	"Error exits":         {func() error { return &hostile{do: map[string]func(){"Error": runtime.Goexit}} }, batch.CodeFunctionPanic},
	"Error hangs":         {func() error { return &hostile{do: map[string]func(){"Error": hang}} }, batch.CodeFunctionTimeout},
	"Unwrap panics":       {func() error { return &hostile{do: map[string]func(){"Unwrap": func() { panic("Unwrap") }}} }, batch.CodeFunctionPanic},
	"Unwrap hangs":        {func() error { return &hostile{do: map[string]func(){"Unwrap": hang}} }, batch.CodeFunctionTimeout},
	"Is panics":           {func() error { return &hostile{text: "Is", do: map[string]func(){"Is": func() { panic("Is") }}} }, batch.CodeFunctionError},
	"As panics":           {func() error { return &hostile{do: map[string]func(){"As": func() { panic("As") }}} }, batch.CodeFunctionPanic},
	"uncomparable":        {func() error { return uncomparable{"a"} }, batch.CodeFunctionError},
	"no UTF-8":            {func() error { return errors.New("\xff") }, batch.CodeFunctionError},
	"panic":               {func() error { panic("oh") }, batch.CodeFunctionPanic},
	"panic of nil":        {func() error { panic(nil) }, batch.CodeFunctionPanic},
	"unprintable panic":   {func() error { panic(shouter{}) }, batch.CodeFunctionPanic},
	"panic with an error": {func() error { panic(&hostile{do: map[string]func(){"Error": func() { panic("again") }}}) }, batch.CodeFunctionPanic},
	"panic exits":         {func() error { panic(&hostile{do: map[string]func(){"Error": runtime.Goexit}}) }, batch.CodeFunctionPanic},
	"panic hangs":         {func() error { panic(&hostile{do: map[string]func(){"Error": hang}}) }, batch.CodeFunctionTimeout},
	"exit":                {func() error { runtime.Goexit(); return nil }, batch.CodeFunctionPanic},
	"hangs":               {func() error { hang(); return nil }, batch.CodeFunctionTimeout},
	"long reason":         {func() error { return kis.Drop("%s", strings.Repeat("\xff", 100_000)) }, batch.CodeDropped},
}

// shapes register a function f that fails rows with N 1, in each shape that functions have.
var shapes = map[string]struct {
	mode     string
	register func(*kis.Registry, func(in) error)
}{
	"Verify": {"Verify", func(r *kis.Registry, fail func(in) error) { r.Func("f", kis.Verify(ctxErr(fail))) }},
	"Calculate": {"Calculate", func(r *kis.Registry, fail func(in) error) {
		r.Func("f", kis.Calculate(func(_ context.Context, i in) (in, error) { return i, fail(i) }))
	}},
	"Expand": {"Expand", func(r *kis.Registry, fail func(in) error) {
		r.Func("f", kis.Expand(func(_ context.Context, i in, emit func(in)) error { emit(i); return fail(i) }))
	}},
	"Save": {"Save", func(r *kis.Registry, fail func(in) error) {
		r.Func("f", kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Set(i.K, "n", i.N); return fail(i) }))
	}},
	"Load's key": {"Load", func(r *kis.Registry, fail func(in) error) {
		r.Func("f", kis.Load(func(i in) string {
			if err := fail(i); err != nil {
				panic(err)
			}
			return i.K
		}, func(_ context.Context, i in, _ *map[string]string) (in, error) { return i, nil }))
	}},
	"Load": {"Load", func(r *kis.Registry, fail func(in) error) {
		r.Func("f", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, _ *map[string]string) (in, error) { return i, fail(i) }))
	}},
	"Batch": {"Calculate", func(r *kis.Registry, fail func(in) error) {
		r.Func("f", kis.Batch(func(_ context.Context, rows []in) ([]in, error) {
			for _, i := range rows {
				if err := fail(i); err != nil {
					return nil, err
				}
			}
			return rows, nil
		}))
	}},
	"FaaS": {"Calculate", func(r *kis.Registry, fail func(in) error) {
		r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []*in) error {
			for _, i := range rows {
				if err := fail(*i); err != nil {
					return err
				}
			}
			return flow.CommitRowBatch(rows)
		})
	}},
}

// Whatever a function returns or does ends its own row (in Batch and FaaS those of its key), with a clear outcome, and nothing else.
func TestHostileFunctions(t *testing.T) {
	for shape, s := range shapes {
		for name, c := range faults {
			for _, flowLines := range []string{"shard_key: k\ncopies: 1\n", "copies: 1\n"} {
				whole := shape == "Batch" || shape == "FaaS"
				t.Run(shape+" "+name+flowLines[:1], func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						untilEnd(t)
						b := newBed(t, flowLines, func(b *bed, r *kis.Registry) {
							s.register(r, func(i in) error {
								if i.N == 1 {
									return c.fail()
								}
								return nil
							})
						}, "f "+s.mode+map[bool]string{true: "; on_missing: 'null'"}[s.mode == "Load"]+"; timeout: 2s")
						p := b.send("a 0", "b 1", "c 2")
						time.Sleep(time.Minute)
						code := c.code
						if shape == "Load's key" && (code == batch.CodeFunctionError || code == batch.CodeDropped || name == "Unwrap hangs") {
							code = batch.CodeFunctionPanic // a key function has no error: it panics with this one, which is not unwrapped then
						}
						want := fmt.Sprintf("[0 1 2] 1 %s f 0→a0 2→c2", code)
						if whole && flowLines[0] != 's' {
							want = fmt.Sprintf("[0 1 2] 0 %[1]s f 1 %[1]s f 2 %[1]s f", code)
						}
						if whole && flowLines[0] == 's' && code == batch.CodeDropped {
							want = fmt.Sprintf("[0 1 2] 0 %[1]s f 1 %[1]s f 2 %[1]s f", code) // what it says is of all rows of the call
						}
						b.expectEnded(p, want)
						for _, run := range b.runs {
							for _, o := range run.NotDone {
								if len(o.Reason) > 5000 || strings.ToValidUTF8(o.Reason, "") != o.Reason || o.Reason == "" {
									t.Errorf("the reason is %q", o.Reason)
								}
							}
						}
						b.expectEnded(b.send("d 3"), "[0] 0→d3") // the lane goes on
					})
				})
			}
		}
	}
}

// own is a row type whose methods do what a row says, when they read it or write it.
type own struct {
	K     string
	N     int
	Reads string
}

type ownFields struct {
	K string `json:"k"`
	N int    `json:"n"`
}

var deeds = map[string]func() error{
	"panics":      func() error { panic("no") },
	"exits":       func() error { runtime.Goexit(); return nil },
	"hangs":       func() error { hang(); return nil },
	"nil error":   func() error { var e *hostile; return e },
	"error hangs": func() error { return &hostile{do: map[string]func(){"Error": hang}} },
	"unprintable": func() error { panic(shouter{}) },
}

func (o *own) UnmarshalJSON(text []byte) error {
	var f ownFields
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	o.K, o.N = f.K, f.N
	if do := deeds[f.K[1:]]; do != nil && f.N == 1 {
		return do()
	}
	return nil
}

func (o own) MarshalJSON() ([]byte, error) {
	if do := deeds[o.K[1:]]; do != nil && o.N == 2 {
		if err := do(); err != nil {
			return nil, err
		}
	}
	return json.Marshal(ownFields{o.K, o.N})
}

// serialized is read and written by code of its own in KisFlow's manner.
type serialized struct {
	K string `json:"k"`
	N int    `json:"n"`
}

func (serialized) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	out := reflect.MakeSlice(slice, 0, len(rows))
	for _, row := range rows {
		var f ownFields
		if err := json.Unmarshal([]byte(fmt.Sprint(row)), &f); err != nil {
			return out, err
		}
		if do := deeds[f.K[1:]]; do != nil && f.N == 1 {
			if err := do(); err != nil {
				return out, err
			}
		}
		out = reflect.Append(out, reflect.ValueOf(serialized(f)))
	}
	return out, nil
}

func (serialized) Marshal(value any) ([]any, error) {
	s, ok := value.(serialized)
	if !ok {
		return nil, fmt.Errorf("a %T", value)
	}
	if do := deeds[s.K[1:]]; do != nil && s.N == 2 {
		if err := do(); err != nil {
			return nil, err
		}
	}
	return []any{row(s.K, s.N)}, nil
}

// Methods of row types are code of the user's, too, where a row is read, turned into another type, written, saved as its
// document says, and kept as a letter: they are watched, and cost their own row.
func TestHostileTypes(t *testing.T) {
	verify := func(r *kis.Registry) {
		r.Func("read", kis.Verify(func(context.Context, own) error { return nil }))
		r.Func("fail", kis.Verify(func(_ context.Context, o own) error {
			if o.N == 2 {
				return errors.New("no")
			}
			return nil
		}))
		r.Func("make", kis.Calculate(func(_ context.Context, i in) (own, error) { return own{K: i.K, N: i.N}, nil }))
		r.Func("look", kis.Verify(func(context.Context, in) error { return nil }))
		r.FaaS("own", func(_ context.Context, flow kis.Flow, rows []serialized) error { return flow.CommitRowBatch(rows) })
		r.Func("load", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, _ *own) (in, error) { return i, nil }))
	}
	for name, functions := range map[string][]string{
		"1 read":          {"read Verify; timeout: 2s"},
		"1 read narrowly": {"look Verify; timeout: 2s", "read Verify; timeout: 2s"},
		"1 own":           {"own Calculate; timeout: 2s"},
		"2 write":         {"make Calculate; timeout: 2s"},
		"2 convert":       {"make Calculate; timeout: 2s", "look Verify; timeout: 2s"},
		"2 write own":     {"own Calculate; timeout: 2s"},
		"2 convert own":   {"own Calculate; timeout: 2s", "look Verify; timeout: 2s"},
		"2 must":          {"make Calculate; timeout: 2s", "read Verify; timeout: 2s; source: {must: [n]}"},
		"2 save":          {"make Calculate; timeout: 2s", "s Save; timeout: 2s; save: {key: '{k}', set: {n: n}}"},
		"2 load":          {"make Calculate; timeout: 2s", "l Load; timeout: 2s; on_missing: 'null'; load: {key: '{k}', set: {n: n}}"},
		"2 letter":        {"make Calculate; timeout: 2s", "fail Verify; timeout: 2s"},
	} {
		for deed := range deeds {
			for _, flowLines := range []string{"shard_key: k\n", ""} {
				t.Run(name+" "+deed+flowLines, func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						untilEnd(t)
						b := newBed(t, flowLines, func(_ *bed, r *kis.Registry) { verify(r) }, functions...)
						part := &flowexec.Part{Plan: b.plan, BatchRows: 3, Attempt: 1, Done: b.done, Output: true, KeepDead: 1000}
						for i, key := range []string{"a", "b" + deed, "c"} {
							n := 0
							if i == 1 {
								n = int(name[0] - '0')
							}
							part.Columns.Append([]byte(row(key, n)))
							if flowLines != "" {
								part.Columns.Keys = append(part.Columns.Keys, keyOf(key))
							}
						}
						b.lanes.Enqueue(part)
						time.Sleep(time.Minute)
						synctest.Wait()
						ended := 0
						for _, run := range b.runs {
							if run.Rows == nil {
								run.Rows = []uint32{0, 1, 2}
							}
							ended += len(run.Rows)
							for _, o := range run.NotDone {
								if o.Row != 1 || o.Outcome != batch.Dead || o.Reason == "" || o.Code == batch.CodeInternal {
									t.Errorf("%+v", o)
								}
							}
							for i := range run.Rows {
								if run.Rows[i] == 1 && len(run.NotDone) == 0 {
									t.Error("the row is said to be done")
								}
							}
						}
						if ended != 3 {
							t.Errorf("%d rows ended", ended)
						}
					})
				})
			}
		}
	}
}

// Times that documents may name are no overflow.
func TestLongestTimes(t *testing.T) {
	for _, long := range []string{"1500000h", "2562047h47m16s"} {
		for _, flowLines := range []string{"shard_key: k\n", "", "shard_key: k\ntimeout: " + long + "\n", "timeout: " + long + "\n"} {
			bubble.Test(t, func(t *testing.T) {
				b := newBed(t, flowLines, failing, "r Verify; timeout: "+long+"; retry_times: 1; retry_duration: "+long)
				p := b.send("a 1", "b 0")
				time.Sleep(time.Hour)
				want := "[0 1] 0 ROW_TIMEOUT r 1→b0"
				switch {
				case strings.HasPrefix(flowLines, "shard_key: k\nt"):
					want = "[1] 1→b0"
				case strings.HasPrefix(flowLines, "t"):
					want = "[]"
				}
				b.expectEnded(p, want)
			})
		}
	}
}

// Rows of types that can't be compared are told apart by their place.
func TestUncomparableRows(t *testing.T) {
	l := local(t, chain("", "f Calculate", "g Calculate"), func(r *kis.Registry) {
		r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []any) error {
			if err := flow.CommitRow(&in{"a", 1}); err != nil {
				return err
			}
			return flow.CommitRowBatch([]any{map[string]any{"k": "b"}, []int{1}})
		})
		r.FaaS("g", func(_ context.Context, flow kis.Flow, rows []any) error {
			return flow.CommitRowBatch([]any{rows[0], rows[2], map[string]any{"k": "c"}})
		})
	})
	expect(t, submit(t, l, row("a", 1), row("b", 2), row("c", 3)), `0 → {"k":"a","n":1}
		1 → [1]
		2 → {"k":"c"}`)
}

// A panic on a lane that is no function's is told, fails the rows that were under way, and ends nothing.
func TestLanePanics(t *testing.T) {
	for _, times := range []int{1, 1000} {
		bubble.Test(t, func(t *testing.T) {
			registry := kis.NewRegistry()
			registry.Func("v", kis.Verify(func(context.Context, in) error { return nil }))
			plan, err := flowexec.Compile(bundle(t, chain("shard_key: k\n", "v Verify")), registry)
			if err != nil {
				t.Fatal(err)
			}
			panics := 0
			b := &bed{t: t, plan: plan, begin: time.Now()}
			b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Observe: func(flowexec.Observed) {
				if panics++; panics <= times {
					panic("observed")
				}
			}})
			defer b.lanes.Stop()
			want := "[0 1] 0→a1 1→b2"
			if times > 1 {
				want = "[0 1] 0 INTERNAL  1 INTERNAL "
			}
			b.expectEnded(b.send("a 1", "b 2"), want)
			panics = times
			b.expectEnded(b.send("a 3"), "[0] 0→a3")
		})
	}
}

// A Batch or FaaS function that takes too long for the rows of several keys together is called for each key alone: a key that is
// slow costs itself alone, whether the function heeds its context or not, and keys that are slow only together end well.
func TestSlowKeysOfACall(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		for _, faas := range []bool{true, false} {
			for _, retries := range []string{"", "; retry_times: 2; retry_duration: 10ms"} {
				bubble.Test(t, func(t *testing.T) {
					untilEnd(t)
					// work takes N seconds for each row, and for ever from 9 on.
					work := func(ctx context.Context, rows []in) error {
						for _, i := range rows {
							took := time.After(time.Duration(i.N) * time.Second)
							if i.N >= 9 {
								took = nil
							}
							done := ctx.Done()
							if !heeds {
								done = nil
							}
							select {
							case <-took:
							case <-done:
								return ctx.Err()
							case <-forever:
							}
						}
						return nil
					}
					b := newBed(t, "shard_key: k\ntimeout: 10m\n", func(_ *bed, r *kis.Registry) {
						if faas {
							r.FaaS("f", func(ctx context.Context, flow kis.Flow, rows []in) error {
								return errors.Join(work(ctx, rows), flow.CommitRowBatch(rows))
							})
							return
						}
						r.Func("f", kis.Batch(func(ctx context.Context, rows []in) ([]in, error) { return rows, work(ctx, rows) }))
					}, "f Calculate; timeout: 7s"+retries)
					p := b.send("a 3", "b 9", "c 2", "a 3", "d 5", "e 10")
					time.Sleep(5 * time.Minute)
					b.expectEnded(p, "[0 1 2 3 4 5] 1 FUNCTION_TIMEOUT f 5 FUNCTION_TIMEOUT f 0→a3 2→c2 3→a3 4→d5")
				})
			}
		}
	}
}

// A function whose rows may be anything passes on nothing for a row, in whatever way Go has to say so, or what no row can be: that
// costs this row alone, and no function is called with it that reads structs.
func TestNoRows(t *testing.T) {
	var pointer *in
	for name, none := range map[string]any{
		"nil": nil, "pointer": pointer, "pointer to it": &pointer, "another pointer": (*ownFields)(nil), "map": map[string]any(nil), "raw": json.RawMessage(nil),
		"slice": []int(nil), "type with methods": (*own)(nil), "serialized": (*serialized)(nil), "function": (func())(nil), "channel": make(chan int),
		"half JSON": json.RawMessage(`{`),
	} {
		for _, maker := range []string{"calculate Calculate", "expand Expand", "batch Calculate"} {
			for _, reader := range []string{"struct Verify", "pointer Verify", "again Verify; retry_times: 1", "batchers Calculate"} {
				for _, flowLines := range []string{"shard_key: k\n", ""} {
					t.Run(name+" "+maker+" "+reader+flowLines, func(t *testing.T) {
						bubble.Test(t, func(t *testing.T) {
							b := newBed(t, flowLines, func(_ *bed, r *kis.Registry) {
								made := func(i in) any {
									if i.N == 1 {
										return none
									}
									return &i
								}
								r.Func("calculate", kis.Calculate(func(_ context.Context, i in) (any, error) { return made(i), nil }))
								r.Func("expand", kis.Expand(func(_ context.Context, i in, emit func(any)) error { emit(made(i)); return nil }))
								r.Func("batch", kis.Batch(func(_ context.Context, rows []in) (all []any, _ error) {
									for _, i := range rows {
										all = append(all, made(i))
									}
									return all, nil
								}))
								r.Func("struct", kis.Verify(func(context.Context, in) error { return nil }))
								look := func(_ context.Context, i *in) error {
									if i == nil || i.N == 1 {
										t.Error("a function got it")
									}
									return nil
								}
								r.Func("pointer", kis.Verify(look))
								r.Func("again", kis.Verify(look))
								r.Func("batchers", kis.Batch(func(_ context.Context, rows []*in) ([]*in, error) { return rows, nil }))
							}, maker, reader)
							f, _, _ := strings.Cut(reader, " ")
							b.expectEnded(b.send("a 0", "b 1", "c 2"), fmt.Sprintf("[0 1 2] 1 CONVERSION_FAILED %s 0→a0 2→c2", f))
						})
					})
				}
			}
		}
	}
}
