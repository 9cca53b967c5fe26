package leader

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

// RolloutProgress is how far the workers are with a revision. Workers that are dead, draining or unreachable for a lease are in no field.
//
//	┌─────────┐  is sent the  ┌─────────┐  can compile it   ┌──────────┐
//	│ capable │ ────────────> │ lagging │ ────────────────> │ accepted │
//	└─────────┘  revision     └─────────┘                   └──────────┘
//	has the                        │      can't compile it  ┌───────────────────┐
//	functions                      └──────────────────────> │ rejected or unfit │
//	                                                        └───────────────────┘
type RolloutProgress struct {
	Capable  []string            // live workers that have the revision's functions, and are not unfit
	Accepted int                 // how many of them have accepted the revision
	Lagging  []string            // those of them that have not answered
	Rejected map[string][]string // those of them that can't compile the revision, and why
	Unfit    map[string][]string // workers that have the functions in another build than the revision needs, and why they can't compile it
	Missing  map[string]int      // functions that live workers lack, and how many workers lack each
}

// RolloutRequest asks for the rollout of one revision of a flow.
type RolloutRequest struct {
	Flow     string
	Revision *flowstate.Revision // nil ends the flow's rollout
}

// PendingReasons says which workers a revision waits for that no live worker can run.
func PendingReasons(s RolloutProgress) []string {
	if len(s.Missing) == 0 {
		return []string{"no worker has registered: start one that has the flow's functions"}
	}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(s.Missing)) {
		reasons = append(reasons, fmt.Sprintf("function %s is missing on %d live workers: start workers that register it", name, s.Missing[name]))
	}
	return reasons
}

// verdicts lists the workers that have not accepted the revision, with their reasons, by id.
func (s RolloutProgress) verdicts() []cluster.WorkerVerdict {
	var all []cluster.WorkerVerdict
	for _, id := range s.Lagging {
		all = append(all, cluster.WorkerVerdict{ID: id, State: "lagging"})
	}
	for state, workers := range map[string]map[string][]string{"rejected": s.Rejected, "unfit": s.Unfit} {
		for id, reasons := range workers {
			all = append(all, cluster.WorkerVerdict{ID: id, State: state, Reasons: reasons})
		}
	}
	slices.SortFunc(all, func(a, b cluster.WorkerVerdict) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// ReasonLines turns workers' reasons into lines. Workers with the same reason share a line.
func ReasonLines(said map[string][]string) []string {
	by := map[string][]string{}
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(said)) {
		for _, reason := range said[id] {
			if by[reason] == nil {
				lines = append(lines, reason)
			}
			by[reason] = append(by[reason], id)
		}
	}
	for i, reason := range lines {
		lines[i] = NameWorkers(by[reason]) + ": " + reason
	}
	return lines
}

// NameWorkers names workers in a sentence: the first few, and how many more there are.
func NameWorkers(workers []string) string {
	const most = 5
	if n := len(workers); n > most {
		return fmt.Sprintf("worker %s and %d more", strings.Join(workers[:most], ", "), n-most)
	}
	return "worker " + strings.Join(workers, ", ")
}

// Fleet is the workers of the coordinator that leads. Its methods may be called from any goroutine.
type Fleet interface {
	// RequestRollouts asks every worker that has the functions to compile revisions, and returns how far each rollout is, in the order of
	// the requests. It may be called again for the same revision. It returns false when the coordinator is shutting down, or ctx is done.
	RequestRollouts(ctx context.Context, requests ...RolloutRequest) ([]RolloutProgress, bool)
	// FollowedState is the flows' statuses as the coordinator follows them in etcd; nil until they are listed.
	FollowedState() *cluster.State
}
