package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// redisRows is how many rows a batch has. Each row has another key.
const redisRows = 1000

// redisWindow is how many batches are unanswered at a time.
const redisWindow = 8

// studentsOf starts the students' flows in this process, each with as many lanes as lanes says. They load from and save to the
// Redis at the address.
func studentsOf(b *testing.B, address string, lanes int) *flowexec.Local {
	b.Helper()
	docs := []definition.Document{
		testgrid.Document(definition.KindFlow, "Save", fmt.Sprintf("status: 1\nshard_key: stu_id\ncopies: %d\nflows: [{fname: AvgStuScore12}, {fname: SaveScoreAvg12}]\n", lanes)),
		testgrid.Document(definition.KindFlow, "Load", fmt.Sprintf("status: 1\nshard_key: stu_id\ncopies: %d\nflows: [{fname: LoadScoreAvg12}, {fname: AvgStuScore3}]\n", lanes)),
		testgrid.Document(definition.KindFunc, "AvgStuScore12", "fmode: Calculate\n"),
		testgrid.Document(definition.KindFunc, "SaveScoreAvg12", "fmode: Save\noption: {cname: Score12Cache}\n"),
		testgrid.Document(definition.KindFunc, "LoadScoreAvg12", "fmode: Load\noption: {cname: Score12Cache}\n"),
		testgrid.Document(definition.KindFunc, "AvgStuScore3", "fmode: Calculate\n"),
		testgrid.Document(definition.KindConn, "Score12Cache", "type: redis\naddrs: "+address+"\nkey: stu_score12_avg_\n"),
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		b.Fatal(err)
	}
	l, err := flowexec.NewLocalSet(set, func(r *kis.Registry) { students.Register(r) },
		flowexec.WithOpeners(map[string]connector.Opener{"redis": redis.Open}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// studentRows are the rows of a batch of one of the two flows.
func studentRows(flow string) batch.Columns {
	var c batch.Columns
	for i := range redisRows {
		if flow == "Save" {
			c.Append(fmt.Appendf(nil, `{"stu_id":%d,"score_1":%d,"score_2":%d}`, i, 50+i%51, 100-i%51))
		} else {
			c.Append(fmt.Appendf(nil, `{"stu_id":%d,"score_3":%d}`, i, i%101))
		}
	}
	return c
}

// sendBatches sends b.N batches to a flow, and reports rows per second.
func sendBatches(b *testing.B, l *flowexec.Local, flow string) {
	b.Helper()
	columns := studentRows(flow)
	key := batch.NewKeyField("stu_id")
	if bad := key.Fill(&columns); len(bad) > 0 {
		b.Fatal(bad)
	}
	s, err := l.Stream(b.Context(), flow)
	if err != nil {
		b.Fatal(err)
	}
	var sent []*flowexec.Pending
	await := func() {
		result, err := sent[0].Wait(b.Context())
		if err != nil || len(result.NotDone) > 0 {
			b.Fatalf("%v: %v", err, result)
		}
		sent = sent[1:]
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p, err := s.Send(b.Context(), batch.Pack(columns), flowexec.NoOutput())
		if err != nil {
			b.Fatal(err)
		}
		if sent = append(sent, p); len(sent) == redisWindow {
			await()
		}
	}
	for len(sent) > 0 {
		await()
	}
	b.ReportMetric(float64(b.N)*redisRows/b.Elapsed().Seconds(), "rows/s")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// pipelines sends pipelines through go-redis, one for each batch, from two goroutines: as many as the connector has.
func pipelines(b *testing.B, address string, queue func(pipe goredis.Pipeliner, key string)) {
	b.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: address, Network: "unix", Protocol: 2, ReadBufferSize: 128 << 10, WriteBufferSize: 128 << 10})
	defer client.Close()
	b.ReportAllocs()
	b.ResetTimer()
	var group sync.WaitGroup
	const callers = 2
	for caller := range callers {
		group.Go(func() {
			for n := caller; n < b.N; n += callers {
				pipe := client.Pipeline()
				for i := range redisRows {
					queue(pipe, "stu_score12_avg_"+strconv.Itoa(i))
				}
				if _, err := pipe.Exec(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)*redisRows/b.Elapsed().Seconds(), "rows/s")
}

// byKisFlow does the work of KisFlow for a batch, in one goroutine as KisFlow does: it decodes each row, calls the first function,
// passes its rows on to the second one as JSON, and calls that. The costs of KisFlow itself are left out.
func byKisFlow[In, Out, Next any](b *testing.B, address, flow string, first func(c *goredis.Client, rows []In) ([]Out, error), second func(c *goredis.Client, rows []Next) error) {
	b.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: address, Network: "unix", Protocol: 2})
	defer client.Close()
	columns := studentRows(flow)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		rows := make([]In, redisRows)
		for i := range rows {
			if err := json.Unmarshal(columns.Row(i), &rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		outs, err := first(client, rows)
		next := make([]Next, len(outs))
		for i := range outs {
			text, errText := json.Marshal(outs[i])
			err = errors.Join(err, errText, json.Unmarshal(text, &next[i]))
		}
		if err := errors.Join(err, second(client, next)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*redisRows/b.Elapsed().Seconds(), "rows/s")
}

// kisFlowSave is an example of KisFlow: it computes averages, and then saves all rows in one pipeline.
func kisFlowSave(b *testing.B, address string) {
	b.Helper()
	byKisFlow(b, address, "Save", func(_ *goredis.Client, rows []students.Scores12) (averages []students.Avg, err error) {
		for _, row := range rows {
			averages = append(averages, students.Avg{ID: row.ID, Avg: float64(row.Score1+row.Score2) / 2})
		}
		return averages, nil
	}, func(c *goredis.Client, rows []students.Avg) error {
		pipe := c.Pipeline()
		for _, row := range rows {
			pipe.HMSet(b.Context(), "stu_score12_avg_"+strconv.Itoa(row.ID), map[string]any{"avg_score": row.Avg})
		}
		_, err := pipe.Exec(b.Context())
		return err
	})
}

// kisFlowLoad is an example of KisFlow: it loads row by row, and then computes averages.
func kisFlowLoad(b *testing.B, address string) {
	b.Helper()
	byKisFlow(b, address, "Load", func(c *goredis.Client, rows []students.Scores3) ([]students.Scores3, error) {
		for i := range rows {
			saved, err := c.HGetAll(b.Context(), "stu_score12_avg_"+strconv.Itoa(rows[i].ID)).Result()
			if err != nil {
				return nil, err
			}
			if rows[i].Avg12, err = strconv.ParseFloat(saved["avg_score"], 64); err != nil {
				return nil, err
			}
		}
		return rows, nil
	}, func(_ *goredis.Client, rows []students.Scores3) error {
		averages := make([]students.Avg, len(rows))
		for i, row := range rows {
			averages[i] = students.Avg{ID: row.ID, Avg: (2*row.Avg12 + float64(row.Score3)) / 3}
		}
		return nil
	})
}

// BenchmarkRedis measures flows that save to a real redis-server and load from it, with each effect taking place once. Plain
// pipelines with the same commands are the limit, and an example of KisFlow with the same rows is the comparison. Rates are in rows
// per second; a batch has 1,000 rows.
func BenchmarkRedis(b *testing.B) {
	address := testprocess.Socket(b)
	testprocess.StartRedis(b, address, nil)
	client := goredis.NewClient(&goredis.Options{Addr: address, Network: "unix"})
	defer client.Close()
	for i := range redisRows { // the keys that loads find, whichever cases run
		if err := client.HSet(b.Context(), "stu_score12_avg_"+strconv.Itoa(i), "avg_score", "87.5").Err(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("save-pipeline", func(b *testing.B) {
		pipelines(b, address, func(pipe goredis.Pipeliner, key string) { pipe.HSet(b.Context(), key, "avg_score", "87.5") })
	})
	b.Run("save", func(b *testing.B) { sendBatches(b, studentsOf(b, address, 1), "Save") })
	b.Run("save-2-lanes", func(b *testing.B) { sendBatches(b, studentsOf(b, address, 2), "Save") })
	b.Run("save-12-lanes", func(b *testing.B) { sendBatches(b, studentsOf(b, address, 12), "Save") })
	b.Run("save-kisflow", func(b *testing.B) { kisFlowSave(b, address) })
	b.Run("load-pipeline", func(b *testing.B) {
		pipelines(b, address, func(pipe goredis.Pipeliner, key string) { pipe.HGetAll(b.Context(), key) })
	})
	b.Run("load", func(b *testing.B) { sendBatches(b, studentsOf(b, address, 1), "Load") })
	b.Run("load-2-lanes", func(b *testing.B) { sendBatches(b, studentsOf(b, address, 2), "Load") })
	b.Run("load-kisflow", func(b *testing.B) { kisFlowLoad(b, address) })
}
