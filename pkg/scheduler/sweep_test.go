package scheduler

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestEndedBatchesLeaveTheQueues cancels a batch behind one that waits for credit, and lets the deadline of another pass: the
// next tick forgets both, and only them.
func TestEndedBatchesLeaveTheQueues(t *testing.T) {
	for name, keys := range map[string][]uint64{"sharded": {7}, "whole": nil} {
		t.Run(name, func(t *testing.T) {
			s, now := New(Config{}), time.Unix(0, 0)
			step := func(e Event) []Action { return s.Step(e, now) }
			step(WorkerConnected{Worker: "w-1", Name: "w"})
			step(FlowSwitched{Flow: "f", Revision: 1, Ready: []string{"w-1"}})
			newBatch := func() *Batch {
				return &Batch{Flow: "f", Revision: 1, Keys: keys, Ends: []uint32{10}}
			}
			live, cancelled, late := newBatch(), newBatch(), newBatch()
			late.Deadline = now.Add(time.Second)
			for _, b := range []*Batch{live, cancelled, late} {
				step(Submitted{Batch: b})
			}
			step(Cancelled{Batch: cancelled})
			now = now.Add(2 * time.Second)
			step(Tick{})

			f := s.byName["f"]
			q := &f.workerFlows[0].queue
			if keys == nil {
				q = &f.wholeLines[0].submitted
			}
			var queued []*Batch
			q.each(func(g *segment) { queued = append(queued, g.batch) })
			if len(queued) != 1 || queued[0] != live {
				t.Errorf("%d batches are queued, want the live one only", len(queued))
			}
			actions := step(Credited{Worker: "w-1", Flow: "f", Rows: 10, Bytes: 1000})
			if len(actions) != 1 || actions[0].(Send).Part.Batch != live {
				t.Errorf("with credit, the actions are %+v, want the live batch's part", actions)
			}
			if l := f.ledger; l.InFlight() != 1 || l.Outcomes[batch.Failed] != 2 {
				t.Errorf("the ledger is %+v", l)
			}
		})
	}
}
