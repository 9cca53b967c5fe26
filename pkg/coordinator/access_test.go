package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// accessFile is an access file of a test, with the tokens of its identities.
type accessFile struct {
	roles, identities strings.Builder
	tokens            map[string]string
}

// add adds an identity with rights on flows, and its token.
func (f *accessFile) add(name string, flows string, rights []access.Right, mask ...string) {
	secret, hash := access.NewToken()
	if f.tokens == nil {
		f.tokens = map[string]string{}
	}
	f.tokens[name] = secret
	roles := "[]"
	if len(rights) > 0 {
		roles = "[" + name + "]"
		fmt.Fprintf(&f.roles, "  %s: [{flows: [%s], rights: [%s], mask: [%s]}]\n", name, flows, joined(rights, ", "), strings.Join(mask, ", "))
	}
	fmt.Fprintf(&f.identities, "  - {name: %s, roles: %s, tokens: [{sha256: %s}]}\n", name, roles, hash)
}

// write writes the file and returns its path.
func (f *accessFile) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.yml")
	if err := os.WriteFile(path, []byte("roles:\n"+f.roles.String()+"identities:\n"+f.identities.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// as returns a context for calls of an identity.
func (f *accessFile) as(t *testing.T, name string) context.Context {
	t.Helper()
	if f.tokens[name] == "" {
		t.Fatalf("there is no identity %s", name)
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+f.tokens[name])
}

// joined returns the names of rights with something between them.
func joined(rights []access.Right, between string) string {
	names := make([]string, len(rights))
	for i, r := range rights {
		names[i] = r.String()
	}
	return strings.Join(names, between)
}

// drained reads a stream of answers to its end and returns its error.
func drained[Answer any](stream grpc.ServerStreamingClient[Answer], err error) error {
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// matrix has an entry for each call of a coordinator: how to make the call about a flow, and the rights on the flow that it needs. A call that
// needs no right is there without one.
var matrix = map[string]struct {
	needs []access.Right
	make  func(ctx context.Context, conn *grpc.ClientConn, flow string) error
}{
	"kisgrid.v1.Ingest.Submit": {[]access.Right{access.Submit}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewIngestClient(conn).Submit(ctx, &pb.SubmitRequest{Flow: flow})
		return err
	}},
	"kisgrid.v1.Ingest.Stream": {[]access.Right{access.Submit}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		stream, err := pb.NewIngestClient(conn).Stream(ctx)
		if err != nil {
			return err
		}
		id := batch.NewStreamID()
		_ = stream.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{Flow: flow, ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Stream: id[:]}}}) // Recv has the error
		_ = stream.CloseSend()
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}},
	"kisgrid.v1.Ingest.BeginTerm": {[]access.Right{access.Submit}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewIngestClient(conn).BeginTerm(ctx, &pb.BeginTermRequest{Flow: flow, Log: make([]byte, 16)})
		return err
	}},
	"kisgrid.v1.Admin.Apply": {[]access.Right{access.Define}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		d := flowDocument(flow, "id", "echo", "timeout: 7s")
		return drained(pb.NewAdminClient(conn).Apply(ctx, &pb.ApplyRequest{DryRun: true, Documents: []*pb.Document{{Kind: "flow", Name: flow, Yaml: d.YAML}}}))
	}},
	"kisgrid.v1.Admin.Get": {[]access.Right{access.View}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).Get(ctx, &pb.GetRequest{Kind: "flows", Name: flow})
		if batch.CodeOf(wire.FromStatus(err)) == batch.CodeNotFound { // what cannot be seen is not there
			return wire.Status(batch.Errorf(batch.CodePermissionDenied, "not found"))
		}
		return err
	}},
	"kisgrid.v1.Admin.Delete": {[]access.Right{access.Define}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		// The second name makes a call that is allowed delete nothing.
		_, err := pb.NewAdminClient(conn).Delete(ctx, &pb.DeleteRequest{Documents: []*pb.DocumentName{{Kind: "flow", Name: flow}, {Kind: "flow", Name: "Mine-none"}}})
		return err
	}},
	"kisgrid.v1.Admin.CheckDelete": {[]access.Right{access.Define}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).CheckDelete(ctx, &pb.CheckDeleteRequest{Documents: []*pb.DocumentName{{Kind: "flow", Name: flow}}})
		return err
	}},
	"kisgrid.v1.Admin.Rollout": {[]access.Right{access.View}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		return drained(pb.NewAdminClient(conn).Rollout(ctx, &pb.RolloutRequest{Flow: flow}))
	}},
	"kisgrid.v1.Admin.History": {[]access.Right{access.View}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).History(ctx, &pb.HistoryRequest{Flow: flow})
		return err
	}},
	"kisgrid.v1.Admin.Explain": {[]access.Right{access.View, access.Rows}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).Explain(ctx, &pb.ExplainRequest{Flow: flow, Key: "1", Rows: true})
		return err
	}},
	"kisgrid.v1.Admin.ListDead": {[]access.Right{access.Rows}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		return drained(pb.NewAdminClient(conn).ListDead(ctx, &pb.ListDeadRequest{Filter: &pb.DeadFilter{Flow: flow}}))
	}},
	"kisgrid.v1.Admin.EditDead": {[]access.Right{access.Operate, access.Rows}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).EditDead(ctx, &pb.EditDeadRequest{Flow: flow, Id: strings.Repeat("0", 32)})
		return err
	}},
	"kisgrid.v1.Admin.RedriveDead": {[]access.Right{access.Operate}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		return drained(pb.NewAdminClient(conn).RedriveDead(ctx, &pb.RedriveDeadRequest{Filter: &pb.DeadFilter{Flow: flow}}))
	}},
	"kisgrid.v1.Admin.RedriveDeadWithResults": {[]access.Right{access.Operate, access.Rows}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		return drained(pb.NewAdminClient(conn).RedriveDeadWithResults(ctx, &pb.RedriveDeadWithResultsRequest{Filter: &pb.DeadFilter{Flow: flow}}))
	}},
	"kisgrid.v1.Admin.DropDead": {[]access.Right{access.Operate}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).DropDead(ctx, &pb.DropDeadRequest{Filter: &pb.DeadFilter{Flow: flow}})
		return err
	}},
	"kisgrid.v1.Admin.Version": {nil, func(ctx context.Context, conn *grpc.ClientConn, _ string) error {
		_, err := pb.NewAdminClient(conn).Version(ctx, &pb.VersionRequest{})
		return err
	}},
	"kisgrid.v1.Admin.Pause": {[]access.Right{access.Operate}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).Pause(ctx, &pb.PauseRequest{Flow: flow, Resume: true})
		return err
	}},
	"kisgrid.v1.Admin.Cordon": {[]access.Right{access.Operate}, func(ctx context.Context, conn *grpc.ClientConn, _ string) error {
		_, err := pb.NewAdminClient(conn).Cordon(ctx, &pb.CordonRequest{Worker: "none"})
		return err
	}},
	"kisgrid.v1.Admin.Figures": {[]access.Right{access.View}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).Figures(ctx, &pb.FiguresRequest{Flow: flow})
		return err
	}},
	"kisgrid.v1.Admin.ShareFigures": {[]access.Right{access.View}, func(ctx context.Context, conn *grpc.ClientConn, _ string) error {
		_, err := pb.NewAdminClient(conn).ShareFigures(ctx, &pb.ShareFiguresRequest{})
		return err
	}},
	"kisgrid.v1.Admin.Tap": {[]access.Right{access.Rows}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		return drained(pb.NewAdminClient(conn).Tap(ctx, &pb.TapRequest{Flow: flow, Milliseconds: 1}))
	}},
	"kisgrid.v1.Admin.Audit": {[]access.Right{access.View}, func(ctx context.Context, conn *grpc.ClientConn, flow string) error {
		_, err := pb.NewAdminClient(conn).Audit(ctx, &pb.AuditRequest{Flow: flow})
		return err
	}},
}

// TestMatrix makes every call with each right alone, with all rights but one that it needs, with all, and with none, about a flow of the
// caller's and about another flow, one that exists and one that does not. It fails for a call without an entry in the matrix.
func TestMatrix(t *testing.T) {
	all := access.Rights()
	var f accessFile
	f.add("everything", "Mine*", all)
	f.add("nothing", "", nil)
	f.add("operator of all", "'*'", []access.Right{access.Operate})
	f.add("viewer of all", "'*'", []access.Right{access.View})
	for _, r := range all {
		f.add("only-"+r.String(), "Mine*", []access.Right{r})
		f.add("not-"+r.String(), "Mine*", slices.DeleteFunc(slices.Clone(all), func(o access.Right) bool { return o == r }))
	}
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	r.put(flowDocument("Mine", "id", "echo"), flowDocument("Other", "id", "echo"), funcDocument("echo"))
	var calls []string
	for _, file := range []protoreflect.FileDescriptor{pb.File_kisgrid_v1_ingest_proto, pb.File_kisgrid_v1_admin_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				calls = append(calls, string(methods.Get(j).FullName()))
			}
		}
	}
	for _, call := range calls {
		entry, there := matrix[call]
		if !there {
			t.Errorf("%s has no entry in the matrix: say which right on which flow it needs, there and in accessRules", call)
			continue
		}
		denied := func(who, flow string) bool {
			switch err := wire.FromStatus(entry.make(f.as(t, who), r.conn, flow)); batch.CodeOf(err) {
			case batch.CodePermissionDenied:
				if strings.Contains(err.Error(), "echo") || flow == "Mine" && strings.Contains(err.Error(), "Other") {
					t.Errorf("%s of %s about %s tells too much: %v", call, who, flow, err)
				}
				return true
			case batch.CodeUnauthenticated, batch.CodeInternal:
				t.Errorf("%s of %s about %s: %v", call, who, flow, err)
			}
			return false
		}
		want := func(who, flow string, refused bool) {
			if got := denied(who, flow); got != refused {
				t.Errorf("%s of %s about flow %s: denied is %v", call, who, flow, got)
			}
		}
		if call == "kisgrid.v1.Admin.Cordon" { // it needs its right on all flows
			want("everything", "Mine", true)
			want("operator of all", "Mine", false)
			want("viewer of all", "Mine", true)
			continue
		}
		if call == "kisgrid.v1.Admin.ShareFigures" { // likewise
			want("everything", "Mine", true)
			want("operator of all", "Mine", true)
			want("viewer of all", "Mine", false)
			continue
		}
		want("everything", "Mine", false)
		for _, flow := range []string{"Other", "None"} {
			want("everything", flow, len(entry.needs) > 0)
		}
		want("nothing", "Mine", len(entry.needs) > 0)
		for _, right := range all {
			// A caller that may define a flow sees it, too.
			seen := call == "kisgrid.v1.Admin.Get" && right == access.Define
			want("only-"+right.String(), "Mine", !seen && (len(entry.needs) > 1 || len(entry.needs) == 1 && entry.needs[0] != right))
			want("not-"+right.String(), "Mine", slices.Contains(entry.needs, right) && call != "kisgrid.v1.Admin.Get")
		}
		if err := wire.FromStatus(entry.make(t.Context(), r.conn, "Mine")); batch.CodeOf(err) != batch.CodeUnauthenticated {
			t.Errorf("%s without a token: %v", call, err)
		}
		stranger := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+f.tokens["everything"], "authorization", "Bearer x")
		if err := wire.FromStatus(entry.make(stranger, r.conn, "Mine")); batch.CodeOf(err) != batch.CodeUnauthenticated {
			t.Errorf("%s with two tokens: %v", call, err)
		}
	}
	if len(matrix) != len(calls) || len(accessRules) != len(calls) {
		t.Errorf("there are %d calls, %d entries in the matrix and %d rules", len(calls), len(matrix), len(accessRules))
	}
}

// TestSharedDocuments changes and deletes a function and a connector that flows share: define on each of these flows is needed, before and
// after the change, and the answers name no flow that the caller may not see.
func TestSharedDocuments(t *testing.T) {
	conn := func(address string) definition.Document {
		return definition.Document{Kind: definition.KindConn, Name: "store", YAML: fmt.Appendf(nil, "kistype: conn\ncname: store\ntype: redis\naddrs: %s\n", address)}
	}
	function := func(more string) definition.Document {
		return definition.Document{Kind: definition.KindFunc, Name: "shared", YAML: []byte("kistype: func\nfname: shared\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n" + more)}
	}
	var f accessFile
	all := access.Rights()
	f.add("mine", "Mine", all)
	f.add("both", "Mine, Other", all)
	f.add("viewer", "Mine, Other", []access.Right{access.View})
	f.add("definer", "Mine, Other", []access.Right{access.View, access.Define})
	f.add("nowhere", "Elsewhere", all)
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	admin := pb.NewAdminClient(r.conn)
	apply := func(who string, docs ...definition.Document) error {
		in := &pb.ApplyRequest{}
		for _, d := range docs {
			in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
		}
		return wire.FromStatus(drained(admin.Apply(f.as(t, who), in)))
	}
	remove := func(who string, kind definition.Kind, name string) error {
		_, err := admin.Delete(f.as(t, who), &pb.DeleteRequest{Documents: []*pb.DocumentName{{Kind: string(kind), Name: name}}})
		return wire.FromStatus(err)
	}
	names := func(who, kind string) string {
		out, err := admin.Get(f.as(t, who), &pb.GetRequest{Kind: kind})
		if err != nil {
			return batch.CodeOf(wire.FromStatus(err)).String()
		}
		var all []string
		for _, res := range out.GetResources() {
			all = append(all, res.GetName())
			if who == "mine" && strings.Contains(string(res.GetStatus()), "Other") {
				t.Errorf("a status tells of another flow: %s", res.GetStatus())
			}
		}
		return strings.Join(all, " ")
	}
	check := func(doing string, err error, code batch.Code, says ...string) {
		t.Helper()
		if batch.CodeOf(err) != code {
			t.Errorf("%s: got %v, want %v", doing, err, code)
			return
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v does not say %q", doing, err, s)
			}
		}
		if code == batch.CodePermissionDenied && strings.Contains(err.Error(), "Other") != slices.Contains(says, "Other") {
			t.Errorf("%s: %v: names the other flow, or hides it from a viewer", doing, err)
		}
	}

	check("an unused connector", apply("definer", conn("a:1")), batch.CodePermissionDenied, "connect")
	check("an unused connector", apply("mine", conn("a:1")), 0)
	check("an unused function", apply("viewer", function("")), batch.CodePermissionDenied, "define")
	check("an unused function", apply("mine", function("")), 0)
	check("a flow of mine", apply("mine", flowDocument("Mine", "id", "shared")), 0)
	check("a change while only my flow has it", apply("mine", function("  # 1\n"), conn("a:2")), 0)
	check("another flow", apply("mine", flowDocument("Other", "id", "shared")), batch.CodePermissionDenied, "flow/Other", "Other")
	check("another flow by its owner", apply("both", flowDocument("Other", "id", "shared")), 0)
	check("a shared function", apply("mine", function("  # 2\n")), batch.CodePermissionDenied, "func/shared", "flows need it")
	check("a shared connector", apply("mine", conn("a:3")), batch.CodePermissionDenied, "conn/store")
	check("a shared function, seen", apply("definer", function("  # 2\n")), 0)
	check("a shared connector without connect", apply("definer", conn("a:3")), batch.CodePermissionDenied, "Mine, Other", "Other")
	check("no define", apply("viewer", function("  # 3\n")), batch.CodePermissionDenied)
	check("unchanged documents", apply("mine", function("  # 2\n"), conn("a:2"), flowDocument("Mine", "id", "shared")), 0)
	check("unchanged, unseen", apply("nowhere", function("  # 2\n")), batch.CodePermissionDenied)
	check("unchanged flow, unseen", apply("nowhere", flowDocument("Mine", "id", "shared")), batch.CodePermissionDenied, "flow/Mine")
	// A change that leaves Other without the function would need the right on Other, too: it has the function before.
	check("a function that the change takes from the other flow", apply("mine", function("  # 4\n"), flowDocument("Mine", "id", "shared", "timeout: 9s")), batch.CodePermissionDenied)

	check("delete a shared function", remove("mine", definition.KindFunc, "shared"), batch.CodePermissionDenied, "flows need it")
	check("delete what can't be seen", remove("nowhere", definition.KindFunc, "shared"), batch.CodeNotFound)
	check("delete what is not there", remove("nowhere", definition.KindFunc, "nothing"), batch.CodeNotFound)
	check("delete another flow", remove("mine", definition.KindFlow, "Other"), batch.CodePermissionDenied, "Other")
	check("delete a flow that is not there", remove("mine", definition.KindFlow, "None"), batch.CodePermissionDenied)
	check("delete a function that both flows need", remove("both", definition.KindFunc, "shared"), batch.CodeBadDocument)

	for _, c := range []struct{ who, kind, want string }{
		{"mine", "flows", "Mine"}, {"both", "flows", "Mine Other"}, {"viewer", "flows", "Mine Other"}, {"nowhere", "flows", ""},
		{"mine", "functions", "shared"}, {"mine", "connectors", "store"}, {"nowhere", "functions", ""}, {"nowhere", "connectors", ""},
	} {
		if got := names(c.who, c.kind); got != c.want {
			t.Errorf("%s sees the %s %q, want %q", c.who, c.kind, got, c.want)
		}
	}
	check("delete the other flow", remove("both", definition.KindFlow, "Other"), 0)
	check("a change after that", apply("mine", function("  # 5\n"), conn("a:5")), 0)
}

// TestRevoked ends an open stream soon after its caller has lost the right, in a way that makes clients connect again, and refuses the next
// call.
func TestRevoked(t *testing.T) {
	var f accessFile
	f.add("mine", "Mine", []access.Right{access.Submit})
	path := f.write(t)
	r := newRig(t, func(c *Config) { c.AccessFile = path })
	r.activate(flowDocument("Mine", "id", "echo", "status: 0"), funcDocument("echo"))
	stream, err := pb.NewIngestClient(r.conn).Stream(f.as(t, "mine"))
	if err != nil {
		t.Fatal(err)
	}
	id := batch.NewStreamID()
	if err := stream.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{Flow: "Mine", ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Stream: id[:], Unanswered: true}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("identities: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, err, batch.CodeUnavailable, "not valid")
	_, err = pb.NewIngestClient(r.conn).Submit(f.as(t, "mine"), &pb.SubmitRequest{Flow: "Mine"})
	wantCode(t, err, batch.CodeUnauthenticated, "not valid")
}

// TestUnguardedWorkers registers a worker with an access file and one without. A coordinator that has one, and TLS, warns of the latter, and its
// own record says that it has one. Without TLS a worker can't have the file, so there is no warning.
func TestUnguardedWorkers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(log hclog.Logger) *rig{
		"with TLS": func(log hclog.Logger) *rig { return newSecureRig(t, func(c *Config) { c.Logger = log }).rig },
		"without TLS": func(log hclog.Logger) *rig {
			var f accessFile
			f.add("root", "'*'", access.Rights())
			return newRig(t, func(c *Config) { c.AccessFile, c.Logger = f.write(t), log })
		},
	} {
		var log lockedBuffer
		r := start(hclog.New(&hclog.LoggerOptions{Output: &log}))
		open, guarded := r.newWorker("open", "echo"), r.newWorker("guarded", "echo")
		guarded.record.Guarded = true
		guarded.register()
		open.register()
		const warning = "a worker has no access file"
		want := 0
		if name == "with TLS" {
			want = 1
		}
		until(t, "both workers are known", func() bool { return len(r.c.fleet.Workers(t.Context())) == 2 })
		if text := log.String(); strings.Count(text, warning) != want || want == 1 && !regexp.MustCompile(warning+".*worker="+open.record.ID).MatchString(text) {
			t.Errorf("%s: the log says\n%s\nwant %d warnings, about %s", name, text, want, open.record.ID)
		}
		until(t, "the coordinator's record is there", func() bool {
			c, there := r.c.fleet.Coordinators()[r.c.id]
			if there && c.Guarded != (want == 1) {
				t.Errorf("%s: the record says %v", name, c.Guarded)
			}
			return there
		})
	}
}
