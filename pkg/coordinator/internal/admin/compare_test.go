package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestCompare looks at what a write expects: exactly what the diff was made against.
func TestCompare(t *testing.T) {
	t.Parallel()
	stored := []definition.Document{at(7, flowDocument("W", "", "echo")), at(3, funcDocument("echo"))}
	c := compare(stored, []definition.Document{flowDocument("W", "", "echo", "copies: 2"), funcDocument("echo"), flowDocument("X", "", "echo")}, nil)
	c.after = leader.CompileDocuments(c.all, nil, definition.MaxSteps)
	if err := c.check(new(flowstate.Snapshot).RunsDocument); err != nil {
		t.Fatal(err)
	}
	if got := c.expect[cluster.Key{Kind: definition.KindFlow, Name: "W"}]; got != 7 || len(c.expect) != 2 {
		t.Errorf("it expects %v", c.expect)
	}
	if !slices.Equal(c.flows, []string{"W", "X"}) || len(c.put) != 2 || len(c.all) != 3 {
		t.Errorf("it writes %v, of %v, and concerns %v", c.put, c.all, c.flows)
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	store := openStore(t, 0)
	if _, err := putAll(t, store, flowDocument("W", "", "echo"), funcDocument("echo")); err != nil {
		t.Fatal(err)
	}
	_, stored, err := store.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mine := compare(stored, []definition.Document{flowDocument("W", "", "echo", "copies: 2")}, nil)
	if _, err := putAll(t, store, flowDocument("W", "", "echo", "copies: 3")); err != nil { // somebody else
		t.Fatal(err)
	}
	_, err = store.PutDocuments(t.Context(), mine.expect, mine.put, nil)
	wantCode(t, err, batch.CodeConflict, "flow/W")
}

// TestWriteInParts cuts a change off before and after each of its parts. Whatever stands then, the same change writes what is missing
// and nothing else, and no document ever stands without those that it names.
func TestWriteInParts(t *testing.T) {
	t.Parallel()
	docs := manyDocuments(7)
	store := openStore(t, 4)
	parts := len(store.Parts(docs))
	if parts != 6 {
		t.Fatalf("21 documents of at most 4 at once make %d parts, want 6", parts)
	}
	for cutAt := range parts {
		for _, answered := range []bool{false, true} { // the transaction that is cut off was made, or not
			var stored []definition.Document
			now := int64(0)
			budget := cutAt
			put := func(expect map[cluster.Key]int64, part []definition.Document) (int64, error) {
				if budget == 0 && !answered {
					return 0, batch.Errorf(batch.CodeUnavailable, "etcd is away")
				}
				now++
				for _, d := range part {
					if expect[flowstate.KeyOf(d)] != 0 {
						t.Errorf("%s is expected at %d", flowstate.KeyOf(d), expect[flowstate.KeyOf(d)])
					}
					d.Revision = now
					stored = append(stored, d)
				}
				if budget == 0 {
					return 0, batch.Errorf(batch.CodeUnavailable, "etcd is away")
				}
				budget--
				return now, nil
			}
			write := func() (comparison, error) {
				c := compare(stored, docs, nil)
				c.after = leader.CompileDocuments(c.all, nil, definition.MaxSteps)
				if err := c.check(new(flowstate.Snapshot).RunsDocument); err != nil {
					t.Fatal(err)
				}
				return c, c.write(store.Parts(c.put), func(expect map[cluster.Key]int64, part []definition.Document, _ []cluster.Key) (int64, error) {
					return put(expect, part)
				})
			}
			c, err := write()
			if batch.CodeOf(err) != batch.CodeUnavailable || (cutAt > 0) != strings.Contains(err.Error(), fmt.Sprintf("%d of 21 documents are written", len(c.written))) {
				t.Errorf("cut off at part %d: %v", cutAt, err)
			}
			for name, w := range leader.CompileDocuments(stored, nil, definition.MaxSteps).Flows {
				if w.Revision == nil {
					t.Errorf("cut off at part %d flow %s stands without what it needs: %q", cutAt, name, w.Reasons)
				}
			}
			before := len(stored)
			budget = parts
			c, err = write()
			if err != nil || before+len(c.written) != len(docs) || len(stored) != len(docs) {
				t.Errorf("after it was cut off at part %d: %v, %d documents were there and %d are written", cutAt, err, before, len(c.written))
			}
			for name, w := range leader.CompileDocuments(stored, nil, definition.MaxSteps).Flows {
				if got := c.wanted(name); got != w.ID() {
					t.Errorf("flow %s asks for %v, and is waited for at %v", name, w.ID(), got)
				}
			}
		}
	}
	_, err := store.PutDocuments(t.Context(), nil, docs, nil)
	wantCode(t, err, batch.CodeBadDocument, "21 keys at once, etcd takes 4")
}

// TestWhatRunsIsTakenIn writes a document again that a flow runs with, as undo does: rules of intake that are younger are not asked of
// it, and are asked of any other.
func TestWhatRunsIsTakenIn(t *testing.T) {
	t.Parallel()
	old := flowDocument("F", "", "echo", "copies: 010")
	stored := []definition.Document{at(7, flowDocument("F", "", "echo", "copies: 9")), at(3, funcDocument("echo"))}
	running := leader.CompileDocuments([]definition.Document{at(5, old), at(3, funcDocument("echo"))}, nil, definition.MaxSteps).Flows["F"].Revision
	runs := &flowstate.Snapshot{Flows: map[string]*flowstate.Flow{"F": {Name: "F", Active: running}}}
	check := func(given definition.Document, now *flowstate.Snapshot) error {
		c := compare(stored, []definition.Document{given}, nil)
		c.after = leader.CompileDocuments(c.all, nil, definition.MaxSteps)
		return c.check(now.RunsDocument)
	}
	if err := check(old, runs); err != nil {
		t.Errorf("what runs is refused: %v", err)
	}
	wantCode(t, check(old, new(flowstate.Snapshot)), batch.CodeBadDocument, "copies")
	wantCode(t, check(flowDocument("F", "", "echo", "copies: 011"), runs), batch.CodeBadDocument, "copies")
}

// TestPartChangedMeanwhile finds a document changed by somebody else between two parts.
func TestPartChangedMeanwhile(t *testing.T) {
	t.Parallel()
	store := openStore(t, 0)
	docs := manyDocuments(60)
	if _, err := putAll(t, store, docs...); err != nil {
		t.Fatal(err)
	}
	_, stored, err := store.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changed := make([]definition.Document, len(docs))
	for i, d := range docs {
		changed[i] = d
		changed[i].YAML = append(append([]byte(nil), d.YAML...), "# changed\n"...)
	}
	c := compare(stored, changed, nil)
	c.after = leader.CompileDocuments(c.all, nil, definition.MaxSteps)
	first := true
	err = c.write(store.Parts(c.put), func(expect map[cluster.Key]int64, put []definition.Document, _ []cluster.Key) (int64, error) {
		revision, err := store.PutDocuments(t.Context(), expect, put, nil)
		if first {
			first = false
			other := docs[59*3]
			other.YAML = append(append([]byte(nil), other.YAML...), "# somebody else\n"...)
			if _, err := putAll(t, store, other); err != nil {
				t.Error(err)
			}
		}
		return revision, err
	})
	if wanted := new(batch.Error); !errors.As(err, &wanted) {
		t.Fatalf("it is written over somebody else's change: %v", err)
	}
	wantCode(t, err, batch.CodeConflict, "flow/F59 is at revision")
	wantCode(t, err, batch.CodeConflict, "of 180 documents are written")
}

// flowDocument is a flow of one function.
func flowDocument(name, shardKey, function string, more ...string) definition.Document {
	text := fmt.Sprintf("kistype: flow\nflow_name: %s\n", name)
	if !slices.Contains(more, "status: 0") {
		text += "status: 1\n"
	}
	if shardKey != "" {
		text += "shard_key: " + shardKey + "\n"
	}
	for _, line := range more {
		text += line + "\n"
	}
	return definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte(text + "flows:\n  - fname: " + function + "\n")}
}

func funcDocument(name string) definition.Document {
	return definition.Document{Kind: definition.KindFunc, Name: name, YAML: fmt.Appendf(nil, "kistype: func\nfname: %s\nfmode: Calculate\nsource:\n  name: rows\n", name)}
}

func wantCode(t *testing.T, err error, code batch.Code, says string) {
	t.Helper()
	err = wire.FromStatus(err)
	if err == nil || batch.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v that says %q", err, code, says)
	}
}

// xat is the document as it stands at a revision.
func at(revision int64, d definition.Document) definition.Document {
	d.Revision = revision
	return d
}

// manyDocuments are n flows, each with a function and a connector of its own, in no good order.
func manyDocuments(n int) (docs []definition.Document) {
	for i := range n {
		docs = append(docs, flowDocument(fmt.Sprintf("F%d", i), "id", fmt.Sprintf("save%d", i)),
			definition.Document{Kind: definition.KindFunc, Name: fmt.Sprintf("save%d", i), YAML: fmt.Appendf(nil,
				"kistype: func\nfname: save%d\nfmode: Save\noption:\n  cname: shelf%d\n  save:\n    key: a\n    set:\n      x: x\n", i, i)},
			definition.Document{Kind: definition.KindConn, Name: fmt.Sprintf("shelf%d", i), YAML: fmt.Appendf(nil, "kistype: conn\ncname: shelf%d\ntype: memory\nkey: k\n", i)})
	}
	return docs
}

// SharedEtcd is where the package's etcd listens; TestMain starts it.
var SharedEtcd string

// openStore opens a part of the shared etcd that is the test's own, with at most so many operations in one transaction; 0 means the default.
func openStore(t *testing.T, operations int) *cluster.Store {
	t.Helper()
	store, err := cluster.Open(cluster.Config{Endpoints: []string{SharedEtcd}, Prefix: "/" + t.Name() + "/", MaxOperations: operations})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// putAll writes documents, whatever stands there.
func putAll(t *testing.T, store *cluster.Store, docs ...definition.Document) (revision int64, err error) {
	t.Helper()
	for _, part := range store.Parts(docs) {
		if revision, err = store.PutDocuments(t.Context(), nil, part, nil); err != nil {
			return 0, err
		}
	}
	return revision, nil
}
