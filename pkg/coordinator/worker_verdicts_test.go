package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestUnfitBuilds decides where some workers have the functions, but in builds that don't fit: these hold up nothing, unless no
// other is there.
func TestUnfitBuilds(t *testing.T) {
	t.Parallel()
	c := &candidate{number: 9, revision: &revision{number: 9, enabled: true}}
	unfit := map[string][]string{"old": {"the field points is missing"}}
	for name, row := range map[string]struct {
		rollout rolloutProgress
		state   string
		says    string
	}{
		"others took it":   {rolloutProgress{capable: []string{"new"}, acks: 1, unfit: unfit}, cluster.StateActive, ""},
		"others lag":       {rolloutProgress{capable: []string{"new"}, lagging: []string{"new"}, unfit: unfit}, cluster.StateApplying, "worker new has not answered yet"},
		"no other":         {rolloutProgress{unfit: unfit}, cluster.StateRejected, "worker old: the field points is missing"},
		"others refuse it": {rolloutProgress{capable: []string{"new"}, rejected: map[string][]string{"new": {"no NAME"}}, unfit: unfit}, cluster.StateRejected, "worker new: no NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			s := decide("F", c, row.rollout, batch.Revision{Number: 5})
			if s.State != row.state || strings.Join(s.Reasons, "\n") != row.says {
				t.Errorf("decided %+v, want %s because of %q", s, row.state, row.says)
			}
			if !slices.ContainsFunc(s.Workers, func(v cluster.WorkerVerdict) bool { return v.ID == "old" && v.State == "unfit" }) {
				t.Errorf("the unfit worker is not told: %+v", s.Workers)
			}
		})
	}
}

func TestTold(t *testing.T) {
	t.Parallel()
	said := map[string][]string{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		said[id] = []string{"same"}
	}
	said["b"] = append(said["b"], "own")
	want := []string{"worker a, b, c, d, e and 2 more: same", "worker b: own"}
	if got := reasonLines(said); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestSessionOverWhenASwitchFollows ends a worker's session right after the last answer that a switch waited for: the
// scheduler hears of the switch all the same, or it would never run the flow.
func TestSessionOverWhenASwitchFollows(t *testing.T) {
	f := &fleet{loop: newSchedulerLoop(scheduler.Config{}), board: newSnapshotBoard(), log: hclog.NewNullLogger()}
	f.init()
	k := &workerPeer{worker: cluster.Worker{ID: "w"}, fleet: f, instructions: newQueue[instruction]()}
	k.connected.Store(true)
	m := &member{worker: k.worker, peer: k, definitions: byDefinition[definitionAnswer]{}}
	f.members["w"] = m
	for i := range 20 { // whether an event is dropped that is posted too late, is chance
		name := fmt.Sprintf("flow-%d", i)
		r := &revision{number: 1, enabled: true, message: &pb.Definition{Flow: name, Revision: 1}}
		f.flows[name] = &flowEntry{name: name}
		f.pending[name] = &pendingSwitch{revision: r, timer: time.NewTimer(time.Hour)}
		m.definitions.set(definitionKey{name, r.id()}, definitionAnswer{pending: true})
		session, end := context.WithCancel(context.Background())
		f.definitionAnswered(session, k, r.digest, &pb.Compiled{Flow: name, Revision: 1})
		end()
		(<-f.requests)()
		select {
		case o := <-f.loop.events:
			if e, ok := o.event.(scheduler.FlowSwitched); !ok || e.Flow != name || e.Revision != 1 || !slices.Equal(e.Ready, []string{"w"}) {
				t.Fatalf("the scheduler was told %v", o.event)
			}
		default:
			t.Fatalf("the scheduler was not told of the switch of %s, which new batches run on", name)
		}
	}
}
