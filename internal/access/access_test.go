package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// full is an access file with each of its keys. Its three verbs are the hashes of alice's token, of a token that has expired, and of the
// proxy's secret.
const full = `
roles:
  reader:
    - {flows: ["Pay*"], rights: [view, rows], mask: [card, customer.iban]}
  support:
    - {flows: [PayBack], rights: [rows]}
  all:
    - {flows: ["*"], rights: [view, rows, submit, operate, define, connect]}
identities:
  - {name: alice, roles: [reader], tokens: [{sha256: %s}]}
  - {name: late, roles: [all], tokens: [{sha256: %s, expires: 2020-01-01T00:00:00Z}]}
  - {name: payments, roles: [all], certificates: [{subject: "CN=payments,O=Shop"}]}
  - {name: refunds, roles: [reader, support], certificates: [{san: refunds.shop.svc}, {san: "spiffe://shop/refunds"}]}
  - {name: bob, roles: [reader], proxy_users: [bob@shop.example]}
proxy:
  user_header: X-Forwarded-User
  secret_sha256: %s
  certificates: [{san: proxy.shop.svc}]
coordinators: [{san: coordinator.svc}]
workers: [{san: worker.svc}]
`

// file writes an access file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// opened returns a guard with the file full, alice's token, the expired token and the proxy's secret.
func opened(t *testing.T) (g *Guard, alice, late, proxy string) {
	t.Helper()
	alice, aliceHash := NewToken()
	late, lateHash := NewToken()
	proxy, proxyHash := NewToken()
	g, err := Open(file(t, fmt.Sprintf(full, aliceHash, lateHash, proxyHash)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g, alice, late, proxy
}

// certificate makes a certificate with a subject and DNS names or URIs. Nobody has signed it.
func certificate(subject pkix.Name, names ...string) *x509.Certificate {
	c := &x509.Certificate{Subject: subject}
	for _, name := range names {
		if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			c.URIs = append(c.URIs, u)
		} else {
			c.DNSNames = append(c.DNSNames, name)
		}
	}
	return c
}

// call makes the context of a call with a verified certificate, which may be nil, and headers as pairs of name and value.
func call(c *x509.Certificate, header ...string) context.Context {
	p := &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5000}}
	if c != nil {
		p.AuthInfo = credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}}
	}
	return metadata.NewIncomingContext(peer.NewContext(context.Background(), p), metadata.Pairs(header...))
}

// TestWho finds callers by each of their proofs, and refuses each wrong proof with an error that says which one it is and nothing more.
func TestWho(t *testing.T) {
	g, alice, late, secret := opened(t)
	payments := certificate(pkix.Name{CommonName: "payments", Organization: []string{"Shop"}})
	refunds := certificate(pkix.Name{CommonName: "whatever"}, "other.svc", "spiffe://shop/refunds")
	proxy := certificate(pkix.Name{CommonName: "proxy"}, "proxy.shop.svc")
	old := certificate(pkix.Name{CommonName: "payments", Organization: []string{"Shop"}})
	old.NotAfter = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	unverified := call(nil)
	p, _ := peer.FromContext(unverified)
	p.AuthInfo = credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{payments}}}
	for name, c := range map[string]struct {
		ctx  context.Context
		want string // the caller's name; empty means an error
		says string
	}{
		"subject":                    {call(payments), "payments", ""},
		"alternative name":           {call(certificate(pkix.Name{}, "refunds.shop.svc")), "refunds", ""},
		"uri":                        {call(refunds), "refunds", ""},
		"token":                      {call(nil, "authorization", "Bearer "+alice), "alice", ""},
		"token in lower case scheme": {call(nil, "authorization", "bearer "+alice), "alice", ""},
		"token before certificate":   {call(payments, "authorization", "Bearer "+alice), "alice", ""},
		"proxy by certificate":       {call(proxy, "x-forwarded-user", "bob@shop.example"), "bob", ""},
		"proxy by secret":            {call(nil, "x-forwarded-user", "bob@shop.example", "x-kisgrid-proxy-secret", secret), "bob", ""},

		"nothing":                       {call(nil), "", "says nothing"},
		"no peer":                       {context.Background(), "", "says nothing"},
		"certificate nobody verified":   {unverified, "", "says nothing"},
		"foreign certificate":           {call(certificate(pkix.Name{CommonName: "payments"}, "x.svc")), "", `"CN=payments" and the names ["x.svc"]`},
		"more than the subject":         {call(certificate(pkix.Name{CommonName: "payments,O=Shop"})), "", "not in"},
		"longer subject":                {call(certificate(pkix.Name{CommonName: "payments", Organization: []string{"Shop", "Evil"}})), "", "not in"},
		"worker is no identity":         {call(certificate(pkix.Name{}, "worker.svc")), "", "not in"},
		"wrong token":                   {call(nil, "authorization", "Bearer "+alice+"x"), "", "not valid"},
		"wrong token, good certificate": {call(payments, "authorization", "Bearer nonsense"), "", "not valid"},
		"hash as token":                 {call(nil, "authorization", "Bearer "+HashToken(alice)), "", "not valid"},
		"empty token":                   {call(nil, "authorization", "Bearer "), "", "not valid"},
		"expired token":                 {call(nil, "authorization", "Bearer "+late), "", "expired at 2020-01-01"},
		"another kind":                  {call(nil, "authorization", "Basic "+alice), "", "Bearer"},
		"two tokens":                    {call(nil, "authorization", "Bearer "+alice, "authorization", "Bearer x"), "", "2 times"},
		"user without a proxy":          {call(nil, "x-forwarded-user", "bob@shop.example"), "", "from the proxy only"},
		"user beside own certificate":   {call(payments, "x-forwarded-user", "bob@shop.example"), "", "from the proxy only"},
		"wrong secret":                  {call(nil, "x-forwarded-user", "bob@shop.example", "x-kisgrid-proxy-secret", "x"), "", "from the proxy only"},
		"secret without a user":         {call(nil, "x-kisgrid-proxy-secret", secret), "", "names no user"},
		"two users":                     {call(proxy, "x-forwarded-user", "bob@shop.example", "x-forwarded-user", "eve"), "", "2 times"},
		"unknown user":                  {call(proxy, "x-forwarded-user", "eve"), "", `"eve" is not in`},
		"identity is no user":           {call(proxy, "x-forwarded-user", "alice"), "", `"alice" is not in`},
		"proxy for itself":              {call(proxy), "", "not in"},
		"expired while it was open":     {call(old), "", "expired at 2020-01-01"},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := g.Identify(c.ctx)
			switch {
			case c.want != "" && (err != nil || id.Name != c.want):
				t.Errorf("got %v and %v, want %s", id, err, c.want)
			case c.want == "" && (batch.CodeOf(err) != batch.CodeUnauthenticated || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v and %v, want UNAUTHENTICATED that says %q", id, err, c.says)
			case err != nil && (strings.Contains(err.Error(), alice) || strings.Contains(err.Error(), secret)):
				t.Errorf("the error has a secret in it: %v", err)
			}
		})
	}
}

// TestKindsOfNames: a name of a certificate counts only where it is one of its kind.
func TestKindsOfNames(t *testing.T) {
	link, err := url.Parse("coordinator.svc")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*x509.Certificate{
		"address of e-mail": {EmailAddresses: []string{"coordinator.svc"}},
		"URI":               {URIs: []*url.URL{link}},
		"host":              {DNSNames: []string{"10.0.0.1", "a@b.svc", "spiffe://a/b"}},
	} {
		for _, rule := range []string{"coordinator.svc", "10.0.0.1", "a@b.svc", "spiffe://a/b"} {
			if oneSelects([]certificateRule{{SAN: rule}}, c) {
				t.Errorf("the certificate with an odd %s counts as %s", name, rule)
			}
		}
	}
	good := &x509.Certificate{DNSNames: []string{"coordinator.svc"}, EmailAddresses: []string{"a@b.svc"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, URIs: []*url.URL{{Scheme: "spiffe", Host: "a", Path: "/b"}}}
	for _, rule := range []string{"coordinator.svc", "10.0.0.1", "a@b.svc", "spiffe://a/b"} {
		if !oneSelects([]certificateRule{{SAN: rule}}, good) {
			t.Errorf("the certificate does not count as %s", rule)
		}
	}
}

// TestRights looks at each right on flows inside and outside of a role's patterns.
func TestRights(t *testing.T) {
	g, alice, _, _ := opened(t)
	id, err := g.Identify(call(nil, "authorization", "Bearer "+alice))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rights() {
		may := r == View || r == Rows
		for flow, inside := range map[string]bool{"Pay": true, "PayBack": true, "pay": false, "Refund": false, "": false, "XPay": false} {
			if got := id.May(r, flow); got != (may && inside) {
				t.Errorf("May(%s, %q) is %v", r, flow, got)
			}
			if err := id.Need(r, flow); (err == nil) != (may && inside) || err != nil && batch.CodeOf(err) != batch.CodePermissionDenied {
				t.Errorf("Need(%s, %q) is %v", r, flow, err)
			}
		}
		if id.MayAll(r) || id.MaySome(r) != may {
			t.Errorf("%s: MayAll %v, MaySome %v", r, id.MayAll(r), id.MaySome(r))
		}
	}
	refunds, err := g.Identify(call(certificate(pkix.Name{}, "refunds.shop.svc")))
	if err != nil {
		t.Fatal(err)
	}
	if got := refunds.Masks("Pay"); strings.Join(got, " ") != "card customer.iban" {
		t.Errorf("of Pay are masked %q", got)
	}
	if got := refunds.Masks("PayBack"); len(got) != 0 {
		t.Errorf("of PayBack are masked %q, although one role hides nothing there", got)
	}
	if nobody := From(context.Background()); nobody.MaySome(View) {
		t.Error("a caller that nobody has looked at may do something")
	}
}

// TestPatterns compares names with patterns.
func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "Pay", true}, {"Pay", "Pay", true}, {"Pay", "Pays", false}, {"Pay*", "Pay", true}, {"Pay*", "XPay", false},
		{"*Pay", "XPay", true}, {"*Pay", "XPayX", false}, {"P*y", "Pay", true}, {"P*y", "Py", true}, {"P*y", "P", false}, {"a*b*c", "aXbYc", true},
		{"a*b*c", "abc", true}, {"a*b*c", "acb", false}, {"a*a", "a", false}, {"a**b", "ab", true}, {"P?y", "Pay", false}, {"", "", true}, {"[a]", "a", false},
		{"*ab", "aab", true}, {"a*ab", "ab", false},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("pattern %q, name %q: %v", c.pattern, c.name, got)
		}
	}
}

// TestWrongFiles refuses files with a mistake, and says where it is.
func TestWrongFiles(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	role := "roles: {r: [{flows: [A], rights: [view]}]}\n"
	for text, says := range map[string]string{
		"role: {}": "role",
		"":         "empty",
		"# roles:": "empty",
		"roles: {r: [{flows: [A], rights: [view], deny: [x]}]}":                                                         "deny",
		"roles: {r: [{flows: [], rights: [view]}]}":                                                                     "flows is empty",
		"roles: {r: [{flows: [A], rights: []}]}":                                                                        "rights is empty",
		"roles: {r: [{flows: [A], rights: [admin]}]}":                                                                   `no right "admin"`,
		"roles: {r: [{flows: [A], rights: [View]}]}":                                                                    `no right "View"`,
		"roles: {r: [{flows: [A], rights: [view], mask: [a]}]}":                                                         "mask",
		"roles: {r: [{flows: [A], rights: [rows], mask: [a..b]}]}":                                                      `"a..b"`,
		"roles: {r: []}\nroles: {}":                                                                                     "roles",
		role + "---\n" + role:                                                                                           "more than one document",
		role + "identities: [{name: a, roles: [r]}]":                                                                    "nobody could be it",
		role + "identities: [{name: '', tokens: [{sha256: x}]}]":                                                        "name",
		role + "identities: [{name: \"a\\nb\", proxy_users: [x]}]":                                                      "printable",
		role + "identities: [{name: a, tokens: [{sha256: secret}]}]":                                                    "not the token itself",
		role + "identities: [{name: a, roles: [x], tokens: [{sha256: " + hash + "}]}]":                                  `no role "x"`,
		role + "identities: [{name: a, tokens: [{sha256: " + hash + "}]}, {name: a, tokens: [{sha256: " + hash + "}]}]": "twice",
		role + "identities: [{name: a, tokens: [{sha256: " + hash + "}]}, {name: b, tokens: [{sha256: " + hash + "}]}]": `"a" already`,
		role + "identities: [{name: a, certificates: [{san: x}]}, {name: b, certificates: [{san: x}]}]":                 `"a" already`,
		role + "identities: [{name: a, certificates: [{san: x, subject: y}]}]":                                          "either subject or san",
		role + "identities: [{name: a, proxy_users: [b]}]":                                                              "add proxy",
		"proxy: {}":                     "everybody could send",
		"proxy: {secret_sha256: short}": "64 hexadecimal digits",
		"proxy: {secret_sha256: " + hash + ", user_header: authorization}":       "can't be the name",
		"proxy: {secret_sha256: " + hash + ", user_header: \"a b\"}":             "can't be the name",
		"proxy: {secret_sha256: " + hash + ", user_header: x, secret_header: X}": "the same",
		"workers: [{}]": "workers: certificate 1",
	} {
		if _, err := Open(file(t, text), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s\ngives %v, want an error that says %q", text, err, says)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a file that is not there was opened")
	}
	g, err := Open(file(t, "roles: {}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Identify(call(certificate(pkix.Name{CommonName: "x"}))); batch.CodeOf(err) != batch.CodeUnauthenticated {
		t.Errorf("a file without identities lets a caller in: %v", err)
	}
	if err := g.NeedProcesses(); err == nil {
		t.Error("a file without processes is enough for processes")
	}
}

// TestReload takes over a changed file, and stays with the earlier one while the file is wrong or gone.
func TestReload(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		secret, hash := NewToken()
		text := "roles: {r: [{flows: ['*'], rights: [view]}]}\nidentities: [{name: a, roles: [r], tokens: [{sha256: " + hash + "}]}]"
		path := file(t, text)
		g, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		known := func() bool {
			time.Sleep(recheck) // in the bubble's own time
			_, err := g.Identify(call(nil, "authorization", "Bearer "+secret))
			return err == nil
		}
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if !known() {
			t.Error("the token is not known at first")
		}
		write(text + "\nnonsense: 1")
		if !known() {
			t.Error("a wrong file took the rights away")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !known() {
			t.Error("a missing file took the rights away")
		}
		write("") // an editor empties a file before it writes it
		if !known() {
			t.Error("an empty file took the rights away")
		}
		write("roles: {}")
		if known() {
			t.Error("the token is known, although the file does not have it any more")
		}
		processes := "\ncoordinators: [{san: c}]\nworkers: [{san: w}]"
		write(text + processes)
		if !known() {
			t.Error("the token is not known again")
		}
		if err := g.NeedProcesses(); err != nil {
			t.Fatal(err)
		}
		write("roles: {}")
		if !known() || g.NeedProcesses() != nil {
			t.Error("a file without the processes, which may be half written, took rights away")
		}
	})
}

// TestMask hides fields wherever a function could read them, and keeps everything else.
func TestMask(t *testing.T) {
	masks := []string{"card", "customer.iban"}
	for row, want := range map[string]string{
		`{"id":9007199254740993,"card":"4111"}`:             `{"id":9007199254740993,"card":null}`,
		`{"CARD":"4111","Card":{"no":[1,2]}}`:               `{"CARD":null,"Card":null}`,
		`{"card":1,"card":2}`:                               `{"card":null,"card":null}`,
		`{"c\u0061rd":1}`:                                   `{"card":null}`,
		`{"customer":{"iban":"DE","name":"x"},"iban":"ok"}`: `{"customer":{"iban":null,"name":"x"},"iban":"ok"}`,
		`{"customer":[{"iban":"DE"},[{"iban":"DE"}],7]}`:    `{"customer":[{"iban":null},[{"iban":null}],7]}`,
		`{"other":{"card":1}}`:                              `{"other":{"card":1}}`,
		`[{"card":1}]`:                                      `[{"card":null}]`,
		`{"a":1.0e10,"b":true,"c":null,"d":[],"e":{}}`:      `{"a":1.0e10,"b":true,"c":null,"d":[],"e":{}}`,
		`"card"`: `"card"`,
	} {
		got, err := MaskJSON([]byte(row), masks)
		if err != nil || string(got) != want {
			t.Errorf("%s became %s and %v, want %s", row, got, err, want)
		}
	}
	for _, row := range []string{``, `{`, `{"card":`, `{"card" 1}`, `{} {}`, `{"a":1}x`, `{"card":1`, strings.Repeat("[", 1<<20), strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)} {
		if got, err := MaskJSON([]byte(row), masks); err == nil {
			t.Errorf("%.80s became %.80s, want an error", row, got)
		}
	}
	for field, want := range map[string]bool{"card": true, "Card": true, "customer": true, "customer.iban.x": true, "customer.name": false, "id": false} {
		if got := MasksField(masks, field); got != want {
			t.Errorf("MasksField(%s) is %v", field, got)
		}
	}
}

// TestKubernetesFile reads the file of the Kubernetes component, and checks what the certificates that the other components make may do.
func TestKubernetesFile(t *testing.T) {
	path := "../../deploy/k8s/components/access/access.yml"
	g, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.NeedProcesses(); err != nil {
		t.Error(err)
	}
	certificates, err := os.ReadFile("../../deploy/k8s/components/cert-manager/certificates.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"coordinator", "worker", "client", "deployer"} {
		if !strings.Contains(string(certificates), "secretName: "+name+"-tls\n") || !strings.Contains(string(file), "{san: "+name+"}") {
			t.Errorf("the certificate %s is not in both files", name)
		}
	}
	for name, rights := range map[string][]Right{"client": {View, Submit}, "deployer": {View, Define, Connect}, "worker": nil, "coordinator": nil} {
		who, err := g.Identify(call(certificate(pkix.Name{CommonName: name}, name)))
		if (err == nil) != (rights != nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, r := range Rights() {
			if may := err == nil && who.May(r, "Any"); may != slices.Contains(rights, r) {
				t.Errorf("%s may %v: %v", name, r, may)
			}
		}
	}
}

// streamOf is a stream with nothing but a context.
type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s streamOf) Context() context.Context { return s.ctx }

// TestProcessesLoseTheirPlace holds a coordinator's stream at a worker, and watches a worker's certificate, while the certificates are taken out
// of the file or expire. The stream's context ends, and the watch does, with an error that says why.
func TestProcessesLoseTheirPlace(t *testing.T) {
	const both = "coordinators: [{san: c.svc}]\nworkers: [{san: w.svc}]\n"
	for name, c := range map[string]struct {
		then  string        // the file after a minute
		after time.Duration // how long the certificates are valid; 0 means for ever
		says  string
	}{
		"taken out": {"coordinators: [{san: other.svc}]\nworkers: [{san: other.svc}]\n", 0, "not among the"},
		"expired":   {both, time.Minute, "has expired"},
		"renamed":   {"coordinators: [{san: c.svc.new}]\nworkers: [{san: w.svc.new}]\n", 0, "not among the"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				path := file(t, both)
				g, err := Open(path, nil)
				if err != nil {
					t.Fatal(err)
				}
				boss, worker := certificate(pkix.Name{}, "c.svc"), certificate(pkix.Name{}, "w.svc")
				if c.after > 0 {
					boss.NotAfter, worker.NotAfter = time.Now().Add(c.after), time.Now().Add(c.after)
				}
				ended := make(chan error, 2)
				go func() { ended <- g.WatchWorker(t.Context(), worker) }()
				go func() {
					ended <- g.CoordinatorsOnly()(nil, streamOf{ctx: call(boss)}, &grpc.StreamServerInfo{FullMethod: "/kisgrid.v1.Worker/Session"}, func(_ any, stream grpc.ServerStream) error {
						<-stream.Context().Done()
						return context.Cause(stream.Context())
					})
				}()
				time.Sleep(50 * time.Second) // in the bubble's own time
				select {
				case err := <-ended:
					t.Fatalf("it ended early: %v", err)
				default:
				}
				if err := os.WriteFile(path, []byte(c.then), 0o600); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := <-ended; batch.CodeOf(err) != batch.CodeUnavailable || !strings.Contains(err.Error(), c.says) {
						t.Errorf("it ended with %v, want UNAVAILABLE that says %q", err, c.says)
					}
				}
			})
		})
	}
	g, err := Open(file(t, both), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.WatchWorker(ctx, certificate(pkix.Name{}, "w.svc")); err != nil {
		t.Errorf("a watch that is given up ended with %v", err)
	}
}
