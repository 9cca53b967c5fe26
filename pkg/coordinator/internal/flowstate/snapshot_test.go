package flowstate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

func TestActive(t *testing.T) {
	t.Parallel()
	c := &Snapshot{Flows: map[string]*Flow{
		"S": {Name: "S", Active: &Revision{Number: 5, Enabled: true, ShardKey: "id"}},
		"W": {Name: "W", Active: &Revision{Number: 6, Enabled: true}},
	}}
	c.Flows["disabled"] = &Flow{Active: &Revision{Number: 4}}
	c.Flows["rejected"] = &Flow{Status: cluster.FlowStatus{State: cluster.StateRejected, Reasons: []string{"line 3 is wrong"}}}
	c.Flows["pending"] = &Flow{Status: cluster.FlowStatus{State: cluster.StatePending, Reasons: []string{"function f is missing"}}}
	c.Flows["new"] = &Flow{}
	for _, want := range []struct {
		flow  string
		finds int64
		code  batch.Code
		says  string
	}{
		{"S", 5, 0, ""},
		{"disabled", 0, batch.CodeFlowDisabled, "status: 1"},
		{"rejected", 0, batch.CodeFlowUncompilable, "line 3"},
		{"pending", 0, batch.CodeNoCapableWorker, "function f"},
		{"new", 0, batch.CodeNoCapableWorker, "acknowledgement"},
		{"no", 0, batch.CodeUnknownFlow, "there are S, W, disabled, new, pending, rejected"},
	} {
		r, err := c.Active(want.flow, everyFlow)
		if want.code != 0 {
			wantCode(t, err, want.code, want.says)
			continue
		}
		if err != nil || r.Number != want.finds {
			t.Errorf("flow %s: got %v (%v)", want.flow, r, err)
		}
	}
	for i := range 20 {
		c.Flows[fmt.Sprintf("many-%02d", i)] = &Flow{}
	}
	_, err := c.Active("no", everyFlow)
	wantCode(t, err, batch.CodeUnknownFlow, "many-06 and 16 more")
	_, err = c.Active("no", func(flow string) bool { return flow == "W" })
	wantCode(t, err, batch.CodeUnknownFlow, "there are W")
	_, err = c.Active("no", nil)
	wantCode(t, err, batch.CodeUnknownFlow, `no flow "no": kisgrid get flows`)
}

func everyFlow(string) bool { return true }

func TestKeepRevisions(t *testing.T) {
	t.Parallel()
	e := &Flow{Active: &Revision{Number: 1}}
	numbers := func() (all []int64) {
		for _, r := range e.Revisions {
			all = append(all, r.Number)
		}
		return all
	}
	for n := range int64(20) {
		e.Keep(&Revision{Number: n + 1})
	}
	if got := numbers(); len(got) != MaxRevisions || got[0] != 1 || got[1] != 12 || got[len(got)-1] != 20 {
		t.Errorf("kept %v, want the active one and those that came last", got)
	}
	e.Keep(&Revision{Number: 5})
	if got := numbers(); len(got) != MaxRevisions || got[0] != 1 || got[len(got)-1] != 5 {
		t.Errorf("kept %v, want 5, which was asked for", got)
	}
	again := &Revision{Number: 5, Digest: batch.Digest{1}}
	e.Keep(again)
	if got := numbers(); len(got) != MaxRevisions || e.Revisions.Find(batch.Revision{Number: 5}) != again || e.Revisions.Find(batch.Revision{Number: 5, Digest: batch.Digest{2}}) != nil {
		t.Errorf("kept %v, want the last one with the number 5 only", got)
	}
}

func wantCode(t *testing.T, err error, code batch.Code, says string) {
	t.Helper()
	if err == nil || batch.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v that says %q", err, code, says)
	}
}
