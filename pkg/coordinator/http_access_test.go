package coordinator

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
)

// secureRig is a coordinator with TLS, an access file and an HTTP port.
type secureRig struct {
	*rig
	authority *authority.Authority
	roots     *x509.CertPool
	url       string
	file      accessFile
}

// newSecureRig starts a secureRig. The certificate shop.svc may submit to the flow W, and the token of "viewer" may see it.
func newSecureRig(t *testing.T, change func(*Config)) *secureRig {
	t.Helper()
	a, err := authority.New("grid", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := &secureRig{authority: a, roots: x509.NewCertPool()}
	s.roots.AppendCertsFromPEM(a.PEM())
	own, err := a.Write(t.TempDir(), authority.Leaf{Hosts: []string{"127.0.0.1", "coordinator.svc"}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "https://" + listener.Addr().String()
	s.file.add("viewer", "W", []access.Right{access.View})
	s.file.add("sender", "W", []access.Right{access.Submit})
	path := s.file.write(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(string(text), "roles:\n", "roles:\n  shop: [{flows: [W], rights: [submit]}]\n", 1) +
		"  - {name: shop, roles: [shop], certificates: [{san: shop.svc}]}\n" +
		"  - {name: person, roles: [shop], proxy_users: [eve]}\n" +
		"proxy: {user_header: x-forwarded-user, certificates: [{san: proxy.svc}]}\n" +
		"coordinators: [{san: coordinator.svc}]\nworkers: [{san: worker.svc}]\n"
	if err := os.WriteFile(path, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	s.rig = newRig(t, func(c *Config) {
		c.HTTP, c.AccessFile = listener, path
		c.Transport = transport.Config{TLSCert: own.Cert, TLSKey: own.Key, TLSCA: own.CA}
		c.NoWorker = time.Millisecond // there is no worker: rows come back as failed
		if change != nil {
			change(c)
		}
	})
	return s
}

// client makes an HTTP client with a certificate for a name, or with none if the name is empty. by is the authority that issues it.
func (s *secureRig) client(by *authority.Authority, name string, http2 bool) *http.Client {
	s.t.Helper()
	config := &tls.Config{RootCAs: s.roots}
	if name != "" {
		files, err := by.Write(s.t.TempDir(), authority.Leaf{Hosts: []string{name}})
		if err != nil {
			s.t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		// It is shown also to a server that does not ask for one of its authority.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	carrier := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}
	s.t.Cleanup(carrier.CloseIdleConnections)
	return &http.Client{Transport: carrier}
}

// ask makes a request, with a body if it submits rows. It returns the answer and its protocol's major version; 0 if there is no answer.
func (s *secureRig) ask(c *http.Client, method, path string, headers ...string) (status int, text string, major int) {
	s.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{\"id\":1}\n")
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, err.Error(), 0
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(all), answer.ProtoMajor
}

// TestHTTPAccess makes requests over HTTPS as different callers, over HTTP/1.1 and HTTP/2: by certificates, tokens and a proxy's header. Rights
// hold as over gRPC, a refusal does not tell whether a flow exists, and a header that a caller forges is refused.
func TestHTTPAccess(t *testing.T) {
	t.Parallel()
	s := newSecureRig(t, nil)
	s.awaitActive("W", s.put(flowDocument("W", "", "echo", "status: 0"), flowDocument("Other", "", "echo", "status: 0"), funcDocument("echo")))
	stranger, err := authority.New("stranger", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(who string) []string { return []string{"Authorization", "Bearer " + s.file.tokens[who]} }
	const rows, see = "/v1/flows/W/rows", "/v1/resources/flows/W"
	for _, c := range []struct {
		name         string
		by           *authority.Authority
		certificate  string
		method, path string
		headers      []string
		status       int
		says         string
	}{
		{"a certificate with the right", s.authority, "shop.svc", "POST", rows, nil, 409, "FLOW_DISABLED"},
		{"for another flow", s.authority, "shop.svc", "POST", "/v1/flows/Other/rows", nil, 403, "PERMISSION_DENIED"},
		{"for no flow", s.authority, "shop.svc", "POST", "/v1/flows/None/rows", nil, 403, "PERMISSION_DENIED"},
		{"another right", s.authority, "shop.svc", "GET", see, nil, 403, "PERMISSION_DENIED"},
		{"nobody", nil, "", "POST", rows, nil, 401, "UNAUTHENTICATED"},
		{"a worker's certificate", s.authority, "worker.svc", "POST", rows, nil, 401, "UNAUTHENTICATED"},
		{"a coordinator's certificate", s.authority, "coordinator.svc", "POST", rows, nil, 401, "UNAUTHENTICATED"},
		// There is no answer. Its error is not always about the certificate: the server may close the connection while the client still writes.
		{"another authority", stranger, "shop.svc", "POST", rows, nil, 0, ""},
		{"a token", nil, "", "POST", rows, bearer("sender"), 409, "FLOW_DISABLED"},
		{"a token for another right", nil, "", "POST", rows, bearer("viewer"), 403, "PERMISSION_DENIED"},
		{"a token that sees", nil, "", "GET", see, bearer("viewer"), 200, `"name":"W"`},
		{"a token that sees no other", nil, "", "GET", "/v1/resources/flows/Other", bearer("viewer"), 404, "NOT_FOUND"},
		{"a wrong token", nil, "", "POST", rows, []string{"Authorization", "Bearer kg_" + strings.Repeat("A", 43)}, 401, "UNAUTHENTICATED"},
		{"two tokens", nil, "", "POST", rows, append(bearer("sender"), bearer("viewer")...), 401, "UNAUTHENTICATED"},
		{"a proxy's header", s.authority, "proxy.svc", "POST", rows, []string{"X-Forwarded-User", "eve"}, 409, "FLOW_DISABLED"},
		{"a forged header", s.authority, "shop.svc", "POST", rows, []string{"X-Forwarded-User", "eve"}, 401, "UNAUTHENTICATED"},
		{"a forged header of nobody", nil, "", "POST", rows, []string{"X-Forwarded-User", "eve"}, 401, "UNAUTHENTICATED"},
		{"two users of a proxy", s.authority, "proxy.svc", "POST", rows, []string{"X-Forwarded-User", "eve", "X-Forwarded-User", "eve"}, 401, "UNAUTHENTICATED"},
		{"the description of the API", nil, "", "GET", "/openapi.json", nil, 200, `"openapi"`},
		{"a health check", nil, "", "GET", "/livez", nil, 200, "ok"},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2 %v", c.name, http2), func(t *testing.T) {
				status, text, major := s.ask(s.client(c.by, c.certificate, http2), c.method, c.path, c.headers...)
				if status != c.status || !strings.Contains(text, c.says) {
					t.Errorf("got %d %.400s, want %d that says %q", status, text, c.status, c.says)
				}
				if want := map[bool]int{false: 1, true: 2}[http2]; status != 0 && major != want {
					t.Errorf("the answer is HTTP/%d, want HTTP/%d", major, want)
				}
			})
		}
	}
	shop := s.client(s.authority, "shop.svc", false)
	_, other, _ := s.ask(shop, "POST", "/v1/flows/Other/rows")
	_, none, _ := s.ask(shop, "POST", "/v1/flows/None/rows")
	if strings.ReplaceAll(other, "Other", "None") != none {
		t.Errorf("a refusal tells whether the flow exists:\n%s\n%s", other, none)
	}
}

// TestHTTPRequiresCertificates asks for pages of a coordinator that requires certificates of its clients.
func TestHTTPRequiresCertificates(t *testing.T) {
	t.Parallel()
	s := newSecureRig(t, func(c *Config) { c.AccessFile, c.Transport.RequireClientCert = "", true })
	for _, c := range []struct {
		certificate, path string
		status            int
	}{
		{"", "/v1/flows/W/rows", 403}, {"", "/openapi.json", 403}, {"", "/metrics", 403}, {"", "/livez", 200}, {"", "/readyz", 200},
		{"anybody.svc", "/openapi.json", 200}, {"anybody.svc", "/metrics", 200}, {"anybody.svc", "/v1/flows/W/rows", 405},
	} {
		if status, text, _ := s.ask(s.client(s.authority, c.certificate, true), "GET", c.path); status != c.status {
			t.Errorf("%q asks for %s: %d %.300s, want %d", c.certificate, c.path, status, text, c.status)
		}
	}
}
