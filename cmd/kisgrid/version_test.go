package main

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/command"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// versionServer is a coordinator that tells its build.
type versionServer struct{ pb.UnimplementedAdminServer }

func (versionServer) Version(context.Context, *pb.VersionRequest) (*pb.VersionResponse, error) {
	return &pb.VersionResponse{Id: "coordinator-1", Version: "v1.2.2", Commit: "aaaaaaaaaaaa", Go: "go1.26.7", Platform: "linux/arm64"}, nil
}

// silentAddress is an address that takes connections and never answers, until the test ends.
func silentAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the system's queue takes connections; nobody else does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// refusingAddress is an address at which no server listens.
func refusingAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// kisgrid version prints its own build whatever the coordinator does, and why the build of the coordinator is missing.
func TestVersion(t *testing.T) {
	defer func(v, c string) { command.Version, command.Commit = v, c }(command.Version, command.Commit)
	command.Version, command.Commit = "v1.2.3", "0123456789abcdef0123456789abcdef01234567"
	serving := serveAdmin(t, versionServer{})
	older := serveAdmin(t, pb.UnimplementedAdminServer{})
	for name, c := range map[string]struct {
		args   []string
		fails  bool
		server bool   // whether a coordinator is asked
		reason string // why its version is not known; "" means that it is
	}{
		"the coordinator tells":     {[]string{"--server", serving}, false, true, ""},
		"only its own":              {[]string{"--client", "--server", refusingAddress(t)}, false, false, ""},
		"an older coordinator":      {[]string{"--server", older}, false, true, "build is too old for this question"},
		"nobody is there":           {[]string{"--server", refusingAddress(t)}, true, true, "--server or KISGRID_SERVER names another"},
		"nobody says anything":      {[]string{"--server", silentAddress(t), "--timeout", "100ms"}, true, true, "no answer within 100ms"},
		"the address is no address": {[]string{"--server", "a:b:c"}, true, true, "a:b:c"},
	} {
		t.Run(name, func(t *testing.T) {
			out, log, err := apart(append([]string{"version"}, c.args...)...)
			if (err != nil) != c.fails || !strings.Contains(out, "v1.2.3") || !strings.Contains(out, "0123456789ab") {
				t.Errorf("it ended with %v, and printed\n%s", err, out)
			}
			if told := strings.Contains(out, "aaaaaaaaaaaa"); told != (c.server && c.reason == "") || !strings.Contains(log, c.reason) || (log == "") != (c.reason == "") {
				t.Errorf("it printed\n%s\nand told %q, want %q", out, log, c.reason)
			}
			out, log, err = apart(append([]string{"version", "-o", "json"}, c.args...)...)
			var v versions
			if bad := json.Unmarshal([]byte(out), &v); bad != nil || (err != nil) != c.fails || log != "" {
				t.Fatalf("%v; it ended with %v, told %q, and printed\n%s", bad, err, log, out)
			}
			if v.Client.Version != "v1.2.3" || (v.Server != nil) != c.server ||
				c.server && (!strings.Contains(v.Server.Reason, c.reason) || (v.Server.Version == "v1.2.2") != (c.reason == "")) {
				t.Errorf("it printed\n%s", out)
			}
		})
	}
	for _, args := range [][]string{{"-o", "yaml"}, {"--timeout", "0s"}, {"more"}} {
		if _, err := kisgrid(append([]string{"version", "--client"}, args...)...); err == nil {
			t.Errorf("version %q was taken", args)
		}
	}
}

// serveAdmin serves an Admin service until the test ends, and returns its address.
func serveAdmin(t *testing.T, s pb.AdminServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	pb.RegisterAdminServer(g, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return l.Addr().String()
}
