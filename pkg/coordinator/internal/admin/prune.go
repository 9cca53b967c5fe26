package admin

import (
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// prunable returns the stored documents that are not among the given ones and that the caller may delete, in the order of kind and name.
// before is what the stored documents ask for.
func prunable(who access.Caller, stored, given []definition.Document, before *leader.DesiredState) []definition.Document {
	keep := map[cluster.Key]bool{}
	for _, d := range given {
		keep[flowstate.KeyOf(d)] = true
	}
	var gone []definition.Document
	for _, d := range stored {
		switch {
		case keep[flowstate.KeyOf(d)] || !maySee(who, d, before):
		case d.Kind == definition.KindFlow && !who.May(access.Define, d.Name):
		case d.Kind != definition.KindFlow && lacksOn(who, d.Kind, before.FlowsOf(d)) != "":
		default:
			gone = append(gone, d)
		}
	}
	slices.SortFunc(gone, func(a, b definition.Document) int {
		return flowstate.CompareKeys(flowstate.KeyOf(a), flowstate.KeyOf(b))
	})
	return gone
}

// remove adds to the comparison that documents are deleted. before is what the stored documents ask for. Call it before after is set.
func (c *comparison) remove(gone []definition.Document, before *leader.DesiredState) {
	for _, d := range gone {
		key := flowstate.KeyOf(d)
		var text strings.Builder
		for _, change := range definition.Diff([]definition.Document{d}, nil) {
			text.WriteString(change.String())
		}
		c.changes = append(c.changes, &pb.Change{Kind: string(d.Kind), Name: d.Name, Action: "delete", Diff: text.String()})
		c.gone = append(c.gone, key)
		c.expect[key] = d.Revision
		c.all = slices.DeleteFunc(c.all, func(o definition.Document) bool { return flowstate.KeyOf(o) == key })
		if d.Kind == definition.KindFlow {
			c.lost = append(c.lost, d.Name)
		} else {
			c.lost = append(c.lost, before.FlowsOf(d)...)
		}
	}
	slices.Sort(c.lost)
	c.lost = slices.Compact(c.lost)
}

// checkLosses returns an error if a flow that is correct before the change would not be correct without the documents that are deleted.
func (c *comparison) checkLosses(before *leader.DesiredState) error {
	if len(c.gone) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.after.Flows)) {
		was := before.Flows[name]
		if now := c.after.Flows[name]; now.Revision == nil && was != nil && was.Revision != nil {
			return batch.Errorf(batch.CodeBadDocument, "nothing was written: flow %s stays, and needs documents that would be deleted: %s", name, strings.Join(now.Reasons, "; "))
		}
	}
	return nil
}
