package coordinator

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestNew(t *testing.T) {
	t.Parallel()
	store, err := cluster.Open(cluster.Config{Endpoints: []string{SharedEtcd}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for says, c := range map[string]Config{
		"Store and Listener": {Store: store},
		"--tls-ca":           {Store: store, Listener: listener, Transport: transport.Config{TLSCA: "ca.crt"}},
		"does not hold one":  {Store: store, Listener: listener, Budget: 1 << 20},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error that says %q", err, says)
		}
	}
	// What holds is told, not what is configured: zero is a default, and a message must fit in four times.
	c, err := New(Config{Store: store, Listener: listener, Limits: batch.Limits{BatchBytes: 64 << 20}, Transport: transport.Config{ReceiveBytes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Budgets(); got < (96+4*64)<<20 {
		t.Errorf("its budgets are %d MiB", got>>20)
	}
}

// TestDrain ends a coordinator with rows under way: they end, nothing new is taken, and its key goes.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	watcher := r.peer()
	w := r.newWorker("w", "echo").register()
	var s *workerSession
	for range 2 {
		// Each coordinator opens a session; the test plays the one with the coordinator that drains.
		if k := w.session().welcome(false, 0); k.hello.GetCoordinator() == r.c.ID() {
			s = k
		}
	}
	r.whole()
	r.owns("W", 1)
	busy, idle := r.open("W"), r.open("W")
	busy.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(2)})
	parts := []*pb.Part{s.part(), s.part()}

	drained := make(chan error, 2)
	go func() { drained <- r.c.Drain(t.Context()) }()
	wantCode(t, idle.ends(), batch.CodeShutdown, "another coordinator")
	go func() { drained <- r.c.Drain(t.Context()) }()
	busy.submit(&pb.Submission{Sequence: 2, Rows: rows(3)}) // comes too late, and is not taken
	if _, err := r.tryOpen(batch.NewStreamID(), "W"); err == nil {
		t.Error("a new stream was opened")
	}
	quiet(t, "the drain is over before the rows are", drained)
	late, err := r.c.ingest.Submit(t.Context(), &pb.SubmitRequest{Flow: "W", Submission: &pb.Submission{Sequence: 7, Rows: rows(4)}}) // a call that had come in
	if err != nil || late.GetAnswer().GetSequence() != 7 || !late.GetAnswer().GetLast() {
		t.Errorf("a call during the drain is answered %v, %v", late, err)
	}
	wantCode(t, wire.ToError(late.GetAnswer().GetRefused()), batch.CodeShutdown, "another coordinator")
	for _, p := range parts {
		s.done(p)
	}
	if a := busy.answer(); a.GetSequence() != 1 || !a.GetLast() {
		t.Errorf("answered %v", a)
	}
	wantCode(t, busy.ends(), batch.CodeShutdown, "another coordinator")
	r.answered(call)
	for range 2 {
		if err := within(t, "the drain is over", drained); err != nil {
			t.Error(err)
		}
	}
	until(t, "its key is gone", func() bool {
		_, there := watcher.c.fleet.Coordinators()[r.c.ID()]
		return !there
	})
	quiet(t, "a part came", s.parts)
	if err := r.c.Drain(t.Context()); err != nil {
		t.Errorf("a drain after the end: %v", err)
	}
}

// TestDrainTooSlow cuts off what does not end in time.
func TestDrainTooSlow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	c := r.open("W")
	c.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(2)})
	s.part()
	s.part()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.c.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the drain ended with %v", err)
	}
	if err := c.ends(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if u := within(t, "the call ends", call); u.err == nil {
		t.Errorf("the call was answered %v", u.answer)
	}
}

// TestStop ends a coordinator at once: clients are told to go elsewhere.
func TestStop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	c := r.open("W")
	c.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(2)})
	s.part()
	s.part()
	r.stop()
	for _, err := range []error{c.ends(), within(t, "the call ends", call).err} {
		if code := batch.CodeOf(fromStatus(err)); !code.Retryable() {
			t.Errorf("ended with %v, which does not send the client elsewhere", err)
		}
	}
	r.end()
	if err := r.c.AwaitWorkers(t.Context(), 5); batch.CodeOf(err) != batch.CodeShutdown {
		t.Errorf("who waits for workers is told %v", err)
	}
}

// TestStopBeforeReady ends a coordinator that waits for its etcd. Until then it says what it waits for.
func TestStopBeforeReady(t *testing.T) {
	t.Parallel()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := free.Addr().String()
	_ = free.Close()
	pages, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, prefix: "/away/", etcd: away}
	r.start(func(c *Config) { c.HTTP, c.Build = pages, "v1.2.3+0123456789ab" })
	u := within(t, "an answer", r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)}))
	if u.err != nil { // an error of this code would leave open whether rows ran
		t.Errorf("the call ended with %v", u.err)
	}
	wantCode(t, wire.ToError(u.answer.GetRefused()), batch.CodeUnavailable, "from etcd yet")
	_, err = r.tryOpen(batch.NewStreamID(), "W")
	wantCode(t, err, batch.CodeUnavailable, "from etcd yet")
	_, err = pb.NewAdminClient(r.conn).Get(t.Context(), &pb.GetRequest{Kind: "flows"})
	wantCode(t, err, batch.CodeUnavailable, away)
	// Which build it is, it knows without etcd.
	v, err := pb.NewAdminClient(r.conn).Version(t.Context(), &pb.VersionRequest{})
	if err != nil || v.GetId() != r.c.id || v.GetVersion() != "v1.2.3" || v.GetCommit() != "0123456789ab" || v.GetGo() == "" || v.GetPlatform() == "" {
		t.Errorf("asked for its version it says %v, %v", v, err)
	}
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable, "/metrics": http.StatusOK} {
		if status, body := get(t, "http://"+pages.Addr().String()+path); status != want {
			t.Errorf("%s answers %d: %s", path, status, body)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.c.AwaitWorkers(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits for workers is told %v", err)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestBrokenListener ends Run with an error that nobody asked for.
func TestBrokenListener(t *testing.T) {
	t.Parallel()
	store, err := cluster.Open(cluster.Config{Endpoints: []string{SharedEtcd}, Prefix: "/broken/"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	c, err := New(Config{Store: store, Listener: listener})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("Run returned %v", err)
	}
}

// TestRecord looks at what a coordinator tells of itself: addresses that others can dial.
func TestRecord(t *testing.T) {
	t.Parallel()
	pages, err := serve.Listen(t.Context(), nil, ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(pages.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *Config) { c.Advertise, c.HTTP = "grid.example:80", pages })
	until(t, "the record is there", func() bool { return len(r.c.fleet.Coordinators()) == 1 })
	got := r.c.fleet.Coordinators()[r.c.ID()]
	if got.Address != "grid.example:80" || got.HTTP != "grid.example:"+port || got.Build != "test" {
		t.Errorf("the record is %+v", got)
	}
	if status, body := get(t, "http://127.0.0.1:"+port+"/readyz"); status != http.StatusOK {
		t.Errorf("readyz answers %d: %s", status, body)
	}
	if _, body := get(t, "http://127.0.0.1:"+port+"/metrics"); !strings.Contains(body, "kisgrid_coordinator_leader") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics are %s", body)
	}
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7702}
	if got := serve.HTTPAddress(local, "grid.example:80"); got != "127.0.0.1:7702" {
		t.Errorf("a listener of its own host is told as %s", got)
	}
}

// TestTLS runs rows where coordinator and worker both ask for certificates: of clients, and of each other.
func TestTLS(t *testing.T) {
	t.Parallel()
	secure := certificates(t)
	r := newRig(t, func(c *Config) { c.Transport = secure })
	_, s := r.join("w") // whose server asks too
	r.whole()
	r.owns("W", 1)
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.done(s.part())
	r.answered(call)
	for name, c := range map[string]transport.Config{"plaintext": {}, "no certificate": {TLSCA: secure.TLSCA}} {
		conn, err := transport.Dial(r.config.Listener.Addr().String(), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pb.NewAdminClient(conn).Get(t.Context(), &pb.GetRequest{Kind: "flows"}); err == nil {
			t.Errorf("a client with %s was let in", name)
		}
		_ = conn.Close()
	}
}

// certificates makes a certificate for 127.0.0.1 that is its own authority.
func certificates(t *testing.T) transport.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := transport.Config{TLSCert: filepath.Join(dir, "tls.crt"), TLSKey: filepath.Join(dir, "tls.key"), TLSCA: filepath.Join(dir, "tls.crt"), RequireClientCert: true}
	for path, block := range map[string]*pem.Block{c.TLSCert: {Type: "CERTIFICATE", Bytes: der}, c.TLSKey: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestDrainEndsApply: whoever waits for a rollout does not hold up the end.
func TestDrainEndsApply(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.newWorker("silent", "echo").register() // never answers the handshake, so the flow is being applied for ever
	until(t, "the worker is known", func() bool { return len(r.c.fleet.Workers(t.Context())) == 1 })
	apply := r.apply(false, flowDocument("W", "", "echo"), funcDocument("echo"))
	if d := apply.next().GetDiff(); d.GetRevision() == 0 {
		t.Fatalf("applied %v", d)
	}
	if p := apply.next().GetProgress(); p.GetState() != cluster.StateApplying {
		t.Errorf("progress is %v", p)
	}
	rollout, err := pb.NewAdminClient(r.conn).Rollout(t.Context(), &pb.RolloutRequest{Flow: "W"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := rollout.Recv(); err != nil || p.GetState() != cluster.StateApplying {
		t.Fatalf("progress is %v, %v", p, err)
	}
	if err := r.c.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	wantCode(t, apply.ends(), batch.CodeShutdown, "kisgrid get flows")
	for err == nil { // further progress may come first
		_, err = rollout.Recv()
	}
	wantCode(t, fromStatus(err), batch.CodeShutdown, "kisgrid rollout status W")
}
