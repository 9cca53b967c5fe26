package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// prefix is the prefix of all keys of this cluster in the shared etcd.
const prefix = "/teams/blue/grid/"

// secured is an etcd that speaks TLS. After its method secure has run, it also asks for a user and a password.
type secured struct {
	t                  *testing.T
	address, dir       string
	cert, key, ca      string // paths of the certificate, its key, and the authority's certificate
	coordinator, other string // paths of the password files of coordinators and of workers
	stop               func()
}

// startSecured starts the etcd. Its tokens expire within the test.
func startSecured(t *testing.T) *secured {
	t.Helper()
	files := t.TempDir()
	e := &secured{t: t, address: testprocess.Address(t), dir: t.TempDir()}
	for name, file := range map[string]*string{"cert.pem": &e.cert, "key.pem": &e.key, "ca.pem": &e.ca} {
		*file = filepath.Join(files, name)
	}
	e.coordinator, e.other = e.write(files, "coordinator.password", "for coordinators\n"), e.write(files, "worker.password", "for workers\n")
	e.issue()
	e.start()
	return e
}

// write writes a file and returns its path.
func (e *secured) write(dir, name, text string) string {
	e.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	return path
}

// issue makes a new authority, and a certificate for etcd from it.
func (e *secured) issue() {
	e.t.Helper()
	authority, authorityKey := e.certificate(nil, nil)
	server, serverKey := e.certificate(authority, authorityKey)
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		e.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		e.ca: {Type: "CERTIFICATE", Bytes: authority.Raw}, e.cert: {Type: "CERTIFICATE", Bytes: server.Raw}, e.key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
}

// certificate makes a certificate: that of a new authority where authority is nil, else a server's certificate that the authority
// signs.
func (e *secured) certificate(authority *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	e.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		e.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if authority == nil {
		authority, by = c, key
	} else {
		c.Subject.CommonName, c.IsCA, c.KeyUsage = "etcd", false, x509.KeyUsageDigitalSignature
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, authority, &key.PublicKey, by)
	if err != nil {
		e.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		e.t.Fatal(err)
	}
	return made, key
}

// start starts etcd with the current certificate.
func (e *secured) start() {
	e.t.Helper()
	e.stop = testprocess.StartEtcd(e.t, "https://"+e.address, e.dir, func() (io.Closer, error) {
		return devcluster.StartEtcd(e.t.Context(), devcluster.EtcdConfig{Address: e.address, DataDir: e.dir, TLSCert: e.cert, TLSKey: e.key})
	}, "--cert-file", e.cert, "--key-file", e.key, "--auth-token-ttl", "3")
}

// client connects to etcd as a user. With an empty user it does not sign in.
func (e *secured) client(user, password string) *clientv3.Client {
	e.t.Helper()
	text, err := os.ReadFile(e.ca)
	if err != nil {
		e.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	ctx, cancel := context.WithTimeout(e.t.Context(), testprocess.Patience)
	e.t.Cleanup(cancel)
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + e.address}, TLS: &tls.Config{RootCAs: roots}, Username: user, Password: password,
		Context: ctx, DialTimeout: testprocess.Patience, Logger: zap.NewNop(),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Close() })
	return c
}

// secure makes the users and roles that docs/operating.md describes, with etcdctl where it is installed.
func (e *secured) secure() {
	e.t.Helper()
	testprocess.Until(e.t, "etcd answers", func() error { _, err := e.client("", "").Get(e.t.Context(), "a"); return err })
	users := map[string]struct{ password, prefix string }{
		"kisgrid-coordinator": {"for coordinators", prefix}, "kisgrid-worker": {"for workers", prefix + "workers/"},
	}
	if _, err := exec.LookPath("etcdctl"); err == nil {
		e.t.Setenv("ETCDCTL_API", "3")
		etcdctl := func(args ...string) {
			e.t.Helper()
			testprocess.MustRun(e.t, testprocess.Config{}, "etcdctl", append([]string{"--endpoints", "https://" + e.address, "--cacert", e.ca}, args...)...)
		}
		etcdctl("user", "add", "root:the root")
		etcdctl("user", "grant-role", "root", "root")
		for name, u := range users {
			etcdctl("role", "add", name)
			etcdctl("role", "grant-permission", "--prefix=true", name, "readwrite", u.prefix)
			etcdctl("user", "add", name+":"+u.password)
			etcdctl("user", "grant-role", name, name)
		}
		etcdctl("auth", "enable")
		return
	}
	e.t.Log("etcdctl is not installed: etcd's client takes its place")
	c, ctx := e.client("", ""), e.t.Context()
	var err error
	do := func(what error) {
		if err == nil {
			err = what
		}
	}
	_, failed := c.RoleAdd(ctx, "root")
	do(failed)
	_, failed = c.UserAdd(ctx, "root", "the root")
	do(failed)
	_, failed = c.UserGrantRole(ctx, "root", "root")
	do(failed)
	for name, u := range users {
		_, failed = c.RoleAdd(ctx, name)
		do(failed)
		_, failed = c.RoleGrantPermission(ctx, name, u.prefix, clientv3.GetPrefixRangeEnd(u.prefix), clientv3.PermissionType(authpb.READWRITE))
		do(failed)
		_, failed = c.UserAdd(ctx, name, u.password)
		do(failed)
		_, failed = c.UserGrantRole(ctx, name, name)
		do(failed)
	}
	_, failed = c.AuthEnable(ctx)
	do(failed)
	if err != nil {
		e.t.Fatal(err)
	}
}

// TestSharedEtcd runs a cluster in a part of an etcd that others use too. The etcd speaks TLS and asks for users, and each user may
// do only what its processes need. The cluster keeps running when its tokens expire, and when etcd comes back with a certificate of
// another authority.
func TestSharedEtcd(t *testing.T) {
	e := startSecured(t)
	e.secure()
	g := newGrid(t)
	g.Etcd = e.address
	testgrid.StartRedis(t, g.Redis)
	flags := func(user, password string) []string {
		return []string{"--etcd-prefix", prefix, "--etcd-tls-ca", e.ca, "--etcd-username", user, "--etcd-password-file", password}
	}
	g.Coordinator.Flags, g.Worker.Flags = flags("kisgrid-coordinator", e.coordinator), flags("kisgrid-worker", e.other)
	g.AddCoordinator().Start().Ready()
	g.StartWorker("w1")
	g.AwaitWorkers(1)
	if out := g.MustKisgrid("", "apply", "-f", conf); !strings.Contains(out, "flow CalStuAvgScore12: active, taken by 1 of 1 workers") {
		t.Errorf("apply prints:\n%s", out)
	}
	row := "{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n"
	if out := g.MustKisgrid(row, "submit", "CalStuAvgScore12", "--results"); out != "{\"stu_id\":101,\"avg_score\":95}\n" {
		t.Errorf("submit prints:\n%s", out)
	}

	// No user may read or write other keys.
	for user, keys := range map[string][]string{
		"kisgrid-worker":      {prefix + "config/flow/CalStuAvgScore12", prefix + "status/flow/CalStuAvgScore12", prefix + "leader/", "/teams/blue/other"},
		"kisgrid-coordinator": {"/teams/blue/other", "/kisgrid/config/flow/CalStuAvgScore12"},
	} {
		password := map[string]string{"kisgrid-worker": "for workers", "kisgrid-coordinator": "for coordinators"}[user]
		c := e.client(user, password)
		for _, key := range keys {
			if _, err := c.Put(t.Context(), key, "x"); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s writes %s: %v", user, key, err)
			}
			if _, err := c.Get(t.Context(), key); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s reads %s: %v", user, key, err)
			}
		}
		_ = c.Close()
	}

	// etcd comes back with a certificate of another authority, and knows none of the old tokens.
	e.stop()
	e.issue()
	e.start()
	flow := "kistype: flow\nstatus: 1\nflow_name: CalStuAvgScore12\nshard_key: stu_id\nflows:\n  - fname: AvgStuScore12\n  - fname: PrintStuAvgScore\n"
	testprocess.Until(t, "a change after etcd came back with another certificate", func() error {
		code, out, log := g.Kisgrid(flow, "apply", "-f", "-", "--timeout", "10s")
		if code != 0 {
			return &told{out + log}
		}
		return nil
	})
	if out := g.MustKisgrid("{\"stu_id\":5000,\"score_1\":2,\"score_2\":4}\n", "submit", "CalStuAvgScore12", "--results"); out != "{\"stu_id\":5000,\"avg_score\":3}\n" {
		t.Errorf("after the change submit prints:\n%s", out)
	}
	// Tokens last 3 s where the installed etcd runs. Watches and leases renew theirs too.
	time.Sleep(4 * time.Second)
	if out := g.MustKisgrid("", "apply", "-f", conf); !strings.Contains(out, "flow CalStuAvgScore12: active, taken by 1 of 1 workers") {
		t.Errorf("apply after the tokens' end prints:\n%s", out)
	}
	testprocess.Until(t, "the worker is there after the tokens' end", func() error {
		if out := g.MustKisgrid("", "get", "workers"); !strings.Contains(out, "w1-") {
			return &told{out}
		}
		return nil
	})

	// A wrong password is reported, with what to do about it.
	g.Worker.Flags = flags("kisgrid-worker", e.coordinator)
	wrong := g.StartWorker("w2")
	wrong.Await(`check the user name and the password file`)
}

// told is an error whose text is the output of a command.
type told struct{ text string }

func (e *told) Error() string { return e.text }
