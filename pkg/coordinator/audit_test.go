package coordinator

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/cluster"
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
	if got := entries("alice", &pb.AuditRequest{}); got != want {
		t.Errorf("alice sees %q, want %q", got, want)
	}
	if got, want := entries("root", &pb.AuditRequest{}), "apply by root of func/echo, apply by alice of flow/Mine, apply by bob of flow/Other, write into etcd by etcd, unknown of flow/Mine"; got != want {
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
