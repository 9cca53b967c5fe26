package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

func TestTLSAndUser(t *testing.T) {
	pair, ca := certificate(t)
	s := miniredis.NewMiniRedis()
	if err := s.StartTLS(&tls.Config{Certificates: []tls.Certificate{pair}}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.RequireUserAuth("worker", "secret")
	doc := document(s.Addr())
	doc.TLS, doc.Username, doc.PasswordFile = true, "worker", file(t, "secret\n")
	if _, err := Open(t.Context(), doc); batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the server's authority: %v", err)
	}
	doc.Params = map[string]string{"tls_ca": file(t, string(ca))}
	save(t, open(t, doc), set("k", "f", "v"))
	doc.PasswordFile = file(t, "wrong")
	if _, err := Open(t.Context(), doc); batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "correct username, password") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// TestTLSFaults tells what is wrong with TLS, and what mends it, as every dialer of the project does.
func TestTLSFaults(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	here, elsewhere := authority.Leaf{Hosts: []string{"127.0.0.1"}}, authority.Leaf{Hosts: []string{"elsewhere"}}
	expired := here
	expired.NotAfter = time.Now().Add(-time.Minute)
	files := func(a *authority.Authority, l authority.Leaf) authority.Files {
		f, err := a.Write(t.TempDir(), l)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	serve := func(l authority.Leaf) string {
		f := files(ours, l)
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ours.PEM())
		s := miniredis.NewMiniRedis()
		if err := s.StartTLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s.Addr()
	}
	plain := miniredis.RunT(t)
	good, stranger := files(ours, here), files(theirs, here)
	secured := serve(here)
	for name, c := range map[string]struct {
		address string
		params  map[string]string
		says    string // nothing: it opens
	}{
		"mutual":        {secured, map[string]string{"tls_ca": good.CA, "tls_cert": good.Cert, "tls_key": good.Key}, ""},
		"name given":    {serve(elsewhere), map[string]string{"tls_ca": good.CA, "tls_cert": good.Cert, "tls_key": good.Key, "tls_server_name": "elsewhere"}, ""},
		"wrong CA":      {secured, map[string]string{"tls_ca": stranger.CA, "tls_cert": good.Cert, "tls_key": good.Key}, "(tls_ca): add the authority to this file"},
		"stranger":      {secured, map[string]string{"tls_ca": good.CA, "tls_cert": stranger.Cert, "tls_key": stranger.Key}, "the server refuses this process's certificate"},
		"expired":       {serve(expired), map[string]string{"tls_ca": good.CA, "tls_cert": good.Cert, "tls_key": good.Key}, "the server's certificate is valid only from"},
		"wrong name":    {serve(elsewhere), map[string]string{"tls_ca": good.CA, "tls_cert": good.Cert, "tls_key": good.Key}, "give one with tls_server_name"},
		"none":          {secured, map[string]string{"tls_ca": good.CA}, "the server asks for a certificate: give one with tls_cert and tls_key"},
		"plain to TLS":  {secured, nil, "Redis"},
		"TLS to plain":  {plain.Addr(), map[string]string{"tls_ca": good.CA}, "it does not speak TLS"},
		"half of a key": {secured, map[string]string{"tls_ca": good.CA, "tls_cert": good.Cert}, "tls_cert and tls_key belong together"},
	} {
		doc := document(c.address)
		doc.Params = c.params
		connection, err := Open(t.Context(), doc)
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := connection.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
	}
}

func newAuthority(t *testing.T) *authority.Authority {
	t.Helper()
	a, err := authority.New("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// certificate makes a server's certificate for 127.0.0.1, and its authority, which is itself.
func certificate(tb testing.TB) (tls.Certificate, []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A user with the rights that docs/redis.md asks for, and no others, can do all, and is warned of nothing.
func TestDocumentedUser(t *testing.T) {
	text, err := os.ReadFile("../../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := func(from, to string) (all []any) {
		_, part, _ := strings.Cut(string(text), from)
		part, _, _ = strings.Cut(part, to)
		for _, command := range regexp.MustCompile("`([a-z|]+)`").FindAllStringSubmatch(part, -1) {
			all = append(all, "+"+command[1])
		}
		return all
	}
	single := rights("A user with restricted rights needs", "the keys under its prefix")
	for name, test := range map[string]struct {
		addrs  []string
		rights []any
		params map[string]string
	}{
		"single":  {[]string{startServer(t, "").addr}, single, map[string]string{"password": "secret", "db": "1"}},
		"cluster": {startCluster(t), append(slices.Clip(single), rights("A Cluster's user", ".")...), map[string]string{"password": "secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, addr := range test.addrs {
				client := goredis.NewClient(&goredis.Options{Addr: addr})
				defer client.Close()
				user := []any{"acl", "setuser", "worker", "on", ">secret", "resetchannels", "&kisgrid:*", "~stu_*", "~kisgrid:once:*", "~kisgrid:window", "-@all"}
				if err := client.Do(t.Context(), append(user, test.rights...)...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			log, lines := logged()
			doc := document(test.addrs...)
			doc.Key, doc.Username, doc.Params = "stu_", "worker", test.params
			useAll(t, openWith(t, Config{Logger: log, tick: 10 * time.Millisecond}, doc))
			log.Info("closed")
			for line := ""; !strings.Contains(line, "closed"); {
				if line = <-lines.lines; strings.Contains(line, "[WARN]") || strings.Contains(line, "does not let this user") {
					t.Errorf("warned: %s", line)
				}
			}
		})
	}
}

// useAll does all that a connection can do, and closes it.
func useAll(t *testing.T, c *Connection) {
	t.Helper()
	ctx := patient(t)
	woken := make(chan error, 1)
	go func() { woken <- await(ctx, c, "later", "never") }()
	cause := connector.Cause{Flow: "F", Function: "s", Born: time.Now()}
	cause.Batch.Stream[0] = 1
	for sequence := uint64(1); sequence < 200; sequence++ { // so many that what lies below the floor is dropped
		cause.Batch.Sequence, cause.Floor = sequence, sequence
		if verdicts, err := c.Save(ctx, cause, []connector.Effect{
			set("k", "f", "v"), {Op: connector.Incr, Key: "k", Field: "n", Value: "1", Command: 1}, {Op: connector.Incr, Key: "k", Field: "n", Value: "0.5", Command: 2},
			{Op: connector.Append, Key: "list", Value: "v", Command: 3}, {Op: connector.Delete, Key: "list", Command: 4}, set("later", "f", "v"),
		}); err != nil || verdicts != nil {
			t.Fatalf("batch %d: %v, %v", sequence, verdicts, err)
		}
	}
	if values, err := c.Load(ctx, []string{"k"}); err != nil || len(values[0].Fields) != 2 {
		t.Errorf("loaded %v, %v", values, err)
	}
	if err := <-woken; err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A user that may not publish or subscribe saves as ever, and waits with the re-check.
func TestRestrictedUser(t *testing.T) {
	s := startServer(t, "", strings.Fields("--user worker on >secret resetchannels ~stu_* ~kisgrid:once:* +@all -pubsub -publish --user default on nopass ~* &* +@all")...)
	log, lines := logged()
	doc := document(s.addr)
	doc.Key, doc.Username, doc.Params = "stu_", "worker", map[string]string{"password": "secret"}
	c := openWith(t, Config{Logger: log, tick: 10 * time.Millisecond}, doc)
	save(t, c, set("k", "f", "v"))
	if line := lines.await(t, "does not let this user publish"); !strings.Contains(line, "kisgrid:*") {
		t.Errorf("the warning does not say what to allow: %s", line)
	}
	waiting := make(chan error, 1)
	ctx := patient(t)
	go func() { waiting <- await(ctx, c, "later") }()
	save(t, open(t, document(s.addr)), set("stu_later", "f", "v"))
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	doc.Key = "other_"
	_, err := open(t, doc).Save(t.Context(), connector.Cause{}, []connector.Effect{set("k", "f", "v")})
	if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "keys under other_") {
		t.Errorf("a key that the user may not write: %v", err)
	}
}
