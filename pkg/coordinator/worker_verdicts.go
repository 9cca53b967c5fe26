package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// verdicts are what workers that have the functions say, but for those that took the revision.
func (s rolloutProgress) verdicts() []cluster.WorkerVerdict {
	var all []cluster.WorkerVerdict
	for _, id := range s.lagging {
		all = append(all, cluster.WorkerVerdict{ID: id, State: "lagging"})
	}
	for state, workers := range map[string]map[string][]string{"rejected": s.rejected, "unfit": s.unfit} {
		for id, reasons := range workers {
			all = append(all, cluster.WorkerVerdict{ID: id, State: state, Reasons: reasons})
		}
	}
	slices.SortFunc(all, func(a, b cluster.WorkerVerdict) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// told are workers' reasons as lines; those who say the same share one.
func reasonLines(said map[string][]string) []string {
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
		lines[i] = nameWorkers(by[reason]) + ": " + reason
	}
	return lines
}

// some names workers, the first few of many.
func nameWorkers(workers []string) string {
	const most = 5
	if n := len(workers); n > most {
		return fmt.Sprintf("worker %s and %d more", strings.Join(workers[:most], ", "), n-most)
	}
	return "worker " + strings.Join(workers, ", ")
}

// pendingReasons are what a revision waits for that no live worker can run.
func pendingReasons(s rolloutProgress) []string {
	if len(s.missing) == 0 {
		return []string{"no worker has registered: start one that has the flow's functions"}
	}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(s.missing)) {
		reasons = append(reasons, fmt.Sprintf("function %s is missing on %d live workers: start workers that register it", name, s.missing[name]))
	}
	return reasons
}
