package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// here describes a certificate for this machine: for localhost and 127.0.0.1.
var here = authority.Leaf{Hosts: []string{"127.0.0.1", "localhost"}}

// newAuthority makes an authority whose certificates are valid for an hour.
func newAuthority(t *testing.T, name string) *authority.Authority {
	t.Helper()
	a, err := authority.New(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue writes a certificate that one authority signs, and the certificate of the authority to trust, into a new folder.
func issue(t *testing.T, by, trusted *authority.Authority, l authority.Leaf) authority.Files {
	t.Helper()
	dir := t.TempDir()
	f, err := by.Write(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, f.CA, trusted.PEM())
	return f
}

// flags are the command line flags for those of the files that are not empty.
func flags(prefix string, f authority.Files, more ...string) []string {
	for name, file := range map[string]string{"cert": f.Cert, "key": f.Key, "ca": f.CA} {
		if file != "" {
			more = append(more, "--"+prefix+"tls-"+name, file)
		}
	}
	return more
}

// fault is a wrong configuration of TLS: the files of the client, and what the logs of both sides must say.
type fault struct {
	files    authority.Files
	name     string // the name that the client expects in the server's certificate
	dialling string // a text that the client's error must have
	serving  string // a text that the server's log must have
}

// faults returns the wrong configurations of TLS, by name. ours is the authority that the servers trust.
func faults(t *testing.T, ours *authority.Authority) map[string]fault {
	theirs := newAuthority(t, "theirs")
	expired := here
	expired.NotAfter = time.Now().Add(-time.Minute)
	good := issue(t, ours, ours, here)
	return map[string]fault{
		"an authority that who dials does not know": {
			files: issue(t, ours, theirs, here), dialling: "the server's certificate comes from an authority that is not in", serving: "the client refuses this server's certificate",
		},
		"an authority that the server does not know": {
			files: issue(t, theirs, ours, here), dialling: "the server refuses this process's certificate", serving: "the client's certificate comes from an authority that is not in",
		},
		"expired": {
			files: issue(t, ours, ours, expired), dialling: "the server refuses this process's certificate", serving: "the client's certificate is valid only from",
		},
		"another name": {
			files: good, name: "elsewhere", dialling: "the server's certificate is for another name", serving: "the client refuses this server's certificate",
		},
		"no certificate": {
			files: authority.Files{CA: good.CA}, dialling: "the server asks for a certificate: give one with --", serving: "the client shows no certificate",
		},
		"plaintext": {dialling: "it speaks only TLS", serving: "the client does not speak TLS"},
	}
}

// TestTLSFaults lets each program dial each listener in each wrong way. The messages of both sides must say what is wrong and how to
// correct it.
func TestTLSFaults(t *testing.T) {
	ours := newAuthority(t, "ours")
	good := issue(t, ours, ours, here)
	plain, secured := testprocess.Address(t), testprocess.Address(t)
	testgrid.StartEtcd(t, plain, t.TempDir())
	etcd, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{Address: secured, TLSCert: good.Cert, TLSKey: good.Key, TLSCA: good.CA})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	serving := []string{"--http", "", "--listen", "127.0.0.1:0", "--etcd"}
	mutual := flags("", good, "--tls-require-client-cert", "--lease", lease)

	address := testprocess.Address(t)
	coordinator := testprocess.Start(t, testprocess.Config{}, "coordinator", append(mutual, "--http", "", "--listen", address, "--etcd", plain)...)
	coordinator.Await(`ready:`)
	worker := testprocess.Start(t, testprocess.Config{}, "worker", append(append(mutual, serving...), plain, "--name", "w")...)
	worker.Await(`session began`)

	for name, f := range faults(t, ours) {
		named := func(prefix string) []string {
			if f.name == "" {
				return flags(prefix, f.files)
			}
			return flags(prefix, f.files, "--"+prefix+"tls-server-name", f.name)
		}
		t.Run("kisgrid, "+name, func(t *testing.T) {
			testprocess.Until(t, "the coordinator tells too", func() error { // the coordinator logs at most one refusal a second
				code, _, log := testprocess.Run(t, testprocess.Config{}, "kisgrid", append(named(""), "get", "flows", "--server", address)...)
				if code == 0 || !strings.Contains(log, f.dialling) {
					t.Errorf("it ends with %d and says\n%s\nnot %q", code, log, f.dialling)
				}
				if log := coordinator.Log(); !strings.Contains(log, f.serving) {
					return &told{log}
				}
				return nil
			})
		})
		t.Run("SDK, "+name, func(t *testing.T) {
			c, err := client.Dial(address, client.WithTLSFiles(f.files.CA, f.files.Cert, f.files.Key), client.WithTLSServerName(f.name), client.WithRetryFor(0))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Submit(t.Context(), "CalStuAvgScore12", client.Rows(students.Scores12{}))
			if err == nil || !strings.Contains(err.Error(), f.dialling) {
				t.Errorf("got %v, want %q", err, f.dialling)
			}
		})
		t.Run("coordinator to worker, "+name, func(t *testing.T) {
			stranger := testprocess.Start(t, testprocess.Config{Name: "stranger"}, "coordinator", append(append(named(""), serving...), plain, "--lease", lease)...)
			if f.files.CA != "" && f.files.Cert == "" {
				stranger.Await("--tls-ca alone does not make a listener speak TLS") // so the program ends before it dials
				return
			}
			stranger.Await(f.dialling)
			worker.Await(f.serving)
			stranger.Stop()
		})
		for _, program := range []string{"coordinator", "worker"} {
			t.Run(program+" to etcd, "+name, func(t *testing.T) {
				endpoint, told := secured, f.dialling
				if f.files.CA == "" {
					told = "waiting for etcd" // etcd's client says no more, because TLS never begins
				}
				stranger := testprocess.Start(t, testprocess.Config{Name: "stranger"}, program, append(append(named("etcd-"), serving...), endpoint)...)
				stranger.Await(told)
				stranger.Stop()
			})
		}
	}
}

// TestTLSRotation changes a cluster under load from one authority to another. Nothing is refused, and nothing is sent twice.
func TestTLSRotation(t *testing.T) {
	old, next := newAuthority(t, "old"), newAuthority(t, "next")
	both := append(append([]byte(nil), old.PEM()...), next.PEM()...)
	files := issue(t, old, old, here)
	replace(t, files.CA, both) // all processes, etcd too, trust the new authority before it has signed a certificate that is used
	secure := transport.Config{TLSCert: files.Cert, TLSKey: files.Key, TLSCA: files.CA, RequireClientCert: true}
	c, err := devcluster.Start(t.Context(), devcluster.Config{Coordinators: 2, Workers: 2, Register: students.Register, TLS: secure})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, docs, err := definition.Load(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Put(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, n := range c.Coordinators() {
		addresses = append(addresses, n.Address())
	}
	target := strings.Join(addresses, ",")
	dial := func(f authority.Files) *client.Client {
		t.Helper()
		k, err := client.Dial(target, client.WithTLSFiles(f.CA, f.Cert, f.Key), client.WithRetryFor(0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		return k
	}
	submit := func(k *client.Client) error {
		_, err := k.Submit(t.Context(), "CalStuAvgScore12", client.Rows(students.Scores12{ID: 1, Score1: 2, Score2: 4}))
		return err
	}
	first := dial(files)
	testprocess.Until(t, "the flow runs", func() error { return submit(first) })

	// The load is one stream, opened before everything else. No batch of it may fail.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	rows := make(chan int, 1)
	go func() {
		sent := 0
		defer func() { rows <- sent }()
		stream, err := first.Stream(ctx, "CalStuAvgScore12")
		for ; err == nil && ctx.Err() == nil; sent++ {
			var pending *client.Pending
			batch := client.Rows(students.Scores12{ID: sent % 1000, Score1: 2, Score2: 4}, students.Scores12{ID: (sent + 1) % 1000, Score1: 2, Score2: 4})
			if pending, err = stream.Send(context.WithoutCancel(ctx), batch); err != nil {
				break
			}
			var r *client.Result
			if r, err = pending.Wait(context.WithoutCancel(ctx)); err == nil && len(r.NotDone) > 0 {
				t.Errorf("batch %d: %v", sent, r.NotDone)
			}
		}
		if err != nil && ctx.Err() == nil {
			t.Errorf("after %d batches: %v", sent, err)
		}
	}()

	cert, key, err := next.Issue(here)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, files.Cert, cert) // for a moment the certificate does not fit the key
	replace(t, files.Key, key)
	replace(t, files.CA, next.PEM())
	stranger := issue(t, old, next, here)
	testprocess.Until(t, "certificates of the old authority are refused", func() error {
		k := dial(stranger)
		defer k.Close()
		switch err := submit(k); {
		case err == nil:
			return &told{"it is still trusted"}
		case !strings.Contains(err.Error(), "the server refuses this process's certificate"):
			return err
		}
		return nil
	})
	if err := submit(dial(files)); err != nil {
		t.Errorf("a client with the new certificate: %v", err)
	}
	// Connections that are made from now on use the new certificates only.
	if _, err := c.StartWorker(devcluster.WorkerConfig{Name: "worker-3"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Await(t.Context(), 3); err != nil {
		t.Error(err)
	}
	stop()
	if n := <-rows; n == 0 {
		t.Error("there was no load")
	}
}

// replace replaces the content of a file.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	(&secured{t: t}).write(filepath.Dir(path), filepath.Base(path), string(content))
}
