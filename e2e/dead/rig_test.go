// Package dead tests dead letters: rows that could not be done, which are kept, edited and run again. Coordinators and the command
// line are processes of the built programs, Redis is a real one where it is installed, and workers run in this process.
package dead

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

func TestMain(m *testing.M) {
	os.Exit(testprocess.Main(m, "../../cmd/coordinator", "../../cmd/kisgrid"))
}

// rig is a cluster: an etcd in this process, a Redis, coordinators as processes, and a worker in this process.
type rig struct {
	*testgrid.Grid
	t     *testing.T
	redis *goredis.Client
}

// start starts a cluster with as many coordinators as coordinators says, which get the flags. Without a flag --dead-letters
// they are kept in the cluster's Redis.
func start(t *testing.T, coordinators int, register func(*kis.Registry), flags ...string) *rig {
	t.Helper()
	r := &rig{Grid: testgrid.New(t), t: t}
	testgrid.StartRedis(t, r.Redis)
	r.redis = testgrid.RedisClient(t, r.Redis)
	r.Etcd, r.Lease = testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{}).Address(), "2s"
	if !slices.ContainsFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, "--dead-letters") }) {
		flags = append(flags, "--dead-letters", "redis://"+r.Redis)
	}
	for range coordinators {
		r.AddCoordinator(flags...).Start()
	}
	r.work(register)
	return r
}

// work starts a worker in this process. It ends with the test.
func (r *rig) work(register func(*kis.Registry)) {
	r.t.Helper()
	registry := kis.NewRegistry()
	register(registry)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: "w", Listen: "127.0.0.1:0", Lease: 2 * time.Second, Etcd: cluster.Config{Endpoints: []string{r.Etcd}},
		Environment: func(name string) (string, bool) { return r.Redis, name == "REDIS_ADDR" },
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

// kisgrid runs a command to its end. It returns everything that the command printed, and the exit code.
func (r *rig) kisgrid(args ...string) (out string, code int) {
	r.t.Helper()
	code, out, log := r.Kisgrid("", args...)
	return out + log, code
}

// must runs a kisgrid command, fails the test unless it ends with 0, and returns everything that it printed.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, code := r.kisgrid(args...)
	if code != 0 {
		r.t.Fatalf("kisgrid %s ended with %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// apply writes documents, given by file name, and waits until they are active.
func (r *rig) apply(documents map[string]string) {
	r.t.Helper()
	dir := testgrid.WriteDocuments(r.t, documents)
	testprocess.Until(r.t, "a coordinator takes documents", func() error {
		if out, code := r.kisgrid("apply", "-f", dir); code != 0 {
			return errors.New(out)
		}
		return nil
	})
}

// letter is a dead letter as dead list -o json prints it.
type letter struct {
	ID       string          `json:"id"`
	Function string          `json:"function"`
	Code     string          `json:"code"`
	Reason   string          `json:"reason"`
	Redrives int             `json:"redrives"`
	Edited   bool            `json:"edited"`
	Row      json.RawMessage `json:"row"`
}

// store is the store of a flow as dead list -o json prints it.
type store struct {
	Letters int  `json:"letters"`
	Limit   int  `json:"limit"`
	Full    bool `json:"full"`
	Refused int  `json:"refused"`
}

// list runs kisgrid dead list with more arguments. It returns the letters that it prints, and the last of the stores.
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

// data is all data that the flow has saved in Redis: by key, the value as a text.
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
		all[key] = fmt.Sprint(c.Val()) // fmt prints the fields in alphabetical order
	}
	return all
}
