package coordinator

import (
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// TestUnfitBuilds decides where some workers have the functions, but in builds that don't fit: these hold up nothing, unless no
// other is there.
func TestUnfitBuilds(t *testing.T) {
	t.Parallel()
	c := &candidate{number: 9, revision: &revision{number: 9, enabled: true}}
	unfit := map[string][]string{"old": {"the field points is missing"}}
	for name, row := range map[string]struct {
		rollout rollout
		state   string
		says    string
	}{
		"others took it":   {rollout{capable: []string{"new"}, acks: 1, unfit: unfit}, cluster.StateActive, ""},
		"others lag":       {rollout{capable: []string{"new"}, lagging: []string{"new"}, unfit: unfit}, cluster.StateApplying, "worker new has not answered yet"},
		"no other":         {rollout{unfit: unfit}, cluster.StateRejected, "worker old: the field points is missing"},
		"others refuse it": {rollout{capable: []string{"new"}, rejected: map[string][]string{"new": {"no NAME"}}, unfit: unfit}, cluster.StateRejected, "worker new: no NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			s := decide("F", c, row.rollout, 5)
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
	if got := told(said); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
