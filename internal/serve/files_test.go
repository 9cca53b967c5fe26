package serve_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// pipe is a connection with buffers, so that neither side waits for the other to read an alert.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	defer listener.Close()
	dialled := make(chan net.Conn, 1)
	go func() {
		conn, _ := listener.Dial() // a listener that is open never refuses
		dialled <- conn
	}()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return <-dialled, server
}

// handshake shakes hands and returns the certificates that the client and the server were shown.
func handshake(t *testing.T, server, client *tls.Config) (toClient, toServer *x509.Certificate, err error) {
	t.Helper()
	a, b := pipe(t)
	defer a.Close()
	defer b.Close()
	client = client.Clone()
	client.ServerName = "127.0.0.1"
	clientSide, serverSide := tls.Client(a, client), tls.Server(b, server)
	served := make(chan error, 1)
	go func() { served <- serverSide.HandshakeContext(t.Context()) }()
	if err := clientSide.HandshakeContext(t.Context()); err != nil {
		a.Close()
		return nil, nil, errors.Join(err, <-served)
	}
	if err := <-served; err != nil {
		return nil, nil, err
	}
	return clientSide.ConnectionState().PeerCertificates[0], serverSide.ConnectionState().PeerCertificates[0], nil
}

func TestFilesAreTakenUpWhenTheyChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		old, next := newAuthority(t, "old"), newAuthority(t, "next")
		serverConfig, clientConfig := old.config(t, old, leaf{}), old.config(t, old, leaf{})
		serverConfig.RequireClientCert = true
		log, logger := newLines()
		serverConfig.Logger = logger
		server, err := serverConfig.ServerTLS()
		if err != nil {
			t.Fatal(err)
		}
		client, err := clientConfig.ClientTLS()
		if err != nil {
			t.Fatal(err)
		}
		before, shownBefore, err := handshake(t, server, client)
		if err != nil {
			t.Fatal(err)
		}

		// A new certificate without its key yet: the old pair stays in use, and that is said once.
		cert, key := old.issue(t, leaf{})
		write(t, serverConfig.TLSCert, cert)
		for range 3 {
			time.Sleep(time.Second)
			if got, _, err := handshake(t, server, client); err != nil || !got.Equal(before) {
				t.Fatalf("in the middle of a change: %v", err)
			}
		}
		contains(t, "the log", log.wait(t), "the earlier certificates stay in use", serverConfig.TLSKey)
		if len(log) != 0 {
			t.Errorf("the same complaint is logged again: %s", <-log)
		}

		write(t, serverConfig.TLSKey, key)
		if got, _, err := handshake(t, server, client); err != nil || !got.Equal(before) {
			t.Errorf("files are read oftener than once a second: %v", err)
		}
		time.Sleep(time.Second)
		if got, _, err := handshake(t, server, client); err != nil || got.Equal(before) {
			t.Errorf("the server's new certificate is not in use: %v", err)
		}
		contains(t, "the log", log.wait(t), "reloaded", serverConfig.TLSCert)

		// The client's own certificate, then one of an authority that the server learns of only later.
		cert, key = old.issue(t, leaf{})
		write(t, clientConfig.TLSCert, cert)
		write(t, clientConfig.TLSKey, key)
		time.Sleep(time.Second)
		if _, shown, err := handshake(t, server, client); err != nil || shown.Equal(shownBefore) {
			t.Errorf("the client's new certificate is not in use: %v", err)
		}
		cert, key = next.issue(t, leaf{})
		write(t, clientConfig.TLSCert, cert)
		write(t, clientConfig.TLSKey, key)
		time.Sleep(time.Second)
		if _, _, err := handshake(t, server, client); err == nil {
			t.Error("a client of an unknown authority is let in")
		}
		write(t, serverConfig.TLSCA, append(old.pem, next.pem...))
		time.Sleep(time.Second)
		if _, _, err := handshake(t, server, client); err != nil {
			t.Errorf("the server's new authority is not in use: %v", err)
		}
		write(t, serverConfig.TLSCA, old.pem)
		time.Sleep(time.Second)
		if _, _, err := handshake(t, server, client); err == nil {
			t.Error("a client of an authority that was removed is let in")
		}
	})
}

func TestCredentialsTakeUpANewAuthority(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		old, next := newAuthority(t, "old"), newAuthority(t, "next")
		serverConfig, clientConfig := old.config(t, old, leaf{name: "worker"}), old.config(t, old, leaf{})
		serverCreds, err := serverConfig.Credentials()
		if err != nil {
			t.Fatal(err)
		}
		clientConfig.TLSServerName = "worker"
		clientCreds, err := clientConfig.Credentials()
		if err != nil {
			t.Fatal(err)
		}
		connect := func() error {
			a, b := pipe(t)
			defer a.Close()
			defer b.Close()
			served := make(chan error, 1)
			go func() {
				_, _, err := serverCreds.ServerHandshake(b)
				served <- err
			}()
			_, _, err := clientCreds.ClientHandshake(t.Context(), "10.0.0.1:7701", a)
			if err != nil {
				a.Close()
			}
			return errors.Join(err, <-served)
		}
		if err := connect(); err != nil {
			t.Fatal(err)
		}
		cert, key := next.issue(t, leaf{name: "worker"})
		write(t, serverConfig.TLSCert, cert)
		write(t, serverConfig.TLSKey, key)
		time.Sleep(time.Second)
		if err := connect(); err == nil {
			t.Error("a server of an unknown authority is trusted")
		}
		write(t, clientConfig.TLSCA, next.pem)
		time.Sleep(time.Second)
		if err := connect(); err != nil {
			t.Errorf("the new authority is not in use: %v", err)
		}
	})
}
