package admin

import (
	"slices"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestPrune deletes the documents that are not given, unless a flow that stays needs them.
func TestPrune(t *testing.T) {
	t.Parallel()
	stored := []definition.Document{
		at(7, flowDocument("W", "", "echo")), at(5, flowDocument("X", "", "other")), at(3, funcDocument("echo")), at(4, funcDocument("other")),
	}
	before := leader.CompileDocuments(stored, nil, definition.MaxSteps)
	pruned := func(given ...definition.Document) (*comparison, error) {
		c := compare(stored, given, nil)
		gone := slices.DeleteFunc(slices.Clone(stored), func(d definition.Document) bool {
			return slices.ContainsFunc(given, func(g definition.Document) bool { return flowstate.KeyOf(g) == flowstate.KeyOf(d) })
		})
		c.remove(gone, before)
		c.after = leader.CompileDocuments(c.all, before, definition.MaxSteps)
		if err := c.check(new(flowstate.Snapshot).RunsDocument); err != nil {
			return &c, err
		}
		return &c, c.checkLosses(before)
	}
	c, err := pruned(flowDocument("W", "", "echo"), funcDocument("echo"))
	if err != nil {
		t.Fatal(err)
	}
	x, other := cluster.Key{Kind: definition.KindFlow, Name: "X"}, cluster.Key{Kind: definition.KindFunc, Name: "other"}
	if !slices.Equal(c.gone, []cluster.Key{x, other}) || c.expect[x] != 5 || c.expect[other] != 4 || !slices.Equal(c.lost, []string{"X"}) || len(c.all) != 2 || len(c.put) != 0 {
		t.Errorf("it deletes %v, expects %v, and concerns %v", c.gone, c.expect, c.lost)
	}
	var calls int
	err = c.write([][]definition.Document{nil}, func(expect map[cluster.Key]int64, put []definition.Document, gone []cluster.Key) (int64, error) {
		calls++
		if len(put) != 0 || len(gone) != 2 || expect[x] != 5 {
			t.Errorf("it writes %v and deletes %v, and expects %v", put, gone, expect)
		}
		return 9, nil
	})
	if err != nil || calls != 1 || c.revision != 9 {
		t.Errorf("%d writes, at revision %d: %v", calls, c.revision, err)
	}

	_, err = pruned(flowDocument("W", "", "echo")) // its function would go
	wantCode(t, err, batch.CodeBadDocument, "W")
}
