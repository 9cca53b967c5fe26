package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/access"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// kisgridWith runs the command kisgrid with arguments and returns its output.
func kisgridWith(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	cmd := root()
	var o, e bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// namingServer answers calls of kisgrid version, behind the interceptors of a guard.
type namingServer struct{ pb.UnimplementedAdminServer }

func (namingServer) Version(ctx context.Context, _ *pb.VersionRequest) (*pb.VersionResponse, error) {
	return &pb.VersionResponse{Id: "called by " + access.From(ctx).Name, Version: "v1"}, nil
}

// TestContexts sets contexts, uses them, and checks which coordinator a command asks, as whom.
func TestContexts(t *testing.T) {
	config := filepath.Join(t.TempDir(), "below", "config.yml")
	t.Setenv("KISGRID_CONFIG", config)
	secret, errs, err := kisgridWith(t, "token", "new")
	hash := access.HashToken(strings.TrimSpace(secret))
	if err != nil || !strings.Contains(errs, hash) || strings.Contains(errs, strings.TrimSpace(secret)) {
		t.Fatalf("token new: %q, %q, %v", secret, errs, err)
	}
	rules := filepath.Join(t.TempDir(), "access.yml")
	if err := os.WriteFile(rules, []byte("identities: [{name: alice, tokens: [{sha256: "+hash+"}]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := access.Open(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := access.Intercept(guard, map[string]access.Rule{pb.Admin_Version_FullMethodName: nil})
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(i.Unary))
	pb.RegisterAdminServer(server, namingServer{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { server.Stop(); <-served }()
	grid := listener.Addr().String()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("token", []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	want := func(says string, args ...string) {
		t.Helper()
		out, _, err := kisgridWith(t, args...)
		if err != nil || !strings.Contains(out, says) {
			t.Errorf("%q: %v, want %q in\n%s", args, err, says, out)
		}
	}
	fails := func(says string, args ...string) {
		t.Helper()
		if out, errs, err := kisgridWith(t, args...); err == nil || !strings.Contains(out+errs+err.Error(), says) {
			t.Errorf("%q: %v, want an error that says %q", args, err, says)
		}
	}
	want("CURRENT", "config", "get")
	fails("set-context makes one", "config", "use", "prod")
	want("", "config", "set-context", "prod", "--server", grid, "--token-file", "token", "--use")
	want("", "config", "set-context", "bare", "--server", grid)
	want("called by alice", "version")
	want("called by alice", "version", "--context", "prod", "--server", grid)
	fails("UNAUTHENTICATED", "version", "--server", grid) // the context's token must not go to a server that was named
	fails("UNAUTHENTICATED", "version", "--context", "bare")
	want("called by alice", "version", "--context", "bare", "--token-file", "token")
	fails("there are bare, prod", "version", "--context", "none")
	want("*        prod", "config", "get")
	want(`"token_file":"`+filepath.Join(must(os.Getwd()), "token")+`"`, "config", "get", "-o", "json")
	want("", "config", "use", "bare")
	fails("UNAUTHENTICATED", "version")
	t.Setenv("KISGRID_CONTEXT", "prod")
	want("called by alice", "version")
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with contexts: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(config, []byte("contexts: {a: {server: x, password: y}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("password", "config", "get")
}

// must returns the value of a call that does not fail.
func must(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}
