//go:build linux

package once

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// registerWait registers the function of flow Wait, which loads the key that its row names.
func registerWait(r *kis.Registry) {
	r.Func("Await", kis.Load(func(in row) string { return in.Key }, func(_ context.Context, in row, _ *map[string]string) (row, error) { return in, nil }))
}

// waitDocuments are the documents of flow Wait, whose rows wait for their key for a duration.
func waitDocuments(wait time.Duration) []definition.Document {
	return []definition.Document{
		{Kind: definition.KindFlow, Name: "Wait", YAML: []byte("kistype: flow\nflow_name: Wait\nstatus: 1\nshard_key: key\nflows: [{fname: Await}]\n")},
		{Kind: definition.KindFunc, Name: "Await", YAML: fmt.Appendf(nil, "kistype: func\nfname: Await\nfmode: Load\noption: {cname: Store, wait: %s}\n", wait)},
	}
}

// TestFullWaitingFlow sends rows that wait, until neither the worker nor the coordinator takes more of them: every window is full,
// and rows wait in every lane. The flow that saves the keys for which they wait must still run, and end their wait.
func TestFullWaitingFlow(t *testing.T) {
	const streams, size, budget = 12, 100, 4 << 20
	address := testprocess.Address(t)
	testgrid.RealRedis(t, address)
	g := startGridWith(t, 1, 1, fmt.Sprintf("addrs: %q\nkey: \"once:\"\nsave: [Count]\nload: [Await]\n", address),
		append(documents(), waitDocuments(time.Minute)...), []string{"--budget-bytes", strconv.Itoa(4 * budget)}, []string{"--memory-budget", strconv.Itoa(budget)})
	c := g.Dial()
	ctx, cancel := context.WithTimeout(t.Context(), testprocess.Patience)
	defer cancel()
	filler := strings.Repeat("x", 10<<10)
	var sending sync.WaitGroup
	var sent [streams]atomic.Int64 // batches
	var pending [streams][]*client.Pending
	full := make(chan struct{})
	for i := range streams {
		s := g.Stream(ctx, c, "Wait")
		sending.Go(func() {
			for {
				select {
				case <-full:
					return
				default:
				}
				rows := make([]row, size)
				for n := range rows {
					rows[n] = row{Key: "sum:" + keyName(i, len(pending[i]), n), Filler: filler}
				}
				p, err := s.Send(ctx, client.Rows(rows...), client.NoOutput())
				if err != nil {
					t.Error(err)
					return
				}
				pending[i] = append(pending[i], p)
				sent[i].Add(1)
			}
		})
	}
	waiting, since := 0, time.Now()
	testprocess.Until(t, "rows that wait fill the worker, and nothing moves any more", func() error {
		batches := int64(0)
		for i := range sent {
			batches += sent[i].Load()
		}
		if now := int(batches) * size * len(filler); now != waiting {
			waiting, since = now, time.Now()
		}
		if still := time.Since(since); waiting < budget || still < time.Second { // only time shows that no more rows come
			return fmt.Errorf("%d KiB of rows wait since %s", waiting>>10, still)
		}
		return nil
	})
	close(full)
	t.Logf("%d MiB of rows wait", waiting>>20)
	// The batches that the blocked calls are about to send are saved too.
	saving := g.Stream(ctx, c, "Once")
	var saves []*client.Pending
	for i := range streams {
		for b := range int(sent[i].Load()) + 1 {
			rows := make([]row, size)
			for n := range rows {
				rows[n] = row{Key: keyName(i, b, n), N: 1}
			}
			p, err := saving.Send(ctx, client.Rows(rows...), client.NoOutput())
			if err != nil {
				t.Fatal(err)
			}
			saves = append(saves, p)
		}
	}
	sending.Wait()
	for _, all := range append(pending[:], saves) {
		for _, p := range all {
			if r, err := p.Wait(ctx); err != nil || len(r.NotDone) > 0 {
				t.Fatalf("%v: %+v", err, r)
			}
		}
	}
}

// TestParkedRows has 100,000 rows wait for keys that are never saved. It kills one of two workers and one of two coordinators that
// hold these rows. Each row must end dead, with the name of its key in the reason. TestParkedMemory in pkg/flowexec measures how much
// memory one such row takes.
func TestParkedRows(t *testing.T) {
	const streams, batches, size = 20, 5, 1000 // as many as the first window of a stream takes
	const total, patience = streams * batches * size, 10 * time.Second
	address := testprocess.Address(t)
	_, r := testgrid.RealRedis(t, address)
	g := startGrid(t, 2, 2, fmt.Sprintf("addrs: %q\nkey: \"once:\"\nload: [Await]\n", address), waitDocuments(patience))
	c := g.Dial()
	ctx, cancel := context.WithTimeout(t.Context(), testprocess.Patience)
	defer cancel()
	var all [streams]*client.Stream
	for i := range all {
		all[i] = g.Stream(ctx, c, "Wait")
	}
	var sending sync.WaitGroup
	var sent [streams][]*client.Pending
	for i, s := range all {
		sending.Go(func() {
			for b := range batches {
				rows := make([]row, size)
				for n := range rows {
					rows[n].Key = keyName(i, b, n)
				}
				p, err := s.Send(ctx, client.Rows(rows...), client.NoOutput())
				if err != nil {
					t.Error(err)
					return
				}
				sent[i] = append(sent[i], p)
			}
		})
	}
	sending.Wait()
	began, waiting := time.Now(), 0
	testprocess.Until(t, "all rows wait", func() error { // Redis has a channel for each key that rows wait for, and one more
		_, info, _ := strings.Cut(r.Info(ctx, "stats").Val(), "pubsub_channels:")
		if _, err := fmt.Sscan(info, &waiting); err != nil {
			return fmt.Errorf("the channels of %q: %w", info, err)
		}
		waiting--
		// On a machine that is too slow for all of them at once, half of them are enough.
		if waiting < total && (waiting < total/2 || time.Since(began) < patience/2) {
			return fmt.Errorf("%d do", waiting)
		}
		return nil
	})
	t.Logf("%d rows wait", waiting)
	g.TakeWorker(0).Kill()
	g.Coordinators[0].Kill()

	for i := range sent {
		for b, p := range sent[i] {
			result, err := p.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(result.NotDone) != size {
				t.Fatalf("%d of %d rows are not done", len(result.NotDone), size)
			}
			for n, o := range result.NotDone {
				if o.Row != uint32(n) || o.Outcome != batch.Dead || o.Code != batch.CodeLoadTimeout || !strings.Contains(o.Reason, fmt.Sprintf("%q", "once:"+keyName(i, b, n))) {
					t.Fatalf("row %d ended %+v", n, o)
				}
			}
		}
	}
}

// keyName is the key of row n of a batch.
func keyName(stream, batch, n int) string { return fmt.Sprintf("%d-%d-%d", stream, batch, n) }
