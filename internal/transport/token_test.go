package transport

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// otherMachine is a connection whose other side is another machine.
type otherMachine struct{ net.Conn }

func (otherMachine) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7700} }

// thisMachine is a connection whose other side is on this machine.
type thisMachine struct{ net.Conn }

func (thisMachine) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7700} }

// TestTokenStaysPrivate sends a token over TLS and to this machine, and over no other connection unless that is allowed.
func TestTokenStaysPrivate(t *testing.T) {
	c := Config{}
	plain, err := c.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	shaken := func(conn net.Conn) credentials.AuthInfo {
		_, info, err := noteLoopback{plain}.Clone().ClientHandshake(t.Context(), "grid", conn)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	for name, c := range map[string]struct {
		info      credentials.AuthInfo
		plaintext bool
		sent      bool
	}{
		"TLS":                             {credentials.TLSInfo{}, false, true},
		"this machine":                    {shaken(thisMachine{ours}), false, true},
		"another machine":                 {shaken(otherMachine{ours}), false, false},
		"another machine, where allowed":  {shaken(otherMachine{ours}), true, true},
		"nothing known of the connection": {nil, false, false},
	} {
		ctx := credentials.NewContextWithRequestInfo(t.Context(), credentials.RequestInfo{AuthInfo: c.info})
		asked := false
		header, err := (&tokenCredentials{func(context.Context) (string, error) { asked = true; return "secret", nil }, c.plaintext}).GetRequestMetadata(ctx)
		if sent := header["authorization"] == "Bearer secret"; sent != c.sent || asked != c.sent || (err == nil) != c.sent {
			t.Errorf("%s: sent %v, asked %v, %v", name, sent, asked, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the token in it", name)
		}
	}
}

// TestTokenFile reads a token from a file, and reads the file again when it has changed.
func TestTokenFile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		source := TokenFile(path)
		for _, c := range []struct{ text, want string }{{"one\n", "one"}, {"two", "two"}, {"", ""}, {"a b", ""}, {"a\nb", ""}, {"  three \r\n", "three"}} {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(recheck) // in the bubble's own time
			got, err := source(t.Context())
			if got != c.want || (err == nil) != (c.want != "") || err != nil && batch.CodeOf(err) != batch.CodeUnauthenticated {
				t.Errorf("%q gives %q and %v", c.text, got, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		if _, err := source(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("without a file: %v", err)
		}
	})
}
