package redis

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/conformance"
)

func TestConformance(t *testing.T) {
	conform(t, conformance.Store{Pairs: 20_000}, startServer(t, "").addr)
}

func TestConformanceOfMiniredis(t *testing.T) {
	conform(t, conformance.Store{Pairs: 2_000, Wraps: true}, miniredis.RunT(t).Addr())
}

func TestConformanceOfCluster(t *testing.T) {
	conform(t, conformance.Store{Pairs: 2_000}, startCluster(t)...)
}

func conform(t *testing.T, s conformance.Store, addrs ...string) {
	s.Open = func(t testing.TB, prefix string) connector.Connection {
		doc := document(addrs...)
		doc.Key = prefix
		return open(t, doc)
	}
	s.List = func(t testing.TB, key string) []string {
		client := goredis.NewUniversalClient(&goredis.UniversalOptions{Addrs: addrs})
		defer client.Close()
		list, err := client.LRange(t.Context(), key, 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	conformance.Run(t, s)
}
