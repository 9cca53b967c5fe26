package coordinator

import (
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestTooManySteps has flows with more steps than they may: one that is new is refused by apply and by the leader; one that was
// accepted when it might have as many goes on, also with a function that changes, until its own document does.
func TestTooManySteps(t *testing.T) {
	t.Parallel()
	steps := func(name string, more int) definition.Document {
		return flowDocument(name, "id", "echo"+strings.Repeat("\n  - fname: echo", more))
	}
	first := newRig(t, func(c *Config) { c.MaxSteps = 3 })
	wantCode(t, first.apply(false, steps("F", 3), funcDocument("echo")).ends(), batch.CodeBadDocument, "has 4 steps, over the limit of 3")
	own, err := cluster.Open(cluster.Config{Endpoints: []string{first.etcd}, Prefix: first.prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	w := first.newWorker("w", "echo")
	w.store = own // the worker outlives the first coordinator
	w.register().session().welcome(false, 0)
	accepted := first.activate(steps("F", 2), funcDocument("echo"))
	first.put(steps("New", 3))
	first.awaitSnapshot("the new one is refused", func(c *flowstate.Snapshot) bool {
		e := c.Flows["New"]
		return e != nil && e.Status.State == cluster.StateRejected && strings.Contains(strings.Join(e.Status.Reasons, "\n"), "--max-steps")
	})
	second := &rig{t: t, prefix: first.prefix, etcd: first.etcd}
	second.start(func(c *Config) { c.MaxSteps = 2 })
	second.awaitReady()
	w.session().welcome(false, 0)
	second.awaitActive("F", accepted)
	first.end()
	until(t, "the second one leads", second.c.leading.Load)
	mended := funcDocument("echo")
	mended.YAML = append(mended.YAML, "timeout: 1s\n"...)
	if next := second.activate(steps("F", 2), mended); next <= accepted {
		t.Errorf("revision %d follows %d", next, accepted)
	}
	active := second.awaitSnapshot("it runs", func(c *flowstate.Snapshot) bool { return c.Flows["F"].TakesBatches() }).Flows["F"].Active.Number
	second.put(flowDocument("F", "id", "echo"+strings.Repeat("\n  - fname: echo", 2), "copies: 2"))
	e := second.awaitSnapshot("its own change is refused", func(c *flowstate.Snapshot) bool { return c.Flows["F"].Status.State == cluster.StateRejected }).Flows["F"]
	if e.Active.Number != active || !strings.Contains(strings.Join(e.Status.Reasons, "\n"), "has 3 steps, over the limit of 2") {
		t.Errorf("status is %+v", e.Status)
	}
}
