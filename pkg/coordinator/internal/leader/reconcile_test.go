package leader

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	wrong := &Candidate{number: 9, Reasons: []string{"flow F: line 3"}}
	enabled := &Candidate{number: 9, Revision: &flowstate.Revision{Number: 9, Enabled: true}}
	disabled := &Candidate{number: 9, Revision: &flowstate.Revision{Number: 9}}
	for name, c := range map[string]struct {
		candidate *Candidate
		rollout   RolloutProgress
		state     string
		active    int64
		applied   string
		says      string
	}{
		"wrong documents":      {wrong, RolloutProgress{}, cluster.StateRejected, 5, "0/0", "line 3"},
		"disabled":             {disabled, RolloutProgress{}, cluster.StateDisabled, 9, "0/0", ""},
		"no worker at all":     {enabled, RolloutProgress{}, cluster.StatePending, 5, "0/0", "no worker has registered"},
		"no capable worker":    {enabled, RolloutProgress{Missing: map[string]int{"echo": 2}}, cluster.StatePending, 5, "0/0", "function echo is missing on 2 live workers"},
		"all acknowledged":     {enabled, RolloutProgress{Capable: []string{"a", "b"}, Accepted: 2, Missing: map[string]int{"echo": 1}}, cluster.StateActive, 9, "2/2", ""},
		"one lags":             {enabled, RolloutProgress{Capable: []string{"a", "b"}, Accepted: 1, Lagging: []string{"b"}}, cluster.StateApplying, 5, "1/2", "worker b has not answered yet"},
		"one rejects":          {enabled, RolloutProgress{Capable: []string{"a", "b"}, Accepted: 1, Rejected: map[string][]string{"b": {"no such field"}}}, cluster.StateRejected, 5, "1/2", "worker b: no such field"},
		"one rejects, one lag": {enabled, RolloutProgress{Capable: []string{"a", "b"}, Lagging: []string{"a"}, Rejected: map[string][]string{"b": {"no"}}}, cluster.StateRejected, 5, "0/2", "worker b: no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := decide("F", c.candidate, c.rollout, batch.Revision{Number: 5})
			if s.Flow != "F" || s.Wanted != 9 || s.Active != c.active || s.State != c.state || fmt.Sprintf("%d/%d", s.Applied, s.Of) != c.applied {
				t.Errorf("decided %+v", s)
			}
			if reasons := strings.Join(s.Reasons, "\n"); !strings.Contains(reasons, c.says) || (c.says == "") != (reasons == "") {
				t.Errorf("reasons %q, want them to say %q", reasons, c.says)
			}
		})
	}
}

// TestUnfitBuilds decides where some workers have the functions, but in builds that don't fit: these hold up nothing, unless no
// other is there.
func TestUnfitBuilds(t *testing.T) {
	t.Parallel()
	c := &Candidate{number: 9, Revision: &flowstate.Revision{Number: 9, Enabled: true}}
	unfit := map[string][]string{"old": {"the field points is missing"}}
	for name, row := range map[string]struct {
		rollout RolloutProgress
		state   string
		says    string
	}{
		"others took it":   {RolloutProgress{Capable: []string{"new"}, Accepted: 1, Unfit: unfit}, cluster.StateActive, ""},
		"others lag":       {RolloutProgress{Capable: []string{"new"}, Lagging: []string{"new"}, Unfit: unfit}, cluster.StateApplying, "worker new has not answered yet"},
		"no other":         {RolloutProgress{Unfit: unfit}, cluster.StateRejected, "worker old: the field points is missing"},
		"others refuse it": {RolloutProgress{Capable: []string{"new"}, Rejected: map[string][]string{"new": {"no NAME"}}, Unfit: unfit}, cluster.StateRejected, "worker new: no NAME"},
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

func TestReasonLines(t *testing.T) {
	t.Parallel()
	said := map[string][]string{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		said[id] = []string{"same"}
	}
	said["b"] = append(said["b"], "own")
	want := []string{"worker a, b, c, d, e and 2 more: same", "worker b: own"}
	if got := ReasonLines(said); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
