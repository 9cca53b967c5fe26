package testgrid

import (
	"io"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// StartEtcd starts an etcd that serves clients at the address (host:port) and keeps its data in the folder dir. It starts the
// installed etcd, or an embedded one where none is installed. The returned function stops the etcd at once and is safe to call twice;
// the end of the test calls it too.
func StartEtcd(tb testing.TB, address, dir string) (stop func()) {
	tb.Helper()
	return testprocess.StartEtcd(tb, "http://"+address, dir, func() (io.Closer, error) {
		return devcluster.StartEtcd(tb.Context(), devcluster.EtcdConfig{Address: address, DataDir: dir})
	})
}

// StartRedis starts an empty Redis at the address (host:port). It starts the installed redis-server, or an embedded one where none is
// installed. The returned function stops the Redis at once and is safe to call twice; the end of the test calls it too.
func StartRedis(tb testing.TB, address string) (stop func()) {
	tb.Helper()
	return testprocess.StartRedis(tb, address, func() (io.Closer, error) {
		return devcluster.StartRedis(devcluster.RedisConfig{Address: address})
	})
}

// RealRedis starts the installed redis-server at the address (host:port) with more arguments, and returns a client of it. Where none is
// installed the test is skipped: it needs more of Redis than the embedded one knows. Stop is as for StartRedis.
func RealRedis(tb testing.TB, address string, args ...string) (stop func(), c *redis.Client) {
	tb.Helper()
	stop = testprocess.StartRedis(tb, address, nil, args...)
	return stop, RedisClient(tb, address)
}

// EmbeddedEtcd starts an etcd in the test's process. The end of the test closes it, and fails the test when that returns an error.
func EmbeddedEtcd(tb testing.TB, c devcluster.EtcdConfig) *devcluster.Etcd {
	tb.Helper()
	e, err := devcluster.StartEtcd(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// RedisClient returns a client of the Redis at the address (host:port). The end of the test closes the client.
func RedisClient(tb testing.TB, address string) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: address})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}
