package devcluster_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dialEtcd(t *testing.T, address string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEtcdKeepsItsDataAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	first := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{DataDir: dir, Address: testprocess.Address(t)})
	client := dialEtcd(t, first.Address())
	if _, err := client.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{DataDir: dir, Address: first.Address()})
	if first.Address() != second.Address() {
		t.Errorf("restarted at %s, not %s", second.Address(), first.Address())
	}
	got, err := client.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" {
		t.Errorf("a is %v after a restart", got.Kvs)
	}
}

func TestEtcdClosesAtOnceUnderAWatch(t *testing.T) {
	e := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	client := dialEtcd(t, e.Address())
	watch := client.Watch(clientv3.WithRequireLeader(t.Context()), "a", clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		t.Fatalf("not watching: %v", created)
	}
	done := make(chan error, 1)
	go func() { done <- e.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(4 * time.Second): // etcd's own grace for streams is 5 s
		t.Error("Close waits for the watch")
		<-done
	}
	if err := e.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestEtcdSaysWhyItCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var log bytes.Buffer
	_, err = devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{
		Address: taken.Addr().String(),
		Logger:  hclog.New(&hclog.LoggerOptions{Output: &log}),
	})
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if _, err := devcluster.StartRedis(devcluster.RedisConfig{Address: taken.Addr().String()}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Redis: %v", err)
	}
}

func TestRedisLetsKeysExpire(t *testing.T) {
	r, err := devcluster.StartRedis(devcluster.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: r.Address()})
	defer client.Close()
	if err := client.Set(t.Context(), "short", "1", 100*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), "long", "1", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// A key expires without a signal: the test has to ask.
	for {
		n, err := client.Exists(ctx, "short").Result()
		if err != nil {
			t.Fatalf("short is still there: %v", err)
		}
		if n == 0 {
			break
		}
	}
	if n, err := client.Exists(ctx, "long").Result(); n != 1 || err != nil {
		t.Errorf("long: %d, %v", n, err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if conn, err := net.Dial("tcp", r.Address()); err == nil {
		conn.Close()
		t.Error("it listens after Close")
	}
}

// The test runs itself in another process, so that it also sees the output of libraries that bypass os.Stdout.
func TestNothingIsPrinted(t *testing.T) {
	const child = "DEVCLUSTER_TEST_CHILD"
	if os.Getenv(child) == "" {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingIsPrinted$")
		command.Env = append(os.Environ(), child+"=1")
		printed, err := command.CombinedOutput()
		text := strings.TrimSpace(string(printed))
		text = strings.TrimSpace(strings.TrimPrefix(text, "PASS"))
		if text, _, _ = strings.Cut(text, "coverage:"); err != nil || text != "" {
			t.Errorf("%v, printed:\n%s", err, text)
		}
		return
	}
	e := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	client := dialEtcd(t, e.Address())
	if _, err := client.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	if created := <-client.Watch(t.Context(), "a", clientv3.WithCreatedNotify()); !created.Created {
		t.Fatalf("not watching: %v", created)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := devcluster.StartRedis(devcluster.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
