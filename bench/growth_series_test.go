package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// series is one quantity that grows, with the values that are measured, in order.
type series struct {
	name, about string
	values      []int
	measure     func(t *testing.T, value int) *measured
}

// growthSeries are all series of TestGrowth.
func growthSeries() []series {
	pass := func(t *testing.T, c bedConfig, l load) *measured {
		t.Helper()
		c.documents = append(c.documents, flowDocument("Pass", "Pass"))
		if c.workers == 0 {
			c.workers = 2
		}
		if l.streams == nil {
			l.streams = []string{"Pass"}
		}
		return newBed(t, c).send(l)
	}
	return []series{
		{"rows", "Rows in a batch.", []int{1, 10, 100, 1000, 10000, 60000}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{}, load{batches: []batch.Columns{fiftyBytes(n)}})
		}},
		{"bytes", "Bytes of a row, batches of 200 rows.", []int{50, 500, 5000}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{}, load{batches: []batch.Columns{numbered(200, 0, 900, n)}})
		}},
		{"keys", "Different shard keys, batches of 1,000 rows.", []int{1, 10, 1000, 100000}, func(t *testing.T, n int) *measured {
			var all []batch.Columns
			for i := range max(1, n/1000) {
				all = append(all, numbered(1000, i*1000, n, 50))
			}
			return pass(t, bedConfig{}, load{batches: all})
		}},
		{"skew", "Of 100 rows so many have one key, batches of 1,000 rows.", []int{0, 50, 90}, func(t *testing.T, n int) *measured {
			var c batch.Columns
			for i := range 1000 {
				key := 100 + i%900
				if i%100 < n {
					key = 107
				}
				c.Append(fmt.Appendf(nil, `{"stu_id":%03d,"n":%d,"score_2":%03d,"x":1}`, key, i, 100+i%97))
			}
			return pass(t, bedConfig{}, load{batches: []batch.Columns{c}})
		}},
		{"workers", "Workers, batches of 100 rows.", []int{1, 2, 4, 16}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{workers: n}, load{batches: []batch.Columns{fiftyBytes(100)}})
		}},
		{"coordinators", "Coordinators, 8 streams, batches of 1,000 rows.", []int{1, 2, 4}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{coordinators: n}, load{streams: slices.Repeat([]string{"Pass"}, 8), batches: []batch.Columns{fiftyBytes(1000)}})
		}},
		{"functions", "Functions in a flow, batches of 1,000 rows.", []int{1, 2, 4, 16}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{documents: []definition.Document{flowDocument("Long", slices.Repeat([]string{"Pass"}, n)...)}},
				load{streams: []string{"Long"}, batches: []batch.Columns{fiftyBytes(1000)}})
		}},
		{"idle", "Idle flows beside the busy one, batches of 100 rows.", []int{0, 100, 1000}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{documents: passingDocuments(n)}, load{batches: []batch.Columns{fiftyBytes(100)}})
		}},
		{"flows", "Busy flows, a stream each, batches of 1,000 rows.", []int{1, 16, 64}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{documents: passingDocuments(n)}, load{streams: passing(n), batches: []batch.Columns{fiftyBytes(1000)}})
		}},
		{"streams", "Streams of one flow, batches of 1,000 rows.", []int{1, 16, 128}, func(t *testing.T, n int) *measured {
			return pass(t, bedConfig{}, load{streams: slices.Repeat([]string{"Pass"}, n), batches: []batch.Columns{fiftyBytes(1000)}})
		}},
		{"parked", "Rows of another flow that wait for a retry, batches of 1,000 rows.", []int{0, 10000, 100000}, func(t *testing.T, n int) *measured {
			b := newBed(t, bedConfig{workers: 2, documents: []definition.Document{flowDocument("Pass", "Pass"), flowDocument("Wait", "Wait")}})
			s, err := b.client.Stream(t.Context(), "Wait")
			if err != nil {
				t.Fatal(err)
			}
			for i := range n / 1000 {
				if _, err := s.Send(t.Context(), client.Pack(numbered(1000, i*1000, n, 50))); err != nil {
					t.Fatal(err)
				}
			}
			return b.send(load{streams: []string{"Pass"}, batches: []batch.Columns{fiftyBytes(1000)}})
		}},
		{"dead", "Of 100 rows so many are dead, and kept; batches of 1,000 rows.", []int{0, 10, 50}, func(t *testing.T, n int) *measured {
			return newBed(t, bedConfig{workers: 2, redis: true, letters: 100_000_000, documents: []definition.Document{flowDocument("Dead", "Die")}}).send(
				load{streams: []string{"Dead"}, batches: []batch.Columns{dying(1000, n)}, dead: true, noOutput: true})
		}},
		{"dead-streams", "Streams of a flow half of whose rows are dead, and kept; batches of 20 rows.", []int{1, 16}, func(t *testing.T, n int) *measured {
			return newBed(t, bedConfig{workers: 2, redis: true, letters: 100_000_000, documents: []definition.Document{flowDocument("Dead", "Die")}}).send(
				load{streams: slices.Repeat([]string{"Dead"}, n), batches: []batch.Columns{dying(20, 50)}, dead: true, noOutput: true})
		}},
		{"refused", "Of 100 rows so many are dead, and the store is full; batches of 1,000 rows.", []int{0, 10, 50}, func(t *testing.T, n int) *measured {
			return newBed(t, bedConfig{workers: 2, redis: true, letters: 100, documents: []definition.Document{flowDocument("Dead", "Die")}}).send(
				load{streams: []string{"Dead"}, batches: []batch.Columns{dying(1000, n)}, dead: true, noOutput: true})
		}},
		{"save", "Rows in a batch, each saved to Redis.", []int{1000, 200, 50}, func(t *testing.T, n int) *measured {
			return newBed(t, bedConfig{workers: 2, redis: true, documents: []definition.Document{flowDocument("Save", "SaveScoreAvg12")}}).send(
				load{streams: []string{"Save"}, batches: saving(n), noOutput: true})
		}},
		{"outputs", "Rows that a function makes of each row; batches of 100 rows, no output asked for.", []int{1, 10, 100}, func(t *testing.T, n int) *measured {
			return newBed(t, bedConfig{workers: 2, documents: []definition.Document{flowDocument("Make", "Make")}}).send(
				load{streams: []string{"Make"}, batches: []batch.Columns{numbered(100, n*1000, 900, 50)}})
		}},
		{"sessions", "Workers in session with an idle cluster; a row of this series is a second of a session.", []int{1, 4, 16}, func(t *testing.T, n int) *measured {
			return newBed(t, bedConfig{workers: n, documents: []definition.Document{flowDocument("Pass", "Pass")}}).idle(n)
		}},
		{"changes", "Flows; a row of this series is a change of one function that one flow has.", []int{1, 100, 500, 2000}, func(t *testing.T, n int) *measured { return changes(t, n, false) }},
		{"changes-all", "Flows; a row of this series is a change of a function that all have.", []int{1, 100, 500, 2000}, func(t *testing.T, n int) *measured { return changes(t, n, true) }},
	}
}

// passingDocuments are the documents of the flows passing(n).
func passingDocuments(n int) (docs []definition.Document) {
	for _, name := range passing(n) {
		docs = append(docs, flowDocument(name, "Pass"))
	}
	return docs
}

// numbered packs n rows of so many bytes at least. Their numbers begin with first, and they have keys different keys.
func numbered(n, first, keys, bytes int) batch.Columns {
	var c batch.Columns
	for i := range n {
		row := fmt.Appendf(nil, `{"stu_id":%d,"n":%d,"x":"`, 100+(first+i)%keys, first+i)
		row = append(row, strings.Repeat("x", max(1, bytes-len(row)-2))...)
		c.Append(append(row, `"}`...))
	}
	return c
}

// dying packs n rows, of which so many in 100 die.
func dying(n, share int) batch.Columns {
	var c batch.Columns
	for i := range n {
		c.Append(fmt.Appendf(nil, `{"stu_id":%03d,"n":%d,"dies":%t,"x":"xxx"}`, 100+i%900, i, i*37%100 < share))
	}
	return c
}

// saving are batches of n rows, 10,000 rows in all, each with a key of its own.
func saving(n int) (all []batch.Columns) {
	for first := 0; first < 10000; first += n {
		var c batch.Columns
		for i := range n {
			c.Append(fmt.Appendf(nil, `{"stu_id":%d,"score_avg":%d}`, first+i, 50+i%51))
		}
		all = append(all, c)
	}
	return all
}

// dyingRow is a row of dying.
type dyingRow struct {
	Student int  `json:"stu_id"`
	Dies    bool `json:"dies"`
}

// makingRow is a row that becomes N/1000 rows.
type makingRow struct {
	N int `json:"n"`
}

// registerGrowth registers functions that only TestGrowth uses.
func registerGrowth(r *kis.Registry) {
	r.Func("Die", kis.Verify(func(_ context.Context, row dyingRow) error {
		if row.Dies {
			return errors.New("the row says that it dies")
		}
		return nil
	}))
	r.Func("Wait", kis.Verify(func(context.Context, json.RawMessage) error { return errors.New("not yet") }))
	r.Func("Make", kis.Expand(func(_ context.Context, row makingRow, emit func(json.RawMessage)) error {
		for range row.N / 1000 {
			emit(json.RawMessage(`{"made":12345678901234567890,"of":"fifty bytes"}`))
		}
		return nil
	}))
}

// growthDocuments are the documents of the functions of TestGrowth's flows. redis is the address of the connector's Redis, or empty.
func growthDocuments(redis string) []definition.Document {
	docs := []definition.Document{
		testgrid.Document(definition.KindFunc, "Pass", "fmode: Calculate\n"),
		testgrid.Document(definition.KindFunc, "Die", "fmode: Verify\n"),
		testgrid.Document(definition.KindFunc, "Make", "fmode: Expand\n"),
		testgrid.Document(definition.KindFunc, "Wait", "fmode: Verify\noption: {retry_times: 3, retry_duration: 1h}\n"),
	}
	if redis != "" {
		docs = append(docs, testgrid.Document(definition.KindFunc, "SaveScoreAvg12", "fmode: Save\noption: {cname: Score12Cache}\n"),
			testgrid.Document(definition.KindConn, "Score12Cache", "type: redis\naddrs: "+redis+"\nkey: stu_score12_avg_\n"))
	}
	return docs
}

// startRedis starts a redis-server and returns its address. Without an installed one the test is skipped.
func (b *bed) startRedis() (address string) {
	b.t.Helper()
	address = testprocess.Address(b.t)
	testgrid.RealRedis(b.t, address)
	return address
}

// redisInfo returns a number of Redis's INFO, or 0 if there is no Redis.
func (b *bed) redisInfo(section, name string) float64 {
	b.t.Helper()
	if b.redis == "" {
		return 0
	}
	c := goredis.NewClient(&goredis.Options{Addr: b.redis})
	defer c.Close()
	text, err := c.Info(b.t.Context(), section).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, is := strings.CutPrefix(strings.TrimSpace(line), name+":"); is {
			value, _, _ = strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			n, _ := strconv.ParseFloat(value, 64)
			return n
		}
	}
	return 0
}

// redisCalls returns how many scripts Redis has run: each is a trip to Redis for the rows of a run, or for dead rows.
func (b *bed) redisCalls() int64 { return int64(b.redisInfo("commandstats", "cmdstat_evalsha")) }

// cpuOfAll returns the CPU time of each role so far, that of Redis included.
func (b *bed) cpuOfAll() map[string]time.Duration {
	b.t.Helper()
	all := b.cpu()
	all["redis"] = time.Duration((b.redisInfo("cpu", "used_cpu_user") + b.redisInfo("cpu", "used_cpu_sys")) * float64(time.Second))
	return all
}

// idle measures a cluster of n workers in which nothing happens. Rows of the result are seconds of sessions.
func (b *bed) idle(n int) *measured {
	b.t.Helper()
	time.Sleep(time.Second) // until what the start has to do is done
	began, before := time.Now(), b.cpuOfAll()
	time.Sleep(3 * *growthPeriod)
	after := b.cpuOfAll()
	m := &measured{took: time.Since(began), cpu: map[string]time.Duration{}, peak: b.peaks()}
	m.rows = int64(float64(n) * m.took.Seconds())
	for role, used := range after {
		m.cpu[role] = used - before[role]
	}
	return m
}

// changes measures changes of a function's document in a cluster of n flows: of one that all flows have, or of one that a single flow has.
// A change is over when the flows that have the function run on the new revision. Rows of the result are changes.
func changes(t *testing.T, n int, all bool) *measured {
	t.Helper()
	docs := passingDocuments(n)
	docs[0] = flowDocument("Pass1", "Make", "Pass")
	b := newBed(t, bedConfig{workers: 2, documents: docs})
	changed, concerned := "Make", 1
	if all {
		changed, concerned = "Pass", n
	}
	m := &measured{cpu: map[string]time.Duration{}}
	began, before := time.Now(), b.cpuOfAll()
	for m.rows == 0 || m.rows < 5 && time.Since(began) < *growthPeriod {
		mode := map[string]string{"Make": "Expand", "Pass": "Calculate"}[changed]
		at := time.Now()
		revision, err := b.store.PutDocuments(t.Context(), nil, []definition.Document{
			testgrid.Document(definition.KindFunc, changed, fmt.Sprintf("fmode: %s\noption: {retry_times: %d}\n", mode, 1+m.rows)),
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.awaitRevision(revision, concerned)
		m.latency = append(m.latency, time.Since(at))
		m.rows++
	}
	after := b.cpuOfAll()
	m.took, m.peak = time.Since(began), b.peaks()
	for role, used := range after {
		m.cpu[role] = used - before[role]
	}
	delete(m.cpu, "client") // it only waits, by reading etcd again and again
	slices.Sort(m.latency)
	return m
}

// awaitRevision waits until so many flows run on a revision of this number or a later one.
func (b *bed) awaitRevision(revision int64, flows int) {
	b.t.Helper()
	for {
		state, err := b.store.State(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		there := 0
		for _, f := range state.Flows {
			if f.Status.Active >= revision {
				there++
			}
		}
		if there >= flows {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-b.t.Context().Done():
			b.t.Fatal("the test's time is over before the flows run on the new revision")
		}
	}
}
