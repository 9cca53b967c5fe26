package leader

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

// rollout is how far the workers are with a revision.
type RolloutProgress struct {
	Capable  []string            // live workers that have its functions
	Accepted int                 // of them, those that took it
	Lagging  []string            // of them, those that have not answered
	Rejected map[string][]string // of them, those that refuse it, and why
	Unfit    map[string][]string // workers whose build has its functions, but others than it needs, and why
	Missing  map[string]int      // functions that workers lack, and how many lack them
}

// wish is what the leader wants of a flow.
type RolloutRequest struct {
	Flow     string
	Revision *flowstate.Revision // nil: nothing more
}

// pendingReasons are what a revision waits for that no live worker can run.
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

// verdicts are what workers that have the functions say, but for those that took the revision.
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

// told are workers' reasons as lines; those who say the same share one.
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

// some names workers, the first few of many.
func NameWorkers(workers []string) string {
	const most = 5
	if n := len(workers); n > most {
		return fmt.Sprintf("worker %s and %d more", strings.Join(workers[:most], ", "), n-most)
	}
	return "worker " + strings.Join(workers, ", ")
}
