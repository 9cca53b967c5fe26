//go:build linux

package upgrade

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestUpgrade has a cluster of the earlier build run a flow for each case. It rolls the cluster to this build, back, and to this
// build again, once with workers first and once with coordinators first. All the time clients submit rows to each flow; each row must
// end done and be counted once. Documents that this build would refuse go on running. When they are written anew they are refused,
// and change nothing.
func TestUpgrade(t *testing.T) {
	g := startGrid(t, 2, 2)
	g.definitions.Put(testgrid.Document(definition.KindConn, "Counts", "type: redis\naddrs: ${REDIS_ADDR}\nkey: \"upgrade:\"\nsave: [Count]\n"),
		testgrid.Document(definition.KindFunc, "Count", "fmode: Save\noption:\n  cname: Counts\n  save: {key: \"{id}\", incr: {n: one}}\n"))
	active := map[string]int64{}
	for _, c := range cases() {
		g.definitions.Put(c.documents...)
	}
	for _, c := range cases() {
		active[c.flow] = g.definitions.Await(c.flow, "is active", isActive).Active
	}
	c := g.Dial()

	load, calm := context.WithCancel(t.Context())
	defer calm()
	var producing sync.WaitGroup
	producers := map[string]*producer{}
	for _, k := range cases() {
		p := &producer{t: t, flow: k.flow, client: c, news: make(chan struct{}, 1)}
		producers[k.flow] = p
		producing.Go(func() { p.produce(load) })
	}
	step := func(name string, do func()) {
		began := time.Now()
		do()
		for p := range maps.Values(producers) {
			p.awaitProgress()
		}
		t.Logf("%s took %v", name, time.Since(began).Round(100*time.Millisecond))
	}
	step("the beginning", func() {})
	step("new workers", func() { g.replaceWorkers("") })
	step("new coordinators", func() { g.replaceCoordinators("") })
	step("old workers again", func() { g.replaceWorkers(g.earlier) })
	step("old coordinators again", func() { g.replaceCoordinators(g.earlier) })
	step("new coordinators first", func() { g.replaceCoordinators("") })
	step("new workers then", func() { g.replaceWorkers("") })
	step("new coordinators, which know nothing of before", func() { g.replaceCoordinators("") })

	for _, k := range cases() {
		status := g.definitions.Await(k.flow, "is active", isActive)
		if status.Active != active[k.flow] {
			t.Errorf("flow %s runs revision %d, not the accepted one, %d", k.flow, status.Active, active[k.flow])
		}
	}
	// Documents that are written anew are checked anew.
	for _, k := range cases() {
		for i := range k.documents {
			k.documents[i].YAML = append(k.documents[i].YAML, "# written again\n"...)
		}
		g.definitions.Put(k.documents...)
		if k.refused == "" {
			g.definitions.Await(k.flow, "is active again", func(s cluster.FlowStatus) bool { return isActive(s) && s.Active > active[k.flow] })
			continue
		}
		status := g.definitions.Await(k.flow, "is refused", func(s cluster.FlowStatus) bool { return s.State == cluster.StateRejected })
		if text := fmt.Sprintf("%+v", status); !strings.Contains(text, k.refused) {
			t.Errorf("flow %s is refused, and does not say %q: %s", k.flow, k.refused, text)
		}
		if status.Active != active[k.flow] {
			t.Errorf("flow %s is refused and now runs revision %d, not %d", k.flow, status.Active, active[k.flow])
		}
	}
	step("refusals", func() {})
	calm()
	producing.Wait()
	for flow, p := range producers {
		wrong := 0
		for i, n := range g.counted(flow, p.rows) {
			if n == "1" {
				continue
			}
			if wrong++; wrong <= 3 {
				t.Errorf("flow %s: row %d was counted %q times", flow, i, n)
			}
		}
		t.Logf("flow %s: %d rows, %d of them not counted once", flow, p.rows, wrong)
	}
}

// isActive reports whether a flow is active.
func isActive(s cluster.FlowStatus) bool { return s.State == cluster.StateActive }

// producer submits rows to one flow on a stream.
type producer struct {
	t      *testing.T
	flow   string
	client *client.Client
	news   chan struct{} // capacity 1; holds a token when a batch was answered
	rows   int           // how many were submitted; only the goroutine of produce uses it until produce has ended
}

// row is a row of every flow; the flows have different shard keys.
type row struct {
	ID      string `json:"id"`
	Key     int    `json:"k"`
	One     int    `json:"one"`
	Student int    `json:"stu_id"`
	Colon   string `json:"ns:id"` // as ID
}

// produce submits batches until ctx is done, with at most four unanswered, and fails the test for each row that is not done.
func (p *producer) produce(ctx context.Context) {
	s, err := p.client.Stream(p.t.Context(), p.flow)
	if err != nil {
		p.t.Errorf("flow %s: %v", p.flow, err)
		return
	}
	defer s.Close()
	const size = 5
	load := testgrid.Load{
		Stream: s, Every: 20 * time.Millisecond, Open: 4, Options: []client.SubmitOption{client.ReportOnly()},
		Next: func(int) *client.Batch {
			rows := make([]row, size)
			for i := range rows {
				id := fmt.Sprintf("%s-%d", p.flow, p.rows)
				rows[i] = row{ID: id, Key: p.rows % 7, One: 1, Student: p.rows % 1000, Colon: id}
				p.rows++
			}
			return client.Rows(rows...)
		},
		Answered: func(n int, result *client.Result, err error) {
			if err != nil {
				p.t.Errorf("flow %s: %v", p.flow, err)
				return
			}
			for _, o := range result.NotDone {
				p.t.Errorf("flow %s: row %d: %+v", p.flow, size*n+int(o.Row), o)
			}
			select {
			case p.news <- struct{}{}:
			default:
			}
		},
	}
	if err := load.Run(p.t.Context(), ctx.Done()); err != nil {
		p.t.Errorf("flow %s: %v", p.flow, err)
	}
}

// awaitProgress waits for two answers. The first may have come before the call; the second has come after it.
func (p *producer) awaitProgress() {
	p.t.Helper()
	for range 2 {
		select {
		case <-p.news:
		case <-time.After(testprocess.Patience):
			p.t.Fatalf("flow %s: nothing was answered within %v", p.flow, testprocess.Patience)
		}
	}
}
