package cluster_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func TestOpenChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"127.0.0.1:1"}
	for _, c := range []struct {
		config cluster.Config
		says   string
	}{
		{cluster.Config{}, "no endpoint"},
		{cluster.Config{Endpoints: at, Username: "u"}, "without a password file"},
		{cluster.Config{Endpoints: at, PasswordFile: "f"}, "without a user name"},
		{cluster.Config{Endpoints: at, Username: "u", PasswordFile: "no such file"}, "no such file"},
		{cluster.Config{Endpoints: at, Username: "u", PasswordFile: empty}, "is empty"},
	} {
		_, err := cluster.Open(c.config)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: got %v, want %q", c.config, err, c.says)
		}
	}
}

func TestDefaultPrefix(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.start(t)
	raw := s.raw(t)
	for given, want := range map[string]string{"": "/kisgrid/", "/a": "/a/", "/b/": "/b/", "c": "c/"} {
		store, err := cluster.Open(cluster.Config{Endpoints: []string{s.address}, Prefix: given})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.PutDocuments(t.Context(), nil, []definition.Document{document("flow", "A", "a")}, nil); err != nil {
			t.Error(err)
		}
		if got, err := raw.Get(t.Context(), want+"config/flow/A"); err != nil || len(got.Kvs) != 1 {
			t.Errorf("prefix %q: nothing at %sconfig/flow/A: %v", given, want, err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWaitTellsForWhat(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.start(t)
	s.stop(t)
	log := newJournal()
	store := s.open(t, cluster.Config{Logger: log})
	told := make(chan error, 100)
	waited := make(chan error, 1)
	go func() { waited <- store.Wait(context.Background(), func(err error) { told <- err }) }()
	wantCode(t, <-told, batch.CodeUnavailable, s.address, "connection refused", "check that it runs")
	follower := followWorkers(t, store) // begun without etcd, too
	log.await(t, 1, "out of reach")
	s.start(t)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if n := len(told); n > 1 {
		t.Errorf("told %d more times: %v", n, <-told)
	}
	follower.await(t, "nobody", has())

	s.stop(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { waited <- store.Wait(ctx, func(err error) { told <- err }) }()
	<-told
	cancel()
	wantCode(t, <-waited, batch.CodeCancelled)
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wantCode(t, store.Wait(ctx, nil), batch.CodeDeadline)
}

// The roles are those that the deployment guide gives: a coordinator has the prefix, a worker workers/ below it.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.start(t)
	raw := s.raw(t)
	end := clientv3.GetPrefixRangeEnd
	for _, role := range []struct{ name, below string }{{"coordinator", prefix(t)}, {"worker", prefix(t) + "workers/"}, {"root", ""}} {
		if _, err := raw.RoleAdd(t.Context(), role.name); err != nil {
			t.Fatal(err)
		}
		if role.below != "" {
			if _, err := raw.RoleGrantPermission(t.Context(), role.name, role.below, end(role.below), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := raw.UserAdd(t.Context(), role.name, role.name+"'s password"); err != nil {
			t.Fatal(err)
		}
		if _, err := raw.UserGrantRole(t.Context(), role.name, role.name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := raw.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	password := func(text string) string {
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	coordinator := s.open(t, cluster.Config{Username: "coordinator", PasswordFile: password("coordinator's password")})
	worker := s.open(t, cluster.Config{Username: "worker", PasswordFile: password("worker's password")})
	wrong := s.open(t, cluster.Config{Username: "worker", PasswordFile: password("a guess")})
	nobody := s.open(t, cluster.Config{})

	workers := followWorkers(t, coordinator)
	flows := startFollowing(t, coordinator.FollowFlows)
	<-flows.states
	l := lead(t, coordinator, "c-1")
	if err := l.Activate(t.Context(), status("A", 1), entry("A", 1, workerA.Started)); err != nil {
		t.Error(err)
	}
	flows.await(t, "A", func(all []cluster.ActiveFlow) bool { return len(all) == 1 && all[0].Active != nil })
	if err := worker.Wait(t.Context(), nil); err != nil {
		t.Error(err)
	}
	r := register(t, worker, "a-1", leaseTime)
	workers.await(t, "the worker", has("a-1"))
	if err := r.Update(t.Context(), workerA); err != nil {
		t.Error(err)
	}
	_, err := worker.PutDocuments(t.Context(), nil, []definition.Document{document("flow", "A", "a")}, nil)
	wantCode(t, err, batch.CodeUnavailable, "permission denied", "grant the user's role")
	_, _, err = worker.Documents(t.Context())
	wantCode(t, err, batch.CodeUnavailable, "permission denied")
	for who, c := range map[*cluster.Store]string{wrong: "check the user name and the password file", nobody: "give a user name"} {
		ctx, cancel := context.WithCancel(t.Context())
		var reason error
		wantCode(t, who.Wait(ctx, func(err error) { reason = err; cancel() }), batch.CodeCancelled)
		wantCode(t, reason, batch.CodeUnavailable, c)
	}

	// Its tokens are gone with the process: everybody signs in again.
	s.stop(t)
	s.start(t)
	register(t, worker, "a-2", 0)
	workers.await(t, "the worker's next id", func(all map[string]cluster.Worker) bool { return all["a-2"].Name != "" })
	if err := l.PutStatus(t.Context(), status("A", 1)); err != nil {
		t.Error(err)
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{s.address}, Username: "root", Password: "root's password"})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := root.AuthDisable(t.Context()); err != nil { // for the cleanups
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.start(t)
	// The certificate of a test server is for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	listen, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	p := testprocess.StartLineOn(t, s.address, listen)
	store := s.open(t, cluster.Config{Endpoints: []string{p.Address()}, TLS: &tls.Config{RootCAs: roots}})
	if err := store.Wait(t.Context(), nil); err != nil {
		t.Error(err)
	}
	stranger := s.open(t, cluster.Config{Endpoints: []string{p.Address()}, TLS: &tls.Config{RootCAs: x509.NewCertPool()}})
	_, _, err = stranger.Documents(t.Context())
	wantCode(t, err, batch.CodeUnavailable, "unknown authority")
}

// An etcd that accepts connections and says nothing costs the time given, no more.
func TestSilentEtcd(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := &server{address: silent.Addr().String()}
	store := s.open(t, cluster.Config{Timeout: 50 * time.Millisecond})
	_, _, err = store.Documents(t.Context())
	wantCode(t, err, batch.CodeUnavailable, "no answer within 50ms", s.address)
	_, err = store.RegisterWorker(t.Context(), workerA, 0)
	wantCode(t, err, batch.CodeUnavailable, "no answer within 50ms")
}
