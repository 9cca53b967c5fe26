package admin

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// comparison is the difference between documents that a caller has given and the documents in etcd, and the write that follows from it.
type comparison struct {
	given   []definition.Document
	changes []*pb.Change
	put     []definition.Document
	gone    []cluster.Key // documents that are deleted
	lost    []string      // names of the flows that needed a document in gone, or were one
	expect  map[cluster.Key]int64
	all     []definition.Document // all documents as they will be after the change
	after   *leader.DesiredState  // what the documents in all ask for; nil until it is set
	flows   []string              // names of the flows that need a changed document

	written  map[cluster.Key]int64 // the etcd revision at which each document was written, by kind and name
	revision int64                 // the etcd revision of the last write
}

// write writes documents, part after part, with the function put, and deletes those in gone with the last part. put gets the documents of
// one part and the etcd revisions that they must still have for anything to be written; it returns the etcd revision of the write. After a failure write stops, and the error says how
// many documents are written already.
func (c *comparison) write(parts [][]definition.Document, put func(expect map[cluster.Key]int64, put []definition.Document, gone []cluster.Key) (int64, error)) error {
	c.written = map[cluster.Key]int64{}
	for i, part := range parts {
		expect := make(map[cluster.Key]int64, len(part))
		for _, d := range part {
			expect[flowstate.KeyOf(d)] = c.expect[flowstate.KeyOf(d)]
		}
		var gone []cluster.Key
		if i == len(parts)-1 {
			gone = c.gone
		}
		for _, key := range gone {
			expect[key] = c.expect[key]
		}
		revision, err := put(expect, part, gone)
		if err != nil && len(c.written) > 0 {
			return batch.Errorf(batch.CodeOf(err), "%d of %d documents are written; apply the same again with --in-parts, and the others are: %w", len(c.written), len(c.put), err)
		}
		if err != nil {
			return err
		}
		for _, d := range part {
			c.written[flowstate.KeyOf(d)] = revision
		}
		c.revision = revision
	}
	return nil
}

// wanted returns the revision of a flow that its documents ask for once they are written.
func (c *comparison) wanted(flow string) batch.Revision {
	wanted := c.after.Flows[flow].ID()
	for _, d := range c.after.Flows[flow].Documents {
		wanted.Number = max(wanted.Number, c.written[flowstate.KeyOf(d)])
	}
	return wanted
}

// refusedDocuments returns the keys of given documents that are stored with the same text, but which the leader refuses, because no coordinator
// wrote them. They have to be written once more, so that the audit log knows them.
func (a *admin) refusedDocuments(ctx context.Context, stored, given []definition.Document) (map[cluster.Key]bool, error) {
	if !a.RefuseDirect {
		return nil, nil
	}
	texts := map[cluster.Key]string{}
	for _, d := range given {
		texts[flowstate.KeyOf(d)] = string(d.YAML)
	}
	at := map[int64][]cluster.Key{}
	now := a.Board.Load()
	for _, d := range stored {
		key := flowstate.KeyOf(d)
		if text, is := texts[key]; is && text == string(d.YAML) && !now.RunsDocument(d) {
			at[d.Revision] = append(at[d.Revision], key)
		}
	}
	authors, err := a.Store.Authors(ctx, slices.Collect(maps.Keys(at))...)
	if err != nil {
		return nil, err
	}
	refused := map[cluster.Key]bool{}
	for revision, keys := range at {
		if authors[revision] == cluster.UnknownAuthor {
			for _, key := range keys {
				refused[key] = true
			}
		}
	}
	return refused, nil
}

// compare compares given documents with the stored ones. Those in again count as changed, also if they are the same. The caller must set the
// field after of the result.
func compare(stored, given []definition.Document, again map[cluster.Key]bool) comparison {
	c := comparison{given: given, expect: map[cluster.Key]int64{}}
	old := map[cluster.Key]definition.Document{}
	for _, d := range stored {
		old[cluster.Key{Kind: d.Kind, Name: d.Name}] = d
	}
	all := maps.Clone(old)
	for _, d := range given {
		key := cluster.Key{Kind: d.Kind, Name: d.Name}
		before, there := old[key]
		change := &pb.Change{Kind: string(d.Kind), Name: d.Name, Action: "create"}
		switch {
		case there && string(before.YAML) == string(d.YAML) && !again[key]:
			change.Action = "unchanged"
		default:
			if there {
				change.Action = "update"
			}
			change.Diff = diffOf(before, there, d)
			c.put = append(c.put, d)
			c.expect[key] = before.Revision
			all[key] = d
		}
		c.changes = append(c.changes, change)
	}
	for _, d := range all {
		c.all = append(c.all, d)
	}
	slices.SortFunc(c.all, func(a, b definition.Document) int {
		return strings.Compare(string(a.Kind)+a.Name, string(b.Kind)+b.Name)
	})
	return c
}

// diffOf returns the text in which the command line shows how a document changes. there says whether it was stored before; if not, before
// is ignored.
func diffOf(before definition.Document, there bool, after definition.Document) string {
	var old []definition.Document
	if there {
		old = append(old, before)
	}
	var text strings.Builder
	for _, change := range definition.Diff(old, []definition.Document{after}) {
		text.WriteString(change.String())
	}
	return text.String()
}

// check sets c.flows to the flows that need a changed document. It returns an error if one of them, or a changed document itself, would be
// wrong after the change; flows that need no changed document may be wrong. accepted reports whether a document was accepted earlier; such
// a document may break rules of intake.
func (c *comparison) check(accepted func(definition.Document) bool) error {
	changed := map[cluster.Key]bool{}
	for _, d := range c.put {
		changed[cluster.Key{Kind: d.Kind, Name: d.Name}] = true
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(c.after.Flows)) {
		w := c.after.Flows[name]
		if !slices.ContainsFunc(w.Documents, func(d definition.Document) bool { return changed[cluster.Key{Kind: d.Kind, Name: d.Name}] }) {
			continue
		}
		c.flows = append(c.flows, name)
		wrong = append(wrong, w.Reasons...)
	}
	for _, d := range c.put {
		if d.Kind != definition.KindFlow {
			wrong = append(wrong, c.after.OwnMistakes(d)...)
		}
		if intake := c.after.IntakeMistakes(d); len(intake) > 0 && !accepted(d) {
			wrong = append(wrong, intake...)
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return batch.Errorf(batch.CodeBadDocument, "nothing was written:\n%s", strings.Join(slices.Compact(wrong), "\n"))
	}
	return nil
}

// changed reports whether a given document differs from the stored one.
func (c *comparison) changed(d definition.Document) bool {
	return slices.ContainsFunc(c.put, func(o definition.Document) bool { return flowstate.KeyOf(o) == flowstate.KeyOf(d) })
}

// concerned returns the names of the flows that need one of the given documents, changed or not.
func (c *comparison) concerned() []string {
	given := map[cluster.Key]bool{}
	for _, d := range c.given {
		given[flowstate.KeyOf(d)] = true
	}
	var flows []string
	for _, name := range slices.Sorted(maps.Keys(c.after.Flows)) {
		if slices.ContainsFunc(c.after.Flows[name].Documents, func(d definition.Document) bool { return given[flowstate.KeyOf(d)] }) {
			flows = append(flows, name)
		}
	}
	return flows
}
