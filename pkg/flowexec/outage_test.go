package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// outage is a store that is away in some way until it is back.
type outage struct {
	connector.Connection
	back time.Time
	how  func(ctx context.Context, back time.Time) error

	mu    sync.Mutex
	saved []string // in the order in which they took place; guarded by mu
}

var errAway = batch.Errorf(batch.CodeConnectorUnavailable, "the store is away")

// outages are the ways to be away: calls are refused, take their time to fail, or do not end.
var outages = map[string]func(ctx context.Context, back time.Time) error{
	"refuses":  func(context.Context, time.Time) error { return errAway },
	"lingers":  func(ctx context.Context, _ time.Time) error { return lingers(ctx, 3*time.Second) },
	"tries on": func(ctx context.Context, _ time.Time) error { return lingers(ctx, 40*time.Second) },
	"hangs": func(ctx context.Context, back time.Time) error {
		select {
		case <-time.After(time.Until(back)):
			return nil
		case <-ctx.Done():
			return connector.Ended(ctx, "store", "saving")
		}
	},
}

func lingers(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return errAway
	case <-ctx.Done():
		return connector.Ended(ctx, "store", "saving")
	}
}

func (o *outage) gone(ctx context.Context) error {
	if time.Now().Before(o.back) {
		return o.how(ctx, o.back)
	}
	return nil
}

func (o *outage) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	if err := o.gone(ctx); err != nil {
		return nil, err
	}
	o.mu.Lock()
	for _, e := range effects {
		o.saved = append(o.saved, e.Key+e.Value)
	}
	o.mu.Unlock()
	return o.Connection.Save(ctx, cause, effects)
}

func (o *outage) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	if err := o.gone(ctx); err != nil {
		return nil, err
	}
	return o.Connection.Load(ctx, keys)
}

// Ping is what functions of the test ask themselves.
func (o *outage) Ping(ctx context.Context) error { return o.gone(ctx) }

// unopened is a store that does not open until it is back.
type unopened struct{ *outage }

func (u unopened) Get(ctx context.Context, _ *definition.Connector) (connector.Connection, error) {
	select {
	case <-time.After(time.Until(u.back)):
		return pool{u.outage}, nil
	case <-ctx.Done():
		return nil, errAway
	}
}

// users of a store: the function f of each asks it once for each row or call.
var users = map[string]struct {
	function string
	register func(r *kis.Registry, called func(in))
	own      bool // the function asks for itself: its own timeouts and retries hold, too
}{
	"Save": {"f Save", func(r *kis.Registry, called func(in)) {
		r.Func("f", kis.Save(func(_ context.Context, to kis.Writer, i in) error {
			called(i)
			to.Append(i.K, fmt.Sprint(i.N))
			return nil
		}))
	}, false},
	"declared Save": {"f Save; save: {key: '{k}', append: {n: n}}", func(*kis.Registry, func(in)) {}, false},
	"Load": {"f Load; on_missing: 'null'", func(r *kis.Registry, called func(in)) {
		r.Func("f", kis.Load(func(i in) string { called(i); return i.K }, func(_ context.Context, i in, _ *map[string]string) (in, error) { return i, nil }))
	}, false},
	"declared Load": {"f Load; on_missing: 'null'; load: {key: '{k}', set: {more: n}}", func(*kis.Registry, func(in)) {}, false},
	"waiting Load": {"f Load; wait: 1h", func(r *kis.Registry, _ func(in)) {
		r.Func("f", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, _ *map[string]string) (in, error) { return i, nil }))
	}, false},
	"Batch": {"f Save; retry_times: 1000; retry_duration: 100ms; timeout: 10m", func(r *kis.Registry, _ func(in)) {
		r.Func("f", kis.Batch(func(ctx context.Context, rows []in) ([]in, error) { return rows, ask(ctx) }))
	}, true},
	"FaaS": {"f Save; retry_times: 1000; retry_duration: 100ms; timeout: 10m", func(r *kis.Registry, _ func(in)) {
		r.FaaS("f", func(ctx context.Context, flow kis.Flow, _ []*in) error {
			return errors.Join(ask(ctx), flow.Next(kis.ActionDataReuse))
		})
	}, true},
	"FaaS Load": {"f Load; wait: 1h; timeout: 10m", func(r *kis.Registry, _ func(in)) {
		r.FaaS("f", func(ctx context.Context, flow kis.Flow, _ []*in) error {
			return errors.Join(ask(ctx), flow.Next(kis.ActionDataReuse))
		})
	}, true},
}

func ask(ctx context.Context) error {
	c, err := kis.From(ctx).Connection()
	if err != nil {
		return err
	}
	return c.Ping(ctx)
}

// ends notes when parts end, and how.
type ends struct {
	mu    sync.Mutex
	begin time.Time
	rows  map[uint32]string        // of the row: its outcome; guarded by mu
	at    map[uint32]time.Duration // guarded by mu
	calls map[in]int               // guarded by mu
}

func (e *ends) called(i in) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls[i]++
}

func (e *ends) done(first uint32) func(flowexec.RunResult) {
	return func(run flowexec.RunResult) {
		e.mu.Lock()
		defer e.mu.Unlock()
		rows := run.Rows
		if rows == nil {
			for i := range run.Part.Len() {
				rows = append(rows, uint32(i))
			}
		}
		for _, row := range rows {
			e.rows[first+row], e.at[first+row] = "done", time.Since(e.begin)
		}
		for _, o := range run.NotDone {
			e.rows[first+o.Row] = o.Code.String() + ": " + o.Reason
		}
	}
}

// run sends parts of rows with some keys each to a flow whose function asks a store that is away, and waits for their ends.
func during(t *testing.T, flowLines, user string, how func(context.Context, time.Time) error, opens bool, back time.Duration) (*ends, *outage) {
	e := &ends{begin: time.Now(), rows: make(map[uint32]string), at: make(map[uint32]time.Duration), calls: make(map[in]int)}
	store := &outage{Connection: newRecorder(t).Connection, back: time.Now().Add(back), how: how}
	for key := range 5 {
		if _, err := store.Connection.Save(t.Context(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: string(rune('A' + key)), Field: "n", Value: "1"}}); err != nil {
			t.Fatal(err)
		}
	}
	registry := kis.NewRegistry()
	users[user].register(registry, e.called)
	plan, err := flowexec.Compile(bundle(t, chain(flowLines, users[user].function)), registry)
	if err != nil {
		t.Fatal(err)
	}
	var connectors flowexec.Connectors = pool{store}
	if !opens {
		connectors = unopened{store}
	}
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: connectors})
	defer lanes.Stop()
	parts, size := 10, 6
	if users[user].own {
		parts = 1 // the function holds the lane while it asks
	}
	for p := range parts {
		part := &flowexec.Part{Plan: plan, BatchRows: size, Attempt: 1, Done: e.done(uint32(p * size))}
		for i := range size {
			k := i % 3 // two rows of each key
			if users[user].own {
				k = 0
			}
			part.Columns.Append([]byte(row(string(rune('a'+p))+fmt.Sprint(k), p*size+i)))
			if plan.ShardKey() != "" {
				part.Columns.Keys = append(part.Columns.Keys, uint64(p)<<8|uint64(k))
			}
		}
		lanes.Enqueue(part)
	}
	if err := lanes.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(e.rows) != parts*size {
		t.Errorf("%d rows ended", len(e.rows))
	}
	return e, store
}

// However a store is away, whoever asks it: a row's flow's timeout holds within a second.
func TestTimeoutHoldsInOutages(t *testing.T) {
	for _, flowLines := range []string{"timeout: 15s\nshard_key: k\n", "timeout: 15s\n"} {
		for user, u := range users {
			for name, how := range outages {
				for _, opens := range []bool{true, false} {
					if !opens && name != "hangs" {
						continue
					}
					t.Run(fmt.Sprintf("%q %s %s %v", flowLines, user, name, opens), func(t *testing.T) {
						bubble.Test(t, func(t *testing.T) {
							e, _ := during(t, flowLines, user, how, opens, 100*time.Hour)
							for row, at := range e.at {
								if at < 13700*time.Millisecond || at > 16*time.Second { // a pause for which there is no time left is none
									t.Errorf("row %d ended after %v", row, at)
								}
								if !u.own && !strings.HasPrefix(e.rows[row], "CONNECTOR_UNAVAILABLE: connector store could not be asked: ") {
									t.Errorf("row %d ended as %s", row, e.rows[row])
								}
								if u.own && e.rows[row] == "done" {
									t.Errorf("row %d is said to be done", row)
								}
							}
							for i, n := range e.calls {
								if n != 1 {
									t.Errorf("the function was called %d times for %v", n, i)
								}
							}
						})
					})
				}
			}
		}
	}
}

// When the store is back all rows are done, in the order of each key, and no function was called twice.
func TestOutagesPass(t *testing.T) {
	for _, flowLines := range []string{"timeout: 60s\nshard_key: k\n", "timeout: 60s\n"} {
		for user, u := range users {
			for name, how := range outages {
				if u.own || user == "waiting Load" {
					continue
				}
				t.Run(fmt.Sprintf("%q %s %s", flowLines, user, name), func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						e, store := during(t, flowLines, user, how, true, 10*time.Second)
						latest := 12 * time.Second
						switch name {
						case "lingers":
							latest = 14 * time.Second
						case "tries on":
							latest = 42 * time.Second
						}
						for row, at := range e.at {
							if e.rows[row] != "done" || at > latest {
								t.Errorf("row %d ended after %v as %s", row, at, e.rows[row])
							}
						}
						for i, n := range e.calls {
							if n != 1 {
								t.Errorf("the function was called %d times for %v", n, i)
							}
						}
						byKey := make(map[string][]string)
						for _, effect := range store.saved {
							byKey[effect[:2]] = append(byKey[effect[:2]], fmt.Sprintf("%04s", effect[2:]))
						}
						for key, effects := range byKey {
							if !slices.IsSorted(effects) || len(effects) != 2 {
								t.Errorf("key %s was saved as %v", key, effects)
							}
						}
					})
				})
			}
		}
	}
}

// A row that has used up its time costs itself alone, whoever it is with.
func TestSpentRowCostsItselfAlone(t *testing.T) {
	for _, flowLines := range []string{"timeout: 15s\nshard_key: k\n", "timeout: 15s\n"} {
		for user, u := range users {
			if user == "waiting Load" {
				continue
			}
			t.Run(fmt.Sprintf("%q %s", flowLines, user), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					e := &ends{begin: time.Now(), rows: make(map[uint32]string), at: make(map[uint32]time.Duration), calls: make(map[in]int)}
					store := &outage{Connection: newRecorder(t).Connection, back: time.Now().Add(20 * time.Second), how: outages["hangs"]}
					registry := kis.NewRegistry()
					u.register(registry, e.called)
					registry.Func("slow", kis.Verify(func(_ context.Context, i in) error {
						time.Sleep(time.Duration(i.N) * time.Second)
						return nil
					}))
					plan, err := flowexec.Compile(bundle(t, chain(flowLines, "slow Verify", u.function)), registry)
					if err != nil {
						t.Fatal(err)
					}
					lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{store}})
					defer lanes.Stop()
					part := &flowexec.Part{Plan: plan, BatchRows: 5, Attempt: 1, Done: e.done(0)}
					for i, n := range []int{0, 0, 14, 0, 0} {
						key := string(rune('a' + i))
						part.Columns.Append([]byte(row(key, n)))
						if plan.ShardKey() != "" {
							part.Columns.Keys = append(part.Columns.Keys, keyOf(key))
						}
					}
					lanes.Enqueue(part)
					if err := lanes.Drain(t.Context()); err != nil {
						t.Fatal(err)
					}
					for row := range uint32(5) {
						if (e.rows[row] == "done") != (row != 2) {
							t.Errorf("row %d ended as %s", row, e.rows[row])
						}
					}
				})
			})
		}
	}
}
