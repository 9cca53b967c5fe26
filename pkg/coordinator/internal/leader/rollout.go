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

// RolloutProgress is how far the workers are with a revision. Workers that are dead or draining are in no field. Workers that have not been
// reached for a lease do not count as live here, so they are not in Capable; they may still be in Missing or Unfit.
//
//	┌─────────┐  is sent the  ┌─────────┐  can compile it   ┌──────────┐
//	│ capable │ ────────────> │ lagging │ ────────────────> │ accepted │
//	└─────────┘  revision     └─────────┘                   └──────────┘
//	has the                        │      can't compile it  ┌───────────────────┐
//	functions                      └──────────────────────> │ rejected or unfit │
//	                                                        └───────────────────┘
type RolloutProgress struct {
	Capable  []string            // ids of the live workers that have the revision's functions, and are not unfit
	Accepted int                 // how many workers in Capable have accepted the revision
	Lagging  []string            // ids of the workers in Capable that have not answered
	Rejected map[string][]string // by id, the workers in Capable that can't compile the revision, and why
	Unfit    map[string][]string // by id, workers that have the functions in another build than the revision needs, and why they can't compile it
	Missing  map[string]int      // by name, the functions that workers lack, and how many workers lack each
}

// RolloutRequest asks for the rollout of one revision of a flow.
type RolloutRequest struct {
	Flow     string
	Revision *flowstate.Revision // nil ends the flow's rollout
}

// PendingReasons returns sentences for the operator: why no live worker can run a revision, and which workers to start.
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

// verdicts returns the workers in Lagging, Rejected and Unfit with their reasons, in the order of their ids.
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

// ReasonLines turns reasons, by worker id, into lines of text that name the workers. Workers with the same reason share a line.
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

// NameWorkers returns the subject of a sentence about workers: the first five ids, and how many more there are, such as "worker a, b".
func NameWorkers(workers []string) string {
	const most = 5
	if n := len(workers); n > most {
		return fmt.Sprintf("worker %s and %d more", strings.Join(workers[:most], ", "), n-most)
	}
	return "worker " + strings.Join(workers, ", ")
}

// Fleet is what the leader needs to know and ask of workers; the coordinator that leads implements it. Its methods may be called from any
// goroutine.
type Fleet interface {
	// RequestRollouts sends each requested revision to every worker that has its functions, and returns how far each rollout is, in the
	// order of the requests. It does not wait for the workers' answers: it is called again for the same revision. It returns false if the
	// coordinator is shutting down, or ctx is done.
	RequestRollouts(ctx context.Context, requests ...RolloutRequest) ([]RolloutProgress, bool)
	// FollowedState returns the statuses of flows and documents as the coordinator follows them in etcd; nil until it has them. It may be a
	// little older than what the leader has written.
	FollowedState() *cluster.State
}
