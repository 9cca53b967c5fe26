package bench

import (
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// TestGrowthShort counts messages where TestGrowth measures times, so that it fails on no slow machine: the parts that a batch takes,
// and the messages with credit, do not depend on the idle flows beside it.
func TestGrowthShort(t *testing.T) {
	perBatch := func(idle int) (parts, credits float64) {
		conf := fstest.MapFS{
			"pass.yml": {Data: []byte("kistype: func\nfname: Pass\nfmode: Calculate\n")},
			"busy.yml": {Data: []byte("kistype: flow\nflow_name: Busy\nstatus: 1\nshard_key: stu_id\nflows: [{fname: Pass}]\n")},
		}
		g := flowtest.Cluster(t, 2, flowtest.Register(register), flowtest.ConfFS(conf))
		for some := range slices.Chunk(passingDocuments(idle), 100) { // a transaction of etcd has 128 operations
			if err := g.Put(some...); err != nil {
				t.Fatal(err)
			}
		}
		c := g.Client()
		s, err := c.Stream(t.Context(), "Busy")
		if err != nil {
			t.Fatal(err)
		}
		for _, flow := range passing(idle) { // so that each has had credit
			for {
				_, err := c.Submit(t.Context(), flow, client.Pack(fiftyBytes(1)))
				if err == nil {
					break
				}
				if t.Context().Err() != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond) // the cluster gives no signal when the flow runs
			}
		}
		count := func(name string) (n float64) {
			for _, w := range g.Workers() {
				n += w.Metric(name)
			}
			return n
		}
		send := func(batches, rows int) {
			columns := fiftyBytes(rows)
			var pending []*client.Pending
			for range batches {
				p, err := s.Send(t.Context(), client.Pack(columns), client.NoOutput())
				if err != nil {
					t.Fatal(err)
				}
				if pending = append(pending, p); len(pending) == 16 {
					for _, p := range pending {
						if r, err := p.Wait(t.Context()); err != nil || r.Counts()[batch.Done] != uint64(rows) {
							t.Fatalf("%+v, %v", r, err)
						}
					}
					pending = pending[:0]
				}
			}
		}
		send(70, 10000) // more rows than a worker's budget has, so that the other flows count as idle
		parts = count("kisgrid_worker_parts_received_total")
		credit := count("kisgrid_worker_credits_sent_total")
		const batches = 320
		send(batches, 100)
		return (count("kisgrid_worker_parts_received_total") - parts) / batches, (count("kisgrid_worker_credits_sent_total") - credit) / batches
	}
	parts, credits := perBatch(0)
	if parts > 2.5 {
		t.Errorf("a batch takes %.2f parts with two workers", parts)
	}
	p, c := perBatch(300)
	t.Logf("a batch takes %.2f parts and %.2f grants of credit, and %.2f and %.2f beside idle flows", parts, credits, p, c)
	if p > 1.2*parts || c > credits+0.2 {
		t.Errorf("beside 300 idle flows a batch takes %.2f parts and %.2f grants of credit, and alone %.2f and %.2f", p, c, parts, credits)
	}
}
