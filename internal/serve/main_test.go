package serve_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log that a test can wait on.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // nobody waits for so many
	}
	return len(p), nil
}

func newLines() (lines, hclog.Logger) {
	l := make(lines, 100)
	return l, hclog.New(&hclog.LoggerOptions{Output: l, Level: hclog.Info})
}

// wait returns the next line; a test that gets none fails.
func (l lines) wait(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l:
		return line
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was logged")
		return ""
	}
}

// serveOn starts a server on a free port of the loopback and ends it with the test.
func serveOn(t *testing.T, c transport.Config, opts ...grpc.ServerOption) (*serve.Server, string) {
	t.Helper()
	server, err := serve.NewServer(c, opts...)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, server, listener)
	return server, listener.Addr().String()
}

func run(t *testing.T, server *serve.Server, listener net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// dial connects a health client to the address and closes it with the test.
func dial(t *testing.T, address string, c transport.Config, opts ...grpc.DialOption) (healthpb.HealthClient, *grpc.ClientConn) {
	t.Helper()
	conn, err := transport.Dial(address, c, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return healthpb.NewHealthClient(conn), conn
}

// check makes one call, which must be over long before the test is.
func check(t *testing.T, client healthpb.HealthClient, service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	answer, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	return answer.GetStatus(), err
}

func contains(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%s is\n  %s\nand lacks %q", what, strings.TrimSpace(text), w)
		}
	}
}
