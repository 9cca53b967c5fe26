package serve_test

import (
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
)

func TestFlags(t *testing.T) {
	var c transport.Config
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	serve.BindDialFlags(&c, fs, "etcd-")
	if err := fs.Parse([]string{"--etcd-tls-ca=/no/such/ca.crt"}); err != nil {
		t.Fatal(err)
	}
	if c.TLSCA != "/no/such/ca.crt" {
		t.Errorf("got %+v", c)
	}
	_, err := c.ClientTLS()
	if err == nil {
		t.Fatal("a file that is not there is no mistake")
	}
	contains(t, "the error", err.Error(), "--etcd-tls-ca", "/no/such/ca.crt")

	var both transport.Config
	fs = pflag.NewFlagSet("test", pflag.ContinueOnError)
	serve.BindFlags(&both, fs)
	if err := fs.Parse([]string{"--tls-ca=/no/such/ca.crt", "--max-calls=7"}); err != nil {
		t.Fatal(err)
	}
	if both.TLSCA != "/no/such/ca.crt" || both.MaxCalls != 7 || both.MaxConnections != 1000 || both.BatchBytes != 8<<20 || both.MessageBytes() != 11<<20 {
		t.Errorf("got %+v with a message limit of %d", both, both.MessageBytes())
	}
}

func TestMistakesNameTheFlag(t *testing.T) {
	ours := newAuthority(t, "ours")
	good, other := ours.config(t, ours, leaf{}), ours.config(t, ours, leaf{})
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, nil)
	for _, c := range []struct {
		name   string
		config transport.Config
		wanted []string
	}{
		{"certificate without key", transport.Config{TLSCert: good.TLSCert}, []string{"--tls-cert and --tls-key belong together"}},
		{"key without certificate", transport.Config{TLSKey: good.TLSKey}, []string{"--tls-cert and --tls-key belong together"}},
		{"CA without certificate", transport.Config{TLSCA: good.TLSCA}, []string{"--tls-ca alone", "--tls-cert"}},
		{"client certificates without TLS", transport.Config{RequireClientCert: true}, []string{"--tls-require-client-cert needs TLS"}},
		{"client certificates without CA", transport.Config{TLSCert: good.TLSCert, TLSKey: good.TLSKey, RequireClientCert: true}, []string{"--tls-require-client-cert needs --tls-ca"}},
		{"another's key", transport.Config{TLSCert: good.TLSCert, TLSKey: other.TLSKey}, []string{good.TLSCert, other.TLSKey, "does not match"}},
		{"empty CA", transport.Config{TLSCert: good.TLSCert, TLSKey: good.TLSKey, TLSCA: empty}, []string{empty, "--tls-ca", "no PEM"}},
		{"no such file", transport.Config{TLSCert: "/no/such", TLSKey: good.TLSKey}, []string{"--tls-cert", "/no/such"}},
	} {
		for via, err := range map[string]error{
			"NewServer": second(serve.NewServer(c.config)),
			"ServerTLS": second(c.config.ServerTLS()),
		} {
			if err == nil {
				t.Errorf("%s: %s sees no mistake", c.name, via)
				continue
			}
			contains(t, c.name, err.Error(), c.wanted...)
		}
	}
	if _, err := transport.Dial("localhost:1", transport.Config{TLSCert: good.TLSCert}); err == nil {
		t.Error("Dial takes a certificate without key")
	}
}

func TestPlaintextIsNoConfig(t *testing.T) {
	var c transport.Config
	if config, err := c.ServerTLS(); config != nil || err != nil {
		t.Errorf("ServerTLS: %v, %v", config, err)
	}
	if config, err := c.ClientTLS(); config != nil || err != nil {
		t.Errorf("ClientTLS: %v, %v", config, err)
	}
}

func TestListenSaysWhatHoldsTheAddress(t *testing.T) {
	first, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	address := first.Addr().String()
	if _, err := serve.Listen(t.Context(), nil, address); err == nil {
		t.Error("an address is listened on twice")
	} else {
		contains(t, "the error", err.Error(), address, "choose another address")
	}
}

func second[T any](_ T, err error) error { return err }
