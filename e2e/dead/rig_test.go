// Package dead shows what becomes of rows that could not be done: built coordinators and the command line as processes, against a
// real Redis where it is installed, with workers in this process.
package dead

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

func TestMain(m *testing.M) {
	os.Exit(testprocess.Main(m, "../../cmd/coordinator", "../../cmd/kisgrid"))
}

// rig is a cluster: an etcd in this process, a Redis, coordinators as processes, a worker in this process.
type rig struct {
	t            *testing.T
	etcd         string
	redis        *goredis.Client
	address      string // Redis's
	coordinators []*coordinator
}

type coordinator struct {
	*testprocess.Process
	address, http string
}

// start starts a cluster with so many coordinators, which get these flags too; none: they have the store in the cluster's Redis.
func start(t *testing.T, coordinators int, register func(*kis.Registry), flags ...string) *rig {
	t.Helper()
	r := &rig{t: t, address: testprocess.Address(t)}
	startRedis(t, r.address)
	r.redis = goredis.NewClient(&goredis.Options{Addr: r.address})
	t.Cleanup(func() { _ = r.redis.Close() })
	e, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	r.etcd = e.Address()
	if len(flags) == 0 {
		flags = []string{"--dead-letters", "redis://" + r.address}
	}
	for range coordinators {
		r.coordinate(flags...)
	}
	r.work(register)
	return r
}

// startRedis starts a redis-server at the address, or an embedded one where it is not installed.
func startRedis(t *testing.T, address string) (stop func()) {
	t.Helper()
	return testprocess.StartRedis(t, address, func() (io.Closer, error) {
		return devcluster.StartRedis(devcluster.RedisConfig{Address: address})
	})
}

// coordinate starts one more coordinator.
func (r *rig) coordinate(flags ...string) {
	r.t.Helper()
	c := &coordinator{address: testprocess.Address(r.t), http: testprocess.Address(r.t)}
	c.Process = testprocess.Start(r.t, testprocess.Config{}, "coordinator",
		append([]string{"--etcd", r.etcd, "--listen", c.address, "--http", c.http, "--lease", "2s"}, flags...)...)
	r.coordinators = append(r.coordinators, c)
}

// work starts a worker, which ends with the test.
func (r *rig) work(register func(*kis.Registry)) {
	r.t.Helper()
	registry := kis.NewRegistry()
	register(registry)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: "w", Listen: "127.0.0.1:0", Lease: 2 * time.Second, Etcd: cluster.Config{Endpoints: []string{r.etcd}},
		Environment: func(name string) (string, bool) { return r.address, name == "REDIS_ADDR" },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() { stop(); running.Wait() })
}

// addresses are the coordinators', for --server and clients.
func (r *rig) addresses() string {
	var all []string
	for _, c := range r.coordinators {
		all = append(all, c.address)
	}
	return strings.Join(all, ",")
}

// command starts a kisgrid command.
func (r *rig) command(args ...string) *testprocess.Process {
	r.t.Helper()
	return testprocess.Start(r.t, testprocess.Config{Env: r.env()}, "kisgrid", args...)
}

// kisgrid runs a command to its end.
func (r *rig) kisgrid(args ...string) (out string, code int) {
	r.t.Helper()
	code, out, log := testprocess.Run(r.t, testprocess.Config{Env: r.env()}, "kisgrid", args...)
	return out + log, code
}

func (r *rig) env() []string { return []string{"KISGRID_SERVER=" + r.addresses()} }

// must is kisgrid for what has to succeed.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, code := r.kisgrid(args...)
	if code != 0 {
		r.t.Fatalf("kisgrid %s ended with %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// apply writes documents, by file name, and waits until they are active.
func (r *rig) apply(documents map[string]string) {
	r.t.Helper()
	dir := r.t.TempDir()
	for name, text := range documents {
		if err := os.WriteFile(filepath.Join(dir, name+".yml"), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	testprocess.Until(r.t, "a coordinator takes documents", func() error {
		if out, code := r.kisgrid("apply", "-f", dir); code != 0 {
			return errors.New(out)
		}
		return nil
	})
}

func (r *rig) dial() *client.Client {
	r.t.Helper()
	c, err := client.Dial(r.addresses(), client.WithRetryFor(testprocess.Patience))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// letter is what dead list -o json says of one.
type letter struct {
	ID       string          `json:"id"`
	Function string          `json:"function"`
	Code     string          `json:"code"`
	Reason   string          `json:"reason"`
	Redrives int             `json:"redrives"`
	Edited   bool            `json:"edited"`
	Row      json.RawMessage `json:"row"`
}

// store is what it says of a flow's store.
type store struct {
	Letters int  `json:"letters"`
	Limit   int  `json:"limit"`
	Full    bool `json:"full"`
	Refused int  `json:"refused"`
}

// list is what dead list says.
func (r *rig) list(args ...string) (letters []letter, s store) {
	r.t.Helper()
	for line := range strings.Lines(r.must(append([]string{"dead", "list", "-o", "json"}, args...)...)) {
		var e struct {
			Letter *letter
			Store  *store
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("%s: %v", line, err)
		}
		if e.Letter != nil {
			letters = append(letters, *e.Letter)
		} else {
			s = *e.Store
		}
	}
	return letters, s
}

// data is all of Redis but what KisGrid keeps for itself.
func (r *rig) data() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	keys, err := r.redis.Keys(r.t.Context(), "pay:*").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.redis.Pipeline()
	lists := map[string]*goredis.StringSliceCmd{}
	hashes := map[string]*goredis.MapStringStringCmd{}
	for _, key := range keys {
		if strings.HasPrefix(key, "pay:log:") {
			lists[key] = p.LRange(r.t.Context(), key, 0, -1)
		} else {
			hashes[key] = p.HGetAll(r.t.Context(), key)
		}
	}
	if len(keys) > 0 {
		if _, err := p.Exec(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	for key, c := range lists {
		all[key] = strings.Join(c.Val(), " ")
	}
	for key, c := range hashes {
		all[key] = fmt.Sprint(c.Val()) // in the order of keys
	}
	return all
}
