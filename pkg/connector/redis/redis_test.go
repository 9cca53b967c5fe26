package redis

import (
	"flag"
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/conformance"
)

// `make soak-wakeups` asks for more.
var pairsFlag = flag.Int("pairs", 20_000, "how many Saves and Waits race on a real Redis")

func TestConformance(t *testing.T) {
	conform(t, conformance.Store{Pairs: *pairsFlag}, startServer(t, "").addr)
}

func TestConformanceOfMiniredis(t *testing.T) {
	conform(t, conformance.Store{Pairs: 2_000, Wraps: true}, miniredis.RunT(t).Addr())
}

func TestConformanceOfCluster(t *testing.T) {
	conform(t, conformance.Store{Pairs: 2_000, Spread: true}, startCluster(t)...)
}

func conform(t *testing.T, s conformance.Store, addrs ...string) {
	t.Helper()
	s.Open = func(tb testing.TB, prefix string) connector.Connection {
		tb.Helper()
		doc := document(addrs...)
		doc.Key = prefix
		return open(tb, doc)
	}
	s.List = func(tb testing.TB, key string) []string {
		tb.Helper()
		client := goredis.NewUniversalClient(&goredis.UniversalOptions{Addrs: addrs})
		defer client.Close()
		list, err := client.LRange(tb.Context(), key, 0, -1).Result()
		if err != nil {
			tb.Fatal(err)
		}
		return list
	}
	conformance.Run(t, s)
}
