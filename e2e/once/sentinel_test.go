//go:build linux

package once

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// TestSentinelFailover kills the master of a Redis under the load of a cluster. The Sentinel promotes the replica, and rows go on
// there: no row fails, and with replicas: 1 every effect is there once, in order. TestFailover shows what is lost without replicas.
func TestSentinelFailover(t *testing.T) {
	masterAddress, replicaAddress, sentinel := testprocess.Address(t), testprocess.Address(t), testprocess.Address(t)
	stopMaster, _ := testgrid.RealRedis(t, masterAddress, "--repl-diskless-sync-delay", "0")
	promoted := startReplica(t, replicaAddress, masterAddress)
	testprocess.StartSentinel(t, sentinel, "students", masterAddress)
	watch := redis.NewSentinelClient(&redis.Options{Addr: sentinel})
	t.Cleanup(func() { _ = watch.Close() })
	testprocess.Until(t, "the Sentinel knows the replica", func() error {
		known, err := watch.Replicas(t.Context(), "students").Result()
		if err == nil && (len(known) != 1 || known[0]["master-link-status"] != "ok") {
			err = fmt.Errorf("it knows %v", known)
		}
		return err
	})
	g := startGrid(t, 1, 2, fmt.Sprintf("addrs: %q\nkey: \"once:\"\nreplicas: 1\nparams: {master: students, retry_max: 200ms}\nsave: [Count]\n", sentinel), documents())

	p := newProducer(g, 0, *seedFlag) // only for its keys, and for verify
	p.keys = p.keys[:len(p.keys)-1]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := g.Stream(ctx, g.Dial(), "Once")
	var done atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- p.load(ctx, s, stop, &done) }()
	more := func(what string) {
		t.Helper()
		least := done.Load() + 5000
		testprocess.Until(t, "rows are done "+what, func() error {
			select {
			case err := <-stopped:
				t.Fatalf("the load ended with %v", err)
			default:
			}
			if n := done.Load(); n < least {
				return fmt.Errorf("%d of %d are", n, least)
			}
			return nil
		})
	}
	more("at first")
	stopMaster()
	killed := time.Now()
	testprocess.Until(t, "the replica is promoted", func() error {
		if info := promoted.Info(t.Context(), "replication").Val(); !strings.Contains(info, "role:master") {
			return errors.New(info)
		}
		return nil
	})
	t.Logf("the replica was promoted %v after the master's death", time.Since(killed).Round(time.Millisecond))
	// The promoted Redis has no replica, so no Save is acknowledged. The test starts one, as an operator would.
	startReplica(t, testprocess.Address(t), replicaAddress)
	more("after the failover")
	t.Logf("rows go on %v after it", time.Since(killed).Round(time.Millisecond))
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	verify(t, promoted, p)
}

// startReplica starts a replica of the Redis at the address of, and waits until the two are linked.
func startReplica(t *testing.T, address, of string) *redis.Client {
	t.Helper()
	host, port, _ := net.SplitHostPort(of)
	_, c := testgrid.RealRedis(t, address, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	testprocess.Until(t, "the replica is linked", func() error {
		if info := c.Info(t.Context(), "replication").Val(); !strings.Contains(info, "master_link_status:up") {
			return errors.New(info)
		}
		return nil
	})
	return c
}

// load sends rows over a stream until stop is closed, and counts those that are answered. Each must be done. It closes the stream.
func (p *producer) load(ctx context.Context, s *client.Stream, stop <-chan struct{}, done *atomic.Int64) error {
	const size = 100
	ctx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	load := testgrid.Load{
		Stream: s, Open: 20, Options: []client.SubmitOption{client.NoOutput()},
		Next: func(int) *client.Batch {
			rows := make([]row, size)
			for i := range rows {
				key := p.keys[p.random.IntN(len(p.keys))]
				p.sent[key]++
				rows[i] = row{Key: key, N: p.sent[key]}
			}
			return client.Rows(rows...)
		},
		Answered: func(_ int, r *client.Result, err error) {
			switch {
			case err != nil:
				failed(err)
			case len(r.NotDone) > 0:
				failed(fmt.Errorf("%d rows are not done: %+v", len(r.NotDone), r.NotDone[0]))
			default:
				done.Add(size)
			}
		},
	}
	if err := load.Run(ctx, stop); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return s.Close()
}
