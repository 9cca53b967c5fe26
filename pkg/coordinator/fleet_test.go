package coordinator

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestSessionOverWhenASwitchFollows ends a worker's session right after the last answer that a switch waited for: the
// scheduler hears of the switch all the same, or it would never run the flow.
func TestSessionOverWhenASwitchFollows(t *testing.T) {
	settings := &peerSettings{loop: newSchedulerLoop(scheduler.Config{}), board: flowstate.NewBoard(), log: hclog.NewNullLogger()}
	f := newFleet(settings, nil, hclog.NewNullLogger())
	k := &workerPeer{worker: cluster.Worker{ID: "w"}, owner: f, instructions: newQueue[instruction]()}
	k.connected.Store(true)
	m := &member{worker: k.worker, peer: k, definitions: byDefinition[definitionAnswer]{}}
	f.roster.members["w"] = m
	for i := range 20 { // whether an event is dropped that is posted too late, is chance
		name := fmt.Sprintf("flow-%d", i)
		r := &flowstate.Revision{Number: 1, Enabled: true, Message: &pb.Definition{Flow: name, Revision: 1}}
		f.flows.byName[name] = &flowstate.Flow{Name: name}
		f.flows.switching[name] = &pendingSwitch{revision: r, timer: time.NewTimer(time.Hour)}
		m.definitions.set(definitionKey{name, r.ID()}, definitionAnswer{pending: true})
		session, end := context.WithCancel(context.Background())
		f.definitionAnswered(session, k, r.Digest, &pb.Compiled{Flow: name, Revision: 1})
		end()
		(<-f.requests)()
		select {
		case o := <-settings.loop.events:
			if e, ok := o.event.(scheduler.FlowSwitched); !ok || e.Flow != name || e.Revision != 1 || !slices.Equal(e.Ready, []string{"w"}) {
				t.Fatalf("the scheduler was told %v", o.event)
			}
		default:
			t.Fatalf("the scheduler was not told of the switch of %s, which new batches run on", name)
		}
	}
}
