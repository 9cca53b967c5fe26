package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// editServer is a coordinator with one flow document. It refuses a document that has the word bad, and one that was edited at another revision.
type editServer struct {
	pb.UnimplementedAdminServer
	document string
	revision int64
	atLast   func() // is called when a call of Apply begins
	applied  []string
}

func (s *editServer) Get(_ context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	return &pb.GetResponse{Resources: []*pb.Resource{{Kind: "flow", Name: in.GetName(), Status: []byte("{}"), Document: &pb.Document{Kind: "flow", Name: in.GetName(), Yaml: []byte(s.document), Revision: s.revision}}}}, nil
}

func (s *editServer) Apply(in *pb.ApplyRequest, out grpc.ServerStreamingServer[pb.ApplyEvent]) error {
	text := string(in.GetDocuments()[0].GetYaml())
	if strings.Contains(text, "bad") {
		return wire.Status(batch.Errorf(batch.CodeBadDocument, "nothing was written:\nbad is no copies"))
	}
	if s.atLast != nil {
		s.atLast()
	}
	if !in.GetCompareRevisions() || in.GetDocuments()[0].GetRevision() != s.revision {
		return wire.Status(batch.Errorf(batch.CodeConflict, "somebody else has changed it at the last moment"))
	}
	s.applied = append(s.applied, text)
	return out.Send(&pb.ApplyEvent{Kind: &pb.ApplyEvent_Diff{Diff: &pb.Diff{Changes: []*pb.Change{{Kind: "flow", Name: "F", Action: "update"}}, Revision: 5}}})
}

const editedFlow = "kistype: flow\nstatus: 1\nflow_name: F\nflows:\n  - fname: echo\n"

// TestEdit edits a document with mistakes, without mistakes, and without a change.
func TestEdit(t *testing.T) {
	for name, c := range map[string]struct {
		saves   []string // the text that the user saves, edit by edit
		others  string   // the document that somebody else has written meanwhile
		again   bool     // somebody else has written the same document meanwhile
		atLast  bool     // somebody else writes the document after edit has looked for changes
		applied int
		says    string // in the output or the error
		shows   string // in the file that the second edit opens
		fails   bool
	}{
		"nothing":       {saves: []string{editedFlow}, says: "nothing is changed"},
		"empty":         {saves: []string{"\n"}, says: "the document is empty"},
		"good":          {saves: []string{editedFlow + "copies: 2\n"}, applied: 1, says: "1 documents written at revision 5"},
		"mistake first": {saves: []string{editedFlow + "timeout: bad\n", editedFlow + "copies: 3\n"}, applied: 1, says: "written", shows: "#| "},
		"refused first": {saves: []string{editedFlow + "# bad\n", editedFlow + "copies: 3\n"}, applied: 1, says: "written", shows: "#| bad is no copies"},
		"given up":      {saves: []string{editedFlow + "# bad\n", editedFlow + "# bad\n"}, says: "given up", fails: true},
		"renamed":       {saves: []string{strings.Replace(editedFlow, "F", "G", 1), editedFlow}, says: "nothing is changed", shows: "edit keeps the kind and the name"},
		"two":           {saves: []string{editedFlow + "---\n" + editedFlow, editedFlow}, says: "nothing is changed", shows: "2 documents"},
		"changed":       {saves: []string{editedFlow + "copies: 2\n"}, others: editedFlow + "copies: 9\n", says: "somebody else has changed", fails: true},
		"changed back":  {saves: []string{editedFlow + "copies: 2\n"}, again: true, says: "somebody else has changed", fails: true},
		"changed last":  {saves: []string{editedFlow + "copies: 2\n"}, atLast: true, says: "at the last moment; the text is in", fails: true},
	} {
		s := &editServer{document: editedFlow, revision: 4}
		if c.atLast {
			s.atLast = func() { s.revision++ }
		}
		address := serveAdmin(t, s)
		var out bytes.Buffer
		edits := 0
		at := &server{}
		cmd := root()
		cmd.SetOut(&out)
		at.bind(cmd)
		at.address = address
		err := at.admin(func(a pb.AdminClient) error {
			e := editing{kind: definition.KindFlow, name: "F", admin: a, opts: applyOptions{timeout: time.Minute}, out: &out, log: &out, open: func(_ context.Context, path string) error {
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				if !strings.HasPrefix(string(text), editMark) || edits == 1 && !strings.Contains(string(text), c.shows) {
					t.Errorf("%s: edit %d opens\n%s", name, edits, text)
				}
				if c.others != "" {
					s.document = c.others
				}
				if c.again {
					s.revision++
				}
				edits++
				return os.WriteFile(path, []byte(editMark+"a mark that stays\n"+c.saves[edits-1]), 0o600)
			}}
			return e.run(t.Context())
		})
		said := out.String()
		if err != nil {
			said += err.Error()
			if _, path, ok := strings.Cut(err.Error(), "the text is in "); ok {
				path, _, _ = strings.Cut(path, " ")
				path, _, _ = strings.Cut(path, ":")
				if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "echo") {
					t.Errorf("%s: the text is not kept: %v", name, err)
				}
				_ = os.RemoveAll(filepath.Dir(path))
			}
		}
		if (err != nil) != c.fails || !strings.Contains(said, c.says) || edits != len(c.saves) || len(s.applied) != c.applied {
			t.Errorf("%s: %d edits, applied %q, said %s: %v", name, edits, s.applied, said, err)
		}
		if slices.ContainsFunc(s.applied, func(text string) bool { return strings.Contains(text, "#|") }) {
			t.Errorf("%s: the marks are applied: %q", name, s.applied)
		}
	}
}

// TestUnwrapped takes documents out of the output of get.
func TestUnwrapped(t *testing.T) {
	r := &pb.Resource{Kind: "flow", Name: "F", Status: []byte(`{"state":"active"}`), Document: &pb.Document{Kind: "flow", Name: "F", Yaml: []byte(editedFlow)}}
	all, err := views(&pb.GetResponse{Resources: []*pb.Resource{r, r}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value any
		want  int
	}{"one": {all[0], 1}, "several": {all, 2}} {
		for _, format := range []string{"yaml", "json"} {
			var text bytes.Buffer
			if err := (&output{format: format}).print(&text, &list{value: c.value}); err != nil {
				t.Fatal(err)
			}
			docs := unwrapped(definition.Split("standard input", text.Bytes()))
			if len(docs) != c.want || string(docs[0].YAML) != editedFlow {
				t.Errorf("%s as %s gives %d documents: %s", name, format, len(docs), docs[0].YAML)
			}
		}
	}
	if docs := unwrapped(definition.Split("f", []byte(editedFlow+"---\nnot: [yaml\n"))); len(docs) != 2 || string(docs[0].YAML) != editedFlow {
		t.Errorf("documents are changed: %q", docs)
	}
}

// TestExportFolder exports into one folder again and again.
func TestExportFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	long := strings.Repeat("x", 253)
	doc := func(name string) definition.Document {
		return definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte("kistype: flow\nstatus: 1\nflow_name: " + name + "\nflows:\n  - fname: echo\n")}
	}
	export := func(docs ...definition.Document) (gone []string, err error) {
		f := exportFolder{dir: dir}
		if err := f.look(docs); err != nil {
			return nil, err
		}
		return f.gone, f.write(docs)
	}
	has := func() (names []string) {
		docs, err := definition.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			p, err := definition.Parse(d)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, p.Document().Name)
		}
		slices.Sort(names)
		return names
	}
	if _, err := export(doc("A"), doc("B"), doc(long), doc(long[1:]+"y"), doc("A_test")); err != nil {
		t.Fatal(err)
	}
	if got := has(); !slices.Equal(got, []string{"A", "A_test", "B", long, long[1:] + "y"}) {
		t.Errorf("the folder has %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone, err := export(doc("A"), doc("C"))
	if err != nil || len(gone) != 4 {
		t.Errorf("%q are removed: %v", gone, err)
	}
	if got := has(); !slices.Equal(got, []string{"A", "C"}) {
		t.Errorf("the folder has %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
		t.Error(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "own.yml"), []byte(editedFlow), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := export(doc("A")); batch.CodeOf(err) != batch.CodeConflict || !strings.Contains(err.Error(), "own.yml") {
		t.Errorf("a folder with documents of others ends with %v", err)
	}
	if got := has(); !slices.Equal(got, []string{"A", "C", "F"}) {
		t.Errorf("the folder has %q after a refused export", got)
	}
}

// TestDeadFilterMessage converts flags into filters. A filter that builds without it would not understand has a mark that they refuse.
func TestDeadFilterMessage(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	for _, c := range []struct {
		filter deadFilter
		ids    []string
		want   *pb.DeadFilter
	}{
		{deadFilter{flow: "F", since: "1h"}, []string{"aa"}, &pb.DeadFilter{Flow: "F", Ids: []string{"aa"}, SinceUnixMilliseconds: 996_400_000}},
		{deadFilter{until: "1h"}, []string{"aa"}, &pb.DeadFilter{Ids: []string{"*", "aa"}, UntilUnixMilliseconds: 996_400_000}},
		{deadFilter{key: "101"}, nil, &pb.DeadFilter{Ids: []string{"*"}, Key: "101"}},
		{deadFilter{key: "a b"}, nil, &pb.DeadFilter{Ids: []string{"*"}, Key: `"a b"`}},
		{deadFilter{fields: []string{"a.b=c=d"}}, nil, &pb.DeadFilter{Ids: []string{"*"}, Fields: []*pb.FieldValue{{Field: "a.b", Value: "c=d"}}}},
		{deadFilter{text: "x"}, nil, &pb.DeadFilter{Ids: []string{"*"}, Text: "x"}},
		{deadFilter{batch: "x"}, nil, &pb.DeadFilter{Ids: []string{"*"}, Batch: "x"}},
	} {
		got, err := c.filter.message(c.ids, now)
		if err != nil || got.String() != c.want.String() {
			t.Errorf("%+v is %v, %v", c.filter, got, err)
		}
	}
	for _, f := range []deadFilter{{fields: []string{"a"}}, {fields: []string{"=a"}}, {until: "soon"}, {code: "NONE"}} {
		if _, err := f.message(nil, now); err == nil {
			t.Errorf("%+v is taken", f)
		}
	}
}

// TestCompletion asks a coordinator for the words that a shell proposes.
func TestCompletion(t *testing.T) {
	s := &editServer{document: editedFlow}
	t.Setenv("KISGRID_SERVER", serveAdmin(t, s))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "fl"}, "flows"},
		{[]string{"dead", "list", "--code", "LOAD_T"}, "LOAD_TIMEOUT"},
		{[]string{"describe", "wo"}, "worker"},
	} {
		out, _, err := apart(append([]string{"__complete"}, c.args...)...)
		if first, _, _ := strings.Cut(out, "\n"); err != nil || first != c.want {
			t.Errorf("%q proposes %q: %v", c.args, out, err)
		}
	}
	t.Setenv("KISGRID_SERVER", "127.0.0.1:1")
	if out, _, err := apart("__complete", "submit", ""); err != nil || !strings.HasPrefix(out, ":4") {
		t.Errorf("without a coordinator it proposes %q: %v", out, err)
	}
}
