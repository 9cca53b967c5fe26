package worker

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// sessionless is a worker's service whose sessions end at once.
type sessionless struct{ pb.UnimplementedWorkerServer }

func (sessionless) Session(pb.Worker_SessionServer) error { return nil }

// TestCoordinatorsOnly dials a worker's port with the certificates of a coordinator, a client and a worker, all of one authority, and without
// one. Only the coordinator gets a session. And a coordinator refuses a server whose certificate is not that of a worker.
func TestCoordinatorsOnly(t *testing.T) {
	a, err := authority.New("grid", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "access.yml")
	if err := os.WriteFile(file, []byte("coordinators: [{san: coordinator.svc}]\nworkers: [{san: worker.svc}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := func(name string) transport.Config {
		f, err := a.Write(t.TempDir(), authority.Leaf{Hosts: []string{name, "127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		return transport.Config{TLSCert: f.Cert, TLSKey: f.Key, TLSCA: f.CA}
	}
	guard, err := access.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, ""} {
		w := Worker{config: Config{AccessFile: path, Registry: kis.NewRegistry()}}
		if got := w.record("w-1", "w", "w:7701").Guarded; got != (path != "") {
			t.Errorf("with the access file %q the record says %v", path, got)
		}
	}
	port := func(c transport.Config) string {
		config := Config{AccessFile: file, Transport: c, Logger: hclog.NewNullLogger()}
		only, err := config.coordinatorsOnly()
		if err != nil {
			t.Fatal(err)
		}
		server, err := serve.NewServer(c, only...)
		if err != nil {
			t.Fatal(err)
		}
		pb.RegisterWorkerServer(server, sessionless{})
		listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		t.Cleanup(func() { server.Stop(); <-served })
		return listener.Addr().String()
	}
	session := func(address string, c transport.Config) error {
		conn, err := transport.Dial(address, c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := pb.NewWorkerClient(conn).Session(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		return wire.FromStatus(err)
	}
	coordinator := files("coordinator.svc")
	coordinator.CheckServer = guard.CheckWorker
	worker, impostor := port(files("worker.svc")), port(files("client.svc"))
	anonymous := transport.Config{TLSCA: coordinator.TLSCA}
	for name, c := range map[string]struct {
		address string
		from    transport.Config
		code    batch.Code
		says    string
	}{
		"a coordinator":               {worker, coordinator, 0, "EOF"},
		"a client":                    {worker, files("client.svc"), batch.CodePermissionDenied, "client.svc"},
		"another worker":              {worker, files("worker.svc"), batch.CodePermissionDenied, "worker.svc"},
		"nobody":                      {worker, anonymous, batch.CodeUnauthenticated, "no certificate"},
		"a client poses as a worker":  {impostor, coordinator, batch.CodeUnavailable, "not a worker"},
		"a name that looks like one":  {worker, files("coordinator.svc.evil"), batch.CodePermissionDenied, "coordinator.svc.evil"},
		"a name in another case even": {worker, files("Coordinator.svc"), batch.CodePermissionDenied, "Coordinator.svc"},
	} {
		err := session(c.address, c.from)
		if err == nil || !strings.Contains(err.Error(), c.says) || c.code != 0 && batch.CodeOf(err) != c.code {
			t.Errorf("%s: got %v, want %v that says %q", name, err, c.code, c.says)
		}
	}
	for name, c := range map[string]transport.Config{"plaintext": {}, "no authority": {TLSCert: coordinator.TLSCert, TLSKey: coordinator.TLSKey}} {
		config := Config{AccessFile: file, Transport: c, Logger: hclog.NewNullLogger()}
		if _, err := config.coordinatorsOnly(); err == nil || !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: a worker starts with an access file: %v", name, err)
		}
	}
}

// heldSession is a stream of a coordinator that sends nothing. Its Recv ends when the test is over.
type heldSession struct {
	pb.Worker_SessionServer
	ctx  context.Context
	over <-chan struct{}
}

func (h heldSession) Context() context.Context { return h.ctx }

func (h heldSession) Recv() (*pb.CoordinatorMessage, error) {
	<-h.over
	return nil, io.EOF
}

// TestSessionOfALostCoordinator ends the context of a session as the interceptor does when the caller is not a coordinator any more. The session
// ends with that reason.
func TestSessionOfALostCoordinator(t *testing.T) {
	r := newRig(t, amount{})
	over := make(chan struct{})
	defer close(over)
	ctx, lose := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Session(heldSession{ctx: ctx, over: over}) }()
	lose(batch.Errorf(batch.CodeUnavailable, "not a coordinator any more"))
	if err := wire.FromStatus(<-ended); batch.CodeOf(err) != batch.CodeUnavailable || !strings.Contains(err.Error(), "not a coordinator any more") {
		t.Errorf("the session ended with %v", err)
	}
}
