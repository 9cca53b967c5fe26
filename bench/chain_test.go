package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

const exprDocuments = `
kistype: flow
status: 1
flow_name: Chain
flows:
  - fname: VerifyStu
  - fname: AvgStuScore12
  - fname: PrintStuAvgScore
---
kistype: func
fname: VerifyStu
fmode: Verify
source: {name: scores, fields: {stu_id: int}}
option:
  verify: 0 <= stu_id && stu_id <= 999
  reason: >-
    "stu_id " + string(stu_id) + " is outside 0..999"
---
kistype: func
fname: AvgStuScore12
fmode: Calculate
source: {name: scores, fields: {stu_id: int, score_1: int, score_2: int}}
option:
  calculate: {stu_id: stu_id, avg_score: (score_1 + score_2) / 2}
---
kistype: func
fname: PrintStuAvgScore
fmode: Expand
source: {fields: {stu_id: int, avg_score: float}}
option:
  expand: {each: "[1]", set: {stu_id: stu_id, avg_score: avg_score}}
`

const exprUntyped = `
kistype: flow
status: 1
flow_name: Chain
flows:
  - fname: VerifyStu
  - fname: AvgStuScore12
  - fname: PrintStuAvgScore
---
kistype: func
fname: VerifyStu
fmode: Verify
option:
  verify: 0 <= stu_id && stu_id <= 999
  reason: >-
    "stu_id " + string(stu_id) + " is outside 0..999"
---
kistype: func
fname: AvgStuScore12
fmode: Calculate
option:
  calculate: {stu_id: stu_id, avg_score: (score_1 + score_2) / 2}
---
kistype: func
fname: PrintStuAvgScore
fmode: Expand
option:
  expand: {each: "[1]", set: {stu_id: stu_id, avg_score: avg_score}}
`

const documents = `
kistype: flow
status: 1
flow_name: Chain
flows:
  - fname: VerifyStu
  - fname: AvgStuScore12
  - fname: PrintStuAvgScore
---
kistype: func
fname: VerifyStu
fmode: Verify
source: {name: scores, must: [stu_id]}
---
kistype: func
fname: AvgStuScore12
fmode: Calculate
source: {name: scores, must: [stu_id, score_1, score_2]}
---
kistype: func
fname: PrintStuAvgScore
fmode: Expand
`

// kisflow registers the functions of the students' chain, as BenchmarkChain runs it, in the form that functions of KisFlow have.
func kisflow(r *kis.Registry) {
	r.FaaS("VerifyStu", func(_ context.Context, flow kis.Flow, rows []*students.Student) error {
		for _, row := range rows {
			if row.ID < 0 || row.ID > 999 {
				return fmt.Errorf("stu_id %d is outside 0..999", row.ID)
			}
		}
		return flow.Next(kis.ActionDataReuse)
	})
	r.FaaS("AvgStuScore12", func(_ context.Context, flow kis.Flow, rows []*students.Scores12) error {
		for _, row := range rows {
			if err := flow.CommitRow(&students.Avg{ID: row.ID, Avg: float64(row.Score1+row.Score2) / 2}); err != nil {
				return err
			}
		}
		return nil
	})
	r.FaaS("PrintStuAvgScore", func(_ context.Context, flow kis.Flow, rows []*students.Avg) error {
		for _, row := range rows {
			if err := flow.CommitRow(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// retriedDocuments are a chain whose second function may be tried again. Its rows have slices, so that they are copied before it
// runs.
const retriedDocuments = `
kistype: flow
status: 1
flow_name: Chain
flows:
  - fname: Collect
  - fname: Average
---
kistype: func
fname: Collect
fmode: Calculate
---
kistype: func
fname: Average
fmode: Calculate
option: {retry_times: 3, retry_duration: 1s}
`

// collected is a student with all scores.
type collected struct {
	ID     int            `json:"stu_id"`
	Scores []int          `json:"scores"`
	By     map[string]int `json:"by"`
}

// retried registers the functions of retriedDocuments.
func retried(r *kis.Registry) {
	r.Func("Collect", kis.Calculate(func(_ context.Context, s students.Scores12) (*collected, error) {
		return &collected{s.ID, []int{s.Score1, s.Score2}, map[string]int{"score_1": s.Score1}}, nil
	}))
	r.Func("Average", kis.Calculate(func(_ context.Context, c *collected) (students.Avg, error) {
		return students.Avg{ID: c.ID, Avg: float64(c.Scores[0]+c.Scores[1]) / 2}, nil
	}))
}

// stretchDocuments are a chain in which two steps use one connector, so that rows of one key go one after the other: a Load reads the
// key's last state, and a Save writes its new one.
const stretchDocuments = `
kistype: flow
status: 1
flow_name: Chain
shard_key: stu_id
flows:
  - fname: Last
  - fname: Note
---
kistype: func
fname: Last
fmode: Load
option: {cname: Store, on_missing: 'null'}
---
kistype: func
fname: Note
fmode: Save
option: {cname: Store}
---
kistype: conn
cname: Store
type: memory
`

// changed is a student's score, and the score before it.
type changed struct {
	ID     int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Before int `json:"before"`
}

// stretched registers the functions of stretchDocuments.
func stretched(r *kis.Registry) {
	r.Func("Last", kis.Load(func(c changed) string { return strconv.Itoa(c.ID) }, func(_ context.Context, c changed, last *changed) (changed, error) {
		if last != nil {
			c.Before = last.Score1
		}
		return c, nil
	}))
	r.Func("Note", kis.Save(func(_ context.Context, to kis.Writer, c changed) error {
		to.Set(strconv.Itoa(c.ID), "score_1", c.Score1)
		return nil
	}))
}

// oneStore is a connector that always opens the same store in memory.
type oneStore struct{ connector.Connection }

func (s oneStore) Get(context.Context, *definition.Connector) (connector.Connection, error) {
	return s, nil
}

// Close does nothing: the benchmark closes the store.
func (oneStore) Close() error { return nil }

// stretch makes a benchmark that runs batches of n rows through stretchDocuments. If hot is true, all rows have one key; else each
// row has a key of its own.
func stretch(n int, hot bool) func(*testing.B) {
	return func(b *testing.B) {
		plan, columns := plan(b, stretchDocuments, stretched), rows(n)
		key := batch.NewKeyField("stu_id")
		if hot {
			columns = batch.Columns{}
			for i := range n {
				columns.Append(fmt.Appendf(nil, `{"stu_id":7,"score_1":%d,"score_2":50}`, 50+i%51))
			}
		}
		if bad := key.Fill(&columns); bad != nil {
			b.Fatal(bad)
		}
		store, err := memory.New().Open(b.Context(), &definition.Connector{Name: "Store", Type: "memory"})
		if err != nil {
			b.Fatal(err)
		}
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "Chain", Copies: 1, Connectors: oneStore{store}})
		defer lanes.Stop()
		stream := batch.NewStreamID()
		b.ReportAllocs()
		b.ResetTimer()
		begin := time.Now()
		for sequence := range uint64(b.N) {
			ended := make(chan flowexec.RunResult, 1)
			lanes.Enqueue(&flowexec.Part{
				Plan: plan, Batch: batch.ID{Stream: stream, Sequence: sequence + 1}, Floor: sequence + 1, BatchRows: n, Columns: columns, Attempt: 1,
				Done: func(r flowexec.RunResult) { ended <- r },
			})
			if r := <-ended; len(r.NotDone) > 0 {
				b.Fatalf("not all rows are done: %+v", r.NotDone[0])
			}
		}
		report(b, b.N*n, begin)
	}
}

// rows are n rows, packed as a client packs them.
func rows(n int) batch.Columns {
	var c batch.Columns
	for i := range n {
		c.Append(fmt.Appendf(nil, `{"stu_id":%d,"score_1":%d,"score_2":%d}`, i%1000, 50+i%51, 100-i%51))
	}
	return c
}

// plan compiles documents into a plan.
func plan(b *testing.B, documents string, register func(*kis.Registry)) *flowexec.Plan {
	set, err := definition.NewSet(definition.Split("chain.yml", []byte(documents)))
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := set.Bundle("Chain")
	if err != nil {
		b.Fatal(err)
	}
	registry := kis.NewRegistry()
	register(registry)
	p, err := flowexec.Compile(bundle, registry)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// chain makes a benchmark that runs batches of n rows on copies of the students' flow. Each copy has one batch under way and one
// queued, and the goroutine that ends a batch enqueues the next one. So the time to wake up goroutines is not measured. output says
// whether the flow's output is asked for.
func chain(register func(*kis.Registry), copies, n int, output bool) func(*testing.B) {
	return chainOf(documents, register, copies, n, output)
}

// chainOf makes a benchmark that runs the flow of some documents, on as many copies as copies says, with batches of n rows. output
// says whether the flow's output is asked for.
func chainOf(documents string, register func(*kis.Registry), copies, n int, output bool) func(*testing.B) {
	return func(b *testing.B) {
		plan, columns := plan(b, documents, register), rows(n)
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "Chain", Copies: copies})
		defer lanes.Stop()
		left := atomic.Int64{}
		left.Store(int64(b.N))
		var under sync.WaitGroup
		var enqueue func()
		end := func(r flowexec.RunResult) {
			if len(r.NotDone) > 0 || output && len(r.Output.Origins) != n {
				b.Errorf("not all rows are done: %+v", r.NotDone)
			}
			enqueue()
			under.Done()
		}
		enqueue = func() {
			if left.Add(-1) < 0 {
				return
			}
			under.Add(1)
			lanes.Enqueue(&flowexec.Part{Plan: plan, BatchRows: n, Columns: columns, Output: output, Attempt: 1, Done: end})
		}
		b.ReportAllocs()
		b.ResetTimer()
		begin := time.Now()
		for range 2 * copies {
			enqueue()
		}
		under.Wait()
		report(b, b.N*n, begin)
	}
}

// decode makes a benchmark that only decodes batches of n rows, in as many goroutines as copies says, which share nothing. Its speed
// is the limit for a flow with as many copies on this machine.
func decode(copies, n int) func(*testing.B) {
	return func(b *testing.B) {
		var left atomic.Int64
		left.Store(int64(b.N))
		var under sync.WaitGroup
		b.ReportAllocs()
		b.ResetTimer()
		begin := time.Now()
		for range copies {
			under.Go(func() {
				columns, decoded := rows(n), make([]students.Scores12, n)
				for left.Add(-1) >= 0 {
					clear(decoded)
					for i := range n {
						if err := json.Unmarshal(columns.Row(i), &decoded[i]); err != nil {
							b.Error(err)
							return
						}
					}
				}
			})
		}
		under.Wait()
		report(b, b.N*n, begin)
	}
}

// report reports the rows per second and the time per row, for as many rows as rows says, since begin.
func report(b *testing.B, rows int, begin time.Time) {
	b.ReportMetric(float64(rows)/time.Since(begin).Seconds(), "rows/s")
	b.ReportMetric(time.Since(begin).Seconds()*1e9/float64(rows), "ns/row")
}

// BenchmarkChain runs the students' Verify, Calculate and Expand over packed JSON rows.
func BenchmarkChain(b *testing.B) {
	const n = 1000
	b.Run("decode", decode(1, n))
	b.Run("decode-2", decode(2, n))
	b.Run("typed", chain(students.Register, 1, n, false))
	b.Run("typed-output", chain(students.Register, 1, n, true))
	b.Run("typed-2", chain(students.Register, 2, n, false))
	b.Run("expr", chainOf(exprDocuments, func(*kis.Registry) {}, 1, n, false))
	b.Run("expr-output", chainOf(exprDocuments, func(*kis.Registry) {}, 1, n, true))
	b.Run("expr-untyped", chainOf(exprUntyped, func(*kis.Registry) {}, 1, n, false))
	b.Run("kisflow", chain(kisflow, 1, n, false))
	b.Run("retries", chainOf(retriedDocuments, retried, 1, n, false)) // rows are copied before a function that may be tried again
	b.Run("stretch", stretch(n, false))                               // each key has one row in a batch
	b.Run("stretch-hot", stretch(n, true))                            // all rows of a batch have one key
	// The cost of a batch beyond its rows shows when the number of rows in it changes.
	for _, n := range []int{10, 100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("typed-%d", n), chain(students.Register, 1, n, false))
	}
}
