package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestAudit changes documents as two callers and past all coordinators, and finds each change with its author in the audit log, in the history,
// and on standard error. A caller sees only entries about its own flows.
func TestAudit(t *testing.T) {
	var f accessFile
	f.add("alice", "Mine", access.Rights())
	f.add("bob", "Other", access.Rights())
	f.add("root", "'*'", access.Rights())
	var log lockedBuffer
	r := newRig(t, func(c *Config) {
		c.AccessFile = f.write(t)
		c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	admin := pb.NewAdminClient(r.conn)
	apply := func(who string, docs ...definition.Document) {
		t.Helper()
		in := &pb.ApplyRequest{}
		for _, d := range docs {
			in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
		}
		if err := wire.FromStatus(drained(admin.Apply(f.as(t, who), in))); err != nil {
			t.Fatal(err)
		}
	}
	apply("root", funcDocument("echo"))
	apply("alice", flowDocument("Mine", "id", "echo", "status: 0"))
	apply("bob", flowDocument("Other", "id", "echo", "status: 0"))
	r.put(flowDocument("Mine", "id", "echo", "status: 0", "timeout: 9s"))
	want := "apply by alice of flow/Mine, write into etcd by etcd, unknown of flow/Mine"
	entries := func(who string, in *pb.AuditRequest) string {
		t.Helper()
		out, err := admin.Audit(f.as(t, who), in)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range out.GetEntries() {
			if e.GetRevision() == 0 || e.GetAtUnixMilliseconds() == 0 || (e.GetAddress() == "") != (e.GetAuthor() == cluster.UnknownAuthor) {
				t.Errorf("an entry lacks something: %v", e)
			}
			all = append(all, fmt.Sprintf("%s by %s of %s", e.GetAction(), e.GetAuthor(), strings.Join(e.GetDocuments(), " ")))
		}
		return strings.Join(all, ", ")
	}
	until(t, "alice sees "+want, func() bool { return entries("alice", &pb.AuditRequest{}) == want })
	r.put(funcDocument("unused"))
	until(t, "the change of a function without flows is in the log", func() bool { return strings.HasSuffix(entries("root", &pb.AuditRequest{}), "func/unused") })
	r.put(flowDocument("Other", "id", "echo", "status: 0", "timeout: 8s"), flowDocument("Third", "id", "echo", "status: 0"))
	until(t, "the change of two flows is one entry", func() bool { return strings.HasSuffix(entries("root", &pb.AuditRequest{}), "flow/Other flow/Third") })
	if got := entries("alice", &pb.AuditRequest{}); got != want {
		t.Errorf("alice sees %q, want %q", got, want)
	}
	if got, want := entries("root", &pb.AuditRequest{}), "apply by root of func/echo, apply by alice of flow/Mine, apply by bob of flow/Other, write into etcd by etcd, unknown of flow/Mine, "+
		"write into etcd by etcd, unknown of func/unused, write into etcd by etcd, unknown of flow/Other flow/Third"; got != want {
		t.Errorf("root sees %q, want %q", got, want)
	}
	if got, want := entries("root", &pb.AuditRequest{Author: "bob"}), "apply by bob of flow/Other"; got != want {
		t.Errorf("of bob are %q, want %q", got, want)
	}
	if got, want := entries("root", &pb.AuditRequest{Flow: "Mine", Limit: 1}), "write into etcd by etcd, unknown of flow/Mine"; got != want {
		t.Errorf("the last one of Mine is %q, want %q", got, want)
	}
	if got := entries("root", &pb.AuditRequest{SinceUnixMilliseconds: time.Now().Add(time.Hour).UnixMilli()}); got != "" {
		t.Errorf("in the future are %q", got)
	}
	until(t, "the history has both revisions with their authors", func() bool {
		h, err := admin.History(f.as(t, "alice"), &pb.HistoryRequest{Flow: "Mine"})
		var authors []string
		for _, e := range h.GetRevisions() {
			authors = append(authors, e.GetAuthor())
		}
		return err == nil && strings.Join(authors, "; ") == "alice; "+cluster.UnknownAuthor
	})
	for _, says := range []string{"author=alice", "documents=[\"flow/Mine\"]", "address=127.0.0.1"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %s:\n%s", says, log.String())
		}
	}
	for _, secret := range f.tokens {
		if strings.Contains(log.String(), secret) {
			t.Error("a token is in the log")
		}
	}
	if _, err := admin.Pause(f.as(t, "alice"), &pb.PauseRequest{Flow: "Mine", Reason: "tests"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the pause is in the log in etcd", func() bool {
		out, err := admin.Audit(f.as(t, "alice"), &pb.AuditRequest{Author: "alice"})
		n := len(out.GetEntries())
		return err == nil && n == 2 && out.GetEntries()[1].GetAction() == "pause" && out.GetEntries()[1].GetDetail() == "tests"
	})
}

// TestAuthorsOfRevisions lets two callers change documents of a flow before the flow becomes active: the revision has both authors, and the next
// one only the author of its own change.
func TestAuthorsOfRevisions(t *testing.T) {
	t.Parallel()
	var f accessFile
	f.add("alice", "W", access.Rights())
	f.add("root", "'*'", access.Rights())
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	admin := pb.NewAdminClient(r.conn)
	apply := func(who string, d definition.Document) {
		t.Helper()
		in := &pb.ApplyRequest{Documents: []*pb.Document{{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML}}}
		if err := wire.FromStatus(drained(admin.Apply(f.as(t, who), in))); err != nil {
			t.Fatal(err)
		}
	}
	authors := func() string {
		h, err := admin.History(f.as(t, "alice"), &pb.HistoryRequest{Flow: "W"})
		if err != nil {
			return ""
		}
		var all []string
		for _, e := range h.GetRevisions() {
			all = append(all, e.GetAuthor())
		}
		return strings.Join(all, ", ")
	}
	later := funcDocument("echo")
	later.YAML = append(slices.Clone(later.YAML), "# later\n"...)
	apply("alice", funcDocument("other"))
	apply("root", funcDocument("echo"))
	apply("alice", flowDocument("W", "", "echo"))
	apply("root", later)
	r.join("w")
	until(t, "the flow is active", func() bool { return authors() == "alice; root" })
	apply("alice", flowDocument("W", "", "echo", "copies: 2"))
	until(t, "the next revision is active", func() bool { return authors() == "alice; root, alice" })
}

// TestEveryCallInTheLog makes each call of a coordinator, and finds those in the audit log that change something or read rows. It fails for a new
// call without an entry here.
func TestEveryCallInTheLog(t *testing.T) {
	t.Parallel()
	letters, err := deadletter.Open(deadletter.Config{URL: "redis://" + miniredis.RunT(t).Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = letters.Close() })
	r := newRig(t, func(c *Config) { c.DeadLetters = letters })
	r.join("w")
	revision := r.sharded() // not through a coordinator
	var kept []*deadletter.Letter
	for i := range 2 {
		kept = append(kept, &deadletter.Letter{
			ID: batch.NewStreamID(), Sequence: 1, Flow: "S", Revision: revision, Function: "echo", Code: batch.CodeFunctionError, Reason: "it was bad",
			Row: fmt.Appendf(nil, `{"id":%d}`, i), Origin: batch.RowID{Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}}, ShardKey: "id", Key: uint64(i),
		})
	}
	if _, err := letters.Keep(t.Context(), "S", kept); err != nil {
		t.Fatal(err)
	}
	admin, ingest := pb.NewAdminClient(r.conn), pb.NewIngestClient(r.conn)
	filter, content := &pb.DeadFilter{Flow: "S"}, &pb.DeadFilter{Flow: "S", Text: "secret"}
	document := &pb.Document{Kind: "func", Name: "unused", Yaml: funcDocument("unused").YAML}
	name := &pb.DocumentName{Kind: "func", Name: "unused"}
	id := ""
	calls := []struct {
		call, action string // no action means that the call has no entry
		make         func(ctx context.Context) error
	}{
		{"Ingest.Submit", "", func(ctx context.Context) error {
			_, err := ingest.Submit(ctx, &pb.SubmitRequest{Flow: "None"})
			return err
		}},
		{"Ingest.BeginTerm", "", func(ctx context.Context) error {
			_, err := ingest.BeginTerm(ctx, &pb.BeginTermRequest{Flow: "None"})
			return err
		}},
		{"Ingest.Stream", "", func(ctx context.Context) error {
			stream, err := ingest.Stream(ctx)
			if err == nil {
				_ = stream.CloseSend()
				_, err = stream.Recv()
			}
			return err
		}},
		{"Admin.Apply", "apply", func(ctx context.Context) error {
			return drained(admin.Apply(ctx, &pb.ApplyRequest{Documents: []*pb.Document{document}}))
		}},
		{"Admin.Apply", "", func(ctx context.Context) error { // nothing changes
			return drained(admin.Apply(ctx, &pb.ApplyRequest{Documents: []*pb.Document{document}}))
		}},
		{"Admin.CheckDelete", "", func(ctx context.Context) error {
			_, err := admin.CheckDelete(ctx, &pb.CheckDeleteRequest{Documents: []*pb.DocumentName{name}})
			return err
		}},
		{"Admin.Delete", "delete", func(ctx context.Context) error {
			_, err := admin.Delete(ctx, &pb.DeleteRequest{Documents: []*pb.DocumentName{name}})
			return err
		}},
		{"Admin.Get", "", func(ctx context.Context) error { _, err := admin.Get(ctx, &pb.GetRequest{Kind: "flows"}); return err }},
		{"Admin.Rollout", "", func(ctx context.Context) error { return drained(admin.Rollout(ctx, &pb.RolloutRequest{Flow: "S"})) }},
		{"Admin.History", "", func(ctx context.Context) error {
			_, err := admin.History(ctx, &pb.HistoryRequest{Flow: "S"})
			return err
		}},
		{"Admin.Explain", "", func(ctx context.Context) error {
			_, err := admin.Explain(ctx, &pb.ExplainRequest{Flow: "S", Key: "1"})
			return err
		}},
		{"Admin.Explain", "read where rows are", func(ctx context.Context) error {
			_, err := admin.Explain(ctx, &pb.ExplainRequest{Flow: "S", Key: "1", Rows: true})
			return err
		}},
		{"Admin.Tap", "tap rows", func(ctx context.Context) error {
			return drained(admin.Tap(ctx, &pb.TapRequest{Flow: "S", Milliseconds: 1}))
		}},
		{"Admin.ListDead", "read reasons of dead letters", func(ctx context.Context) error {
			return drained(admin.ListDead(ctx, &pb.ListDeadRequest{Filter: filter, NoRows: true}))
		}},
		{"Admin.ListDead", "search dead letters", func(ctx context.Context) error {
			return drained(admin.ListDead(ctx, &pb.ListDeadRequest{Filter: content, NoRows: true}))
		}},
		{"Admin.RedriveDead", "", func(ctx context.Context) error {
			return drained(admin.RedriveDead(ctx, &pb.RedriveDeadRequest{Filter: filter, DryRun: true}))
		}},
		{"Admin.RedriveDead", "search dead letters", func(ctx context.Context) error {
			return drained(admin.RedriveDead(ctx, &pb.RedriveDeadRequest{Filter: content, DryRun: true}))
		}},
		{"Admin.DropDead", "", func(ctx context.Context) error {
			_, err := admin.DropDead(ctx, &pb.DropDeadRequest{Filter: filter, DryRun: true})
			return err
		}},
		{"Admin.DropDead", "search dead letters", func(ctx context.Context) error {
			_, err := admin.DropDead(ctx, &pb.DropDeadRequest{Filter: content, DryRun: true})
			return err
		}},
		{"Admin.ListDead", "read dead letters", func(ctx context.Context) error {
			stream, err := admin.ListDead(ctx, &pb.ListDeadRequest{Filter: filter})
			for err == nil {
				var e *pb.DeadEvent
				if e, err = stream.Recv(); e.GetLetter() != nil {
					id = e.GetLetter().GetId()
				}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}},
		{"Admin.EditDead", "edit dead letter", func(ctx context.Context) error {
			_, err := admin.EditDead(ctx, &pb.EditDeadRequest{Flow: "S", Id: id, Row: []byte(`{"id":1}`)})
			return err
		}},
		{"Admin.RedriveDead", "redrive dead letters", func(ctx context.Context) error {
			return drained(admin.RedriveDead(ctx, &pb.RedriveDeadRequest{Filter: filter}))
		}},
		{"Admin.RedriveDeadWithResults", "redrive dead letters and read their output", func(ctx context.Context) error {
			return drained(admin.RedriveDeadWithResults(ctx, &pb.RedriveDeadWithResultsRequest{Filter: filter}))
		}},
		{"Admin.DropDead", "drop dead letters", func(ctx context.Context) error {
			_, err := admin.DropDead(ctx, &pb.DropDeadRequest{Filter: filter})
			return err
		}},
		{"Admin.Version", "", func(ctx context.Context) error { _, err := admin.Version(ctx, &pb.VersionRequest{}); return err }},
		{"Admin.Figures", "", func(ctx context.Context) error {
			_, err := admin.Figures(ctx, &pb.FiguresRequest{}) // it has no contents of rows
			return err
		}},
		{"Admin.ShareFigures", "", func(ctx context.Context) error {
			_, err := admin.ShareFigures(ctx, &pb.ShareFiguresRequest{})
			return err
		}},
		{"Admin.Audit", "", func(ctx context.Context) error { _, err := admin.Audit(ctx, &pb.AuditRequest{}); return err }},
		{"Admin.Pause", "pause", func(ctx context.Context) error { _, err := admin.Pause(ctx, &pb.PauseRequest{Flow: "S"}); return err }},
		{"Admin.Pause", "resume", func(ctx context.Context) error {
			_, err := admin.Pause(ctx, &pb.PauseRequest{Flow: "S", Resume: true})
			return err
		}},
		{"Admin.Cordon", "cordon worker", func(ctx context.Context) error {
			_, err := admin.Cordon(ctx, &pb.CordonRequest{Worker: "w"})
			return err
		}},
		{"Admin.Cordon", "uncordon worker", func(ctx context.Context) error {
			_, err := admin.Cordon(ctx, &pb.CordonRequest{Worker: "w", Uncordon: true})
			return err
		}},
	}
	inLog := func() (actions []string) {
		entries, err := r.store.Audit(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Author == cluster.UnknownAuthor {
				continue
			}
			if strings.Contains(e.Detail, "secret") {
				t.Errorf("an entry has contents of rows: %+v", e)
			}
			if e.Author == "" || e.Address == "" || e.At.IsZero() || e.Coordinator != r.c.id {
				t.Errorf("an entry lacks something: %+v", e)
			}
			actions = append(actions, e.Action)
		}
		return actions
	}
	var want []string
	tried := map[string]bool{}
	for _, c := range calls {
		tried["kisgrid.v1."+c.call] = true
		ctx, cancel := context.WithCancel(t.Context())
		if c.action == "" {
			_ = c.make(ctx) // whether it succeeds does not matter
			cancel()
			continue
		}
		want = append(want, c.action)
		ended := make(chan error, 1)
		go func() { ended <- c.make(ctx) }()
		until(t, c.call+" is in the log", func() bool { return slices.Equal(inLog(), want) })
		if !strings.HasPrefix(c.action, "redrive") { // those wait for the worker
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", c.call, err)
			}
			cancel()
			continue
		}
		cancel()
		<-ended
	}
	for _, file := range []protoreflect.FileDescriptor{pb.File_kisgrid_v1_ingest_proto, pb.File_kisgrid_v1_admin_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				if name := string(methods.Get(j).FullName()); !tried[name] {
					t.Errorf("%s is not tried: say here which entry it has in the audit log", name)
				}
			}
		}
	}
}
