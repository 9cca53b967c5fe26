//go:build linux

package once

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/process"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// registerWait registers the function of flow Wait: it loads what its row names.
func registerWait(r *kis.Registry) {
	r.Func("Await", kis.Load(func(in row) string { return in.Key }, func(_ context.Context, in row, _ *map[string]string) (row, error) { return in, nil }))
}

func waitDocuments(wait time.Duration) []definition.Document {
	return []definition.Document{
		{Kind: definition.KindFlow, Name: "Wait", YAML: []byte("kistype: flow\nflow_name: Wait\nstatus: 1\nshard_key: key\nflows: [{fname: Await}]\n")},
		{Kind: definition.KindFunc, Name: "Await", YAML: fmt.Appendf(nil, "kistype: func\nfname: Await\nfmode: Load\noption: {cname: Store, wait: %s}\n", wait)},
	}
}

// TestParkedRows has 100,000 rows wait for keys that never come, kills one of two workers and one of two coordinators that hold
// them, and sees each row end with the name of its key. What such a row costs TestParkedMemory (pkg/flowexec) shows.
func TestParkedRows(t *testing.T) {
	const streams, batches, size = 20, 5, 1000 // a stream's first window takes no more
	address := process.Address(t)
	_, r := startRedis(t, address)
	g := startGrid(t, 2, 2, fmt.Sprintf("addrs: %q\nkey: \"once:\"\nload: [Await]\n", address), waitDocuments(10*time.Second))
	c, err := client.Dial(strings.Join(g.addresses, ","), client.WithRetryFor(process.Patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	process.Until(t, "the flow is active", func() error {
		s, err := c.Stream(ctx, "Wait")
		if err != nil {
			return err
		}
		return s.Close()
	})

	var sending sync.WaitGroup
	var sent [streams][]*client.Pending
	for i := range streams {
		sending.Go(func() {
			s, err := c.Stream(ctx, "Wait")
			if err != nil {
				t.Error(err)
				return
			}
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
	process.Until(t, "all rows wait", func() error { // each key that is waited for has a channel
		info := r.Info(ctx, "stats").Val()
		if !strings.Contains(info, fmt.Sprintf("pubsub_channels:%d\r", streams*batches*size+1)) {
			return errors.New(info)
		}
		return nil
	})
	g.take(0).Kill()
	g.processes[0].Kill()

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

func keyName(stream, batch, n int) string { return fmt.Sprintf("%d-%d-%d", stream, batch, n) }
