package simnet_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
)

// startServer serves gRPC on a process until the end of the test.
func startServer(t *testing.T, on *simnet.Process, c transport.Config) {
	t.Helper()
	l, err := serve.Listen(t.Context(), on, ":7700")
	if err != nil {
		t.Fatal(err)
	}
	s, err := serve.NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	s.SetReady(true)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
}

// dialGRPC makes a client as package client does.
func dialGRPC(t *testing.T, target string, c transport.Config, opts ...grpc.DialOption) healthpb.HealthClient {
	t.Helper()
	address, dial, err := transport.Resolve(target)
	if err != nil {
		t.Fatal(err)
	}
	c.ProbeSilence = true
	conn, err := transport.Dial(address, c, append(dial, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

// check makes one call and returns its code.
func check(t *testing.T, client healthpb.HealthClient, patience time.Duration) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	return status.Code(err)
}

// KisGrid's own gRPC runs over it in virtual time: with TLS, by a name whose addresses change, through a cut and the death of the server.
func TestGRPC(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plaintext", true: "TLS"}[secure], func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var c transport.Config
				if secure {
					ca, err := authority.New("test", 1000*time.Hour)
					if err != nil {
						t.Fatal(err)
					}
					files, err := ca.Write(filepath.Join(t.TempDir(), "server"), authority.Leaf{Hosts: []string{"service"}})
					if err != nil {
						t.Fatal(err)
					}
					c.TLSCA, c.TLSCert, c.TLSKey = files.CA, files.Cert, files.Key
				}
				n := simnet.New(1)
				first, second := n.Host("first").Process("server 1"), n.Host("second").Process("server 2")
				client := n.Host("client").Process("client")
				n.SetName("service", "10.0.0.1")
				startServer(t, first, c)
				startServer(t, second, c)
				calls := dialGRPC(t, "dns:///service:7700", c, transport.Through(client)...)
				if code := check(t, calls, time.Second); code != codes.OK {
					t.Fatalf("a call: %s", code)
				}
				cut := n.Break(simnet.Trouble{From: "first", Cut: true})
				began := time.Now()
				if code := check(t, calls, 10*time.Second); code != codes.Unavailable {
					t.Errorf("a call to a server that is cut off: %s", code)
				}
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("the cut was noticed after %v", took)
				}
				cut.Heal()
				if code := check(t, calls, 10*time.Second); code != codes.OK {
					t.Errorf("a call after the cut: %s", code)
				}
				n.SetName("service", "10.0.0.2")
				first.Kill()
				synctest.Wait() // the client notices that; else it could lose a call that it has just sent
				if code := check(t, calls, 10*time.Second); code != codes.OK {
					t.Errorf("a call when the name has another address: %s", code)
				}
				if open := client.Open(); len(open) != 1 || !strings.Contains(open[0], "server 2") {
					t.Errorf("the client has open: %v", open)
				}
			})
		})
	}
}

// A machine knows its own addresses, and takes a free port where its own is taken.
func TestServe(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := n.Host("a", "10.0.0.7"), n.Host("b", "10.0.0.8")
		l := listen(t, a, ":7700")
		other, err := serve.ListenNear(t.Context(), a, ":7700", true, (&transport.Config{}).Log())
		if err != nil {
			t.Fatal(err)
		}
		advertised, err := serve.Advertised(a, "", ":7700", other.Addr(), []string{"etcd-1:2379"})
		if host, port, _ := net.SplitHostPort(advertised); err != nil || host != "10.0.0.7" || port == "7700" || port == "0" {
			t.Errorf("it advertises %q, %v", advertised, err)
		}
		if serve.Elsewhere(t.Context(), a, "a:7700") || !serve.Elsewhere(t.Context(), b, "a:7700") {
			t.Error("host a must be elsewhere for b only")
		}
		l.Close()
		other.Close()
	})
}

// HTTP over TLS works too, with the dialers for libraries.
func TestHTTP(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca, err := authority.New("test", 1000*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		files, err := ca.Write(filepath.Join(t.TempDir(), "server"), authority.Leaf{Hosts: []string{"b"}})
		if err != nil {
			t.Fatal(err)
		}
		n := simnet.New(1)
		c := transport.Config{TLSCA: files.CA, TLSCert: files.Cert, TLSKey: files.Key, Network: n.Host("a")}
		secure, err := c.ServerTLS()
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })}
		defer server.Close()
		l := tls.NewListener(listen(t, n.Host("b"), ":80"), secure)
		go func() { _ = server.Serve(l) }()
		dial, err := c.Dialer()
		if err != nil {
			t.Fatal(err)
		}
		client, err := c.ClientTLS()
		if err != nil {
			t.Fatal(err)
		}
		for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
			"with files": dial, "with a configuration": network.Dialer(n.Host("a"), client, time.Second),
		} {
			via := &http.Client{Transport: &http.Transport{DialTLSContext: dial}}
			answer, err := via.Get("https://b:80/")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			page, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if string(page) != "page" {
				t.Errorf("%s: got %q", name, page)
			}
			via.CloseIdleConnections()
		}
	})
}
