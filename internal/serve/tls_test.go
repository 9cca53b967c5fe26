package serve_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
)

func TestHandshakesTellBothSidesWhatIsWrong(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	mutual := func(c transport.Config) transport.Config { c.RequireClientCert = true; return c }
	named := func(c transport.Config, name string) transport.Config { c.TLSServerName = name; return c }
	caOnly := func(c transport.Config) transport.Config { c.TLSCert, c.TLSKey = "", ""; return c }
	good := ours.config(t, ours, leaf{})

	for _, c := range []struct {
		name           string
		server, client transport.Config
		told, logged   []string // nothing told: the call succeeds; nothing logged: gRPC keeps it from us
	}{
		{name: "plaintext", server: transport.Config{}, client: transport.Config{}},
		{name: "TLS", server: good, client: caOnly(good)},
		{name: "mutual TLS", server: mutual(good), client: ours.config(t, ours, leaf{})},
		{name: "certificate for a name that is given", server: ours.config(t, ours, leaf{name: "worker"}), client: named(good, "worker")},
		{
			name: "authority that the client does not know", server: good, client: ours.config(t, theirs, leaf{}),
			told:   []string{"connect to 127.0.0.1:", "the server's certificate comes from an authority that is not in", "ca.crt (--tls-ca)"},
			logged: []string{"refused a connection", "the client refuses this server's certificate", "peer=127.0.0.1"},
		},
		{
			name: "expired server", server: ours.config(t, ours, leaf{expired: true}), client: good,
			told: []string{"the server's certificate is valid only from", "renew it"}, logged: []string{"the client refuses this server's certificate: the certificate must be valid"},
		},
		{
			name: "wrong name", server: ours.config(t, ours, leaf{name: "worker"}), client: good,
			told: []string{"the server's certificate is for another name", "--tls-server-name"}, logged: []string{"the client refuses this server's certificate"},
		},
		{
			name: "certificate for clients only", server: ours.config(t, ours, leaf{usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), client: good,
			told: []string{"the server's certificate does not allow this use"}, logged: []string{"the client refuses this server's certificate"},
		},
		{
			name: "no client certificate", server: mutual(good), client: caOnly(good),
			told: []string{"the server asks for a certificate: give one with --tls-cert and --tls-key"}, logged: []string{"the client shows no certificate"},
		},
		{
			name: "client of an authority that the server does not know", server: mutual(good), client: theirs.config(t, ours, leaf{}),
			told:   []string{"the server refuses this process's certificate", "tls.crt", "--tls-ca"},
			logged: []string{"the client's certificate comes from an authority that is not in", "ca.crt (--tls-ca)"},
		},
		{
			name: "such a client where certificates are not required", server: good, client: theirs.config(t, ours, leaf{}),
			told: []string{"the server refuses this process's certificate"}, logged: []string{"the client's certificate comes from an authority"},
		},
		{
			name: "expired client", server: mutual(good), client: ours.config(t, ours, leaf{expired: true}),
			told: []string{"the server refuses this process's certificate", "expired"}, logged: []string{"the client's certificate is valid only from"},
		},
		{
			name: "plaintext against TLS", server: good, client: transport.Config{},
			told: []string{"it speaks only TLS", "--tls-ca"}, logged: []string{"the client does not speak TLS: give it --tls-ca"},
		},
		{
			name: "TLS against plaintext", server: transport.Config{}, client: good,
			told: []string{"connect to 127.0.0.1:", "the server does not speak TLS"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log lines
			log, c.server.Logger = newLines()
			_, address := serveOn(t, c.server)
			client, conn := dial(t, address, c.client)

			_, err := check(t, client, serve.Live)
			if c.told == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if status.Code(err) != codes.Unavailable {
				t.Fatalf("got %v, want Unavailable", err)
			}
			contains(t, "the client's error", err.Error(), c.told...)
			if c.logged != nil {
				contains(t, "the server's log", log.wait(t), c.logged...)
			}

			watch, err := conn.NewStream(t.Context(), watching, "/grpc.health.v1.Health/Watch")
			if err == nil {
				err = watch.RecvMsg(nil)
			}
			contains(t, "a stream's error", err.Error(), c.told...)
		})
	}
}

func TestDialerAndServerTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	server, err := serve.NewHTTPServer(serve.HTTPConfig{Transport: ours.config(t, ours, leaf{})})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	defer func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	}()

	get := func(c transport.Config) (string, error) {
		dialer, err := c.Dialer()
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DialTLSContext: dialer, DisableKeepAlives: true}}
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+listener.Addr().String()+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if body, err := get(ours.config(t, ours, leaf{})); err != nil || body != "ok\n" {
		t.Errorf("got %q, %v", body, err)
	}
	if _, err := get(ours.config(t, theirs, leaf{})); err == nil {
		t.Error("a server of another authority is trusted")
	} else {
		contains(t, "the error", err.Error(), "connect to 127.0.0.1:", "an authority that is not in")
	}
}
