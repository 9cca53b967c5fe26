package redis

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

const benchRows = 1000 // per call

// BenchmarkSave saves 1,000 rows per call, from 1 and from 12 callers, through the connector (with and without somebody who
// waits for another key) and through plain pipelines of go-redis.
func BenchmarkSave(b *testing.B) {
	s := startServer(b, "")
	for _, callers := range []int{1, 12} {
		b.Run(fmt.Sprintf("connector/callers=%d", callers), func(b *testing.B) { benchSave(b, open(b, document(s.addr)), callers) })
		b.Run(fmt.Sprintf("waited/callers=%d", callers), func(b *testing.B) {
			waiting, saving := open(b, document(s.addr)), open(b, document(s.addr))
			w := &watcher{wake: func(string) {}}
			waiting.watched.add(w, []string{"never"})
			defer waiting.watched.remove(w, []string{"never"})
			benchSave(b, saving, callers)
		})
		b.Run(fmt.Sprintf("pipeline/callers=%d", callers), func(b *testing.B) {
			client := goredis.NewClient(&goredis.Options{Addr: s.addr})
			defer client.Close()
			bench(b, callers, func(caller int) error {
				pipe := client.Pipeline()
				for i := range benchRows {
					pipe.HSet(b.Context(), "stu_score12_avg_"+strconv.Itoa(caller*benchRows+i), "avg_score", "87.5")
				}
				_, err := pipe.Exec(b.Context())
				return err
			})
		})
	}
}

func benchSave(b *testing.B, c *Connection, callers int) {
	b.Helper()
	c.prefix = "stu_score12_avg_"
	bench(b, callers, func(caller int) error {
		effects := make([]connector.Effect, benchRows)
		for i := range effects {
			effects[i] = set(strconv.Itoa(caller*benchRows+i), "avg_score", "87.5")
		}
		verdicts, err := c.Save(b.Context(), connector.Cause{}, effects)
		if verdicts != nil {
			return verdicts[0]
		}
		return err
	})
}

// BenchmarkLoad reads 1,000 keys per call, likewise.
func BenchmarkLoad(b *testing.B) {
	s := startServer(b, "")
	c := open(b, document(s.addr))
	c.prefix = "stu_score12_avg_"
	keys := make([]string, 12*benchRows)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	if _, err := c.Save(b.Context(), connector.Cause{}, sets("", len(keys))); err != nil {
		b.Fatal(err)
	}
	for _, callers := range []int{1, 12} {
		b.Run(fmt.Sprintf("connector/callers=%d", callers), func(b *testing.B) {
			bench(b, callers, func(caller int) error {
				_, err := c.Load(b.Context(), keys[caller*benchRows:(caller+1)*benchRows])
				return err
			})
		})
		b.Run(fmt.Sprintf("pipeline/callers=%d", callers), func(b *testing.B) {
			client := goredis.NewClient(&goredis.Options{Addr: s.addr})
			defer client.Close()
			bench(b, callers, func(caller int) error {
				pipe := client.Pipeline()
				for _, key := range keys[caller*benchRows : (caller+1)*benchRows] {
					pipe.HGetAll(b.Context(), c.prefix+key)
				}
				_, err := pipe.Exec(b.Context())
				return err
			})
		})
	}
}

// bench shares b.N calls among callers, and reports rows per second.
func bench(b *testing.B, callers int, call func(caller int) error) {
	b.Helper()
	b.ReportAllocs()
	var group sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		calls := b.N / callers
		if caller < b.N%callers {
			calls++
		}
		group.Go(func() {
			for range calls {
				if err := call(caller); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}
