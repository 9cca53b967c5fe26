package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// counter is a coordinator that counts its calls.
type counter struct {
	pb.UnimplementedIngestServer
	calls atomic.Int32
}

func (c *counter) Submit(_ context.Context, in *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	c.calls.Add(1)
	return &pb.SubmitResponse{Answer: &pb.Answer{Sequence: in.GetSubmission().GetSequence(), Last: true}}, nil
}

func serveTLS(t *testing.T, certificate tls.Certificate) (string, *counter) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &counter{}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	pb.RegisterIngestServer(server, k)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), k
}

// certificate makes one for 127.0.0.1 that signs itself, and its PEM file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// Over real sockets: a list of coordinators, each under TLS, all of which get calls.
func TestCallsGoRoundCoordinatorsUnderTLS(t *testing.T) {
	good, ca := certificate(t)
	_, otherCA := certificate(t)
	a, first := serveTLS(t, good)
	b, second := serveTLS(t, good)
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(ca)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the file", err)
	}
	for name, option := range map[string]client.Option{
		"files":  client.WithTLSFiles(ca, "", ""),
		"config": client.WithTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}),
	} {
		first.calls.Store(0)
		second.calls.Store(0)
		c, err := client.Dial(a+","+b, option)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Connections come up at different times, so calls are made until both have had some.
		for n := 0; first.calls.Load() == 0 || second.calls.Load() == 0; n++ {
			if n == 10_000 {
				t.Fatalf("%s: of %d calls one coordinator got %d, the other %d", name, n, first.calls.Load(), second.calls.Load())
			}
			if _, err := c.Submit(t.Context(), "F", numbered(1)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	for name, test := range map[string]struct {
		options []client.Option
		text    string
	}{
		"wrong authority": {[]client.Option{client.WithTLSFiles(otherCA, "", "")}, "authority"},
		"wrong name":      {[]client.Option{client.WithTLSFiles(ca, "", ""), client.WithTLSServerName("elsewhere")}, "elsewhere"},
	} {
		c, err := client.Dial(a, append(test.options, client.WithRetryFor(0))...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = c.Submit(t.Context(), "F", numbered(1))
		wantError(t, err, batch.CodeUnavailable, false)
		if !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: error %q does not tell it", name, err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := client.Dial(a, client.WithTLSFiles(filepath.Join(t.TempDir(), "none.pem"), "", "")); err == nil {
		t.Error("dialled with a file that is not there")
	}
}
