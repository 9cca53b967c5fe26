package serve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// raw speaks HTTP/2 to a server as gRPC's client would not.
type raw struct {
	net.Conn
	*http2.Framer
}

func dialRaw(t *testing.T, address string) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return rawOn(t, conn)
}

// rawOn begins HTTP/2 on a connection, which it closes with the test.
func rawOn(t *testing.T, conn net.Conn) *raw {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	r := &raw{conn, http2.NewFramer(conn, conn)}
	if err := r.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return r
}

// open begins a call.
func (r *raw) open(stream uint32, method string) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	return r.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
}

// hungUp waits until the server has ended the connection.
func hungUp(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, err := io.Copy(io.Discard, conn); errors.As(err, &late) && late.Timeout() {
		t.Fatal("the server does not hang up")
	}
}

// call makes a call that no server has, and which admits its connection all the same.
func call(conn *grpc.ClientConn) error {
	err := <-invoke(conn)
	if status.Code(err) == codes.Unimplemented {
		return nil
	}
	return err
}

// busy keeps a call under way on the connection until the test ends.
func busy(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// until tries again, as clients do, until there is no error.
func until(t *testing.T, try func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	log, logger := newLines()
	_, address := serveOn(t, transport.Config{MaxConnections: 2, MaxConnectionsPerAddress: 3, Logger: logger})
	_, held := dial(t, address, transport.Config{})
	_, second := dial(t, address, transport.Config{})
	for _, conn := range []*grpc.ClientConn{held, second} {
		busy(t, conn)
	}
	health, third := dial(t, address, transport.Config{})
	if _, err := check(t, health, serve.Live); err != nil {
		t.Errorf("a probe: %v", err)
	}
	err := call(third)
	if batch.CodeOf(wire.FromStatus(err)) != batch.CodeOverloaded {
		t.Fatalf("got %v, want OVERLOADED", err)
	}
	contains(t, "the client's error", err.Error(), "--max-connections")
	contains(t, "the server's log", log.wait(t), "refused a connection", "2 connections from 127.0.0.1 are open", "--max-connections")

	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, func() error { return call(third) })
}

func TestConnectionsAreLimitedUnderTLS(t *testing.T) {
	ours := newAuthority(t, "ours")
	server := ours.config(t, ours, leaf{})
	server.MaxConnections = 1
	_, address := serveOn(t, server)
	_, first := dial(t, address, ours.config(t, ours, leaf{}))
	busy(t, first)
	health, second := dial(t, address, ours.config(t, ours, leaf{}))
	if _, err := check(t, health, serve.Live); err != nil {
		t.Errorf("a probe: %v", err)
	}
	contains(t, "the client's error", call(second).Error(), "1 connections from 127.0.0.1 are open", "--max-connections")
}

func TestPagesAskForCertificates(t *testing.T) {
	ours := newAuthority(t, "ours")
	config := ours.config(t, ours, leaf{})
	config.RequireClientCert = true
	server, err := serve.NewHTTPServer(serve.HTTPConfig{Transport: config, Metrics: prometheus.NewRegistry()})
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
		<-served
	}()
	prober := transport.Config{TLSCA: config.TLSCA}
	for _, c := range []struct {
		client transport.Config
		path   string
		status int
	}{
		{prober, "/livez", http.StatusOK}, {prober, "/readyz", http.StatusOK}, {prober, "/metrics", http.StatusForbidden},
		{ours.config(t, ours, leaf{}), "/metrics", http.StatusOK},
	} {
		dialer, err := c.client.Dialer()
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DialTLSContext: dialer, DisableKeepAlives: true}}
		r, err := client.Get("https://" + listener.Addr().String() + c.path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != c.status {
			t.Errorf("%s with a certificate %v: got %d, want %d", c.path, c.client.TLSCert != "", r.StatusCode, c.status)
		}
	}
}

func TestCallsAreLimited(t *testing.T) {
	started, release := make(chan struct{}, 1), make(chan struct{})
	_, address := serveOn(t, transport.Config{MaxCalls: 1}, blocking(started, release))
	_, conn := dial(t, address, transport.Config{})
	ended := invoke(conn)
	<-started
	err := <-invoke(conn)
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("got %v, want ResourceExhausted", err)
	}
	contains(t, "the error", err.Error(), "1 calls are under way, and this is the server's limit (--max-calls)")
	close(release)
	if err := <-ended; status.Code(err) != codes.Aborted {
		t.Errorf("the first call ended with %v", err)
	}
	for err = <-invoke(conn); status.Code(err) == codes.ResourceExhausted; err = <-invoke(conn) { // it is counted out a moment later
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if status.Code(err) != codes.Aborted {
		t.Errorf("with room for it: %v", err)
	}
}

func TestHeadersAreLimited(t *testing.T) {
	_, address := serveOn(t, transport.Config{})
	client, _ := dial(t, address, transport.Config{})
	if _, err := check(t, client, serve.Live); err != nil { // now the client knows the limit
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", 16<<10))
	_, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		t.Fatal("headers of 16 KiB are taken")
	}
	contains(t, "the error", err.Error(), "header list size", "16384")
}

func TestTooManyPings(t *testing.T) {
	_, address := serveOn(t, transport.Config{})
	r := dialRaw(t, address)
	for i := range byte(10) {
		if r.WritePing(false, [8]byte{i}) != nil {
			break // it was cut already
		}
	}
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			t.Fatalf("cut without a word: %v", err)
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			if text := string(away.DebugData()); away.ErrCode != http2.ErrCodeEnhanceYourCalm || text != "too_many_pings" {
				t.Errorf("cut with %v, %q", away.ErrCode, text)
			}
			return
		}
	}
}

// TestUnfinishedMessages sends beginnings of messages on many streams, which nobody will ever end.
func TestUnfinishedMessages(t *testing.T) {
	log, logger := newLines()
	config := transport.Config{BatchBytes: 1, ReceiveBytes: 1, Logger: logger} // which makes 4 MiB
	limit := 4 * config.MessageBytes()
	_, address := serveOn(t, config)
	honest, _ := dial(t, address, transport.Config{})
	if _, err := check(t, honest, serve.Live); err != nil {
		t.Fatal(err)
	}

	live := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := live()
	hostile := dialRaw(t, address)
	sent, chunk := 0, make([]byte, 16<<10)
	begin := append([]byte{0, 0, 0x0f, 0, 0}, chunk[5:]...) // of a message just below the limit for one
	for stream := uint32(1); ; stream += 2 {
		if hostile.open(stream, healthpb.Health_Check_FullMethodName) != nil {
			break
		}
		// No acknowledgement is needed for the first 64 KiB of a connection, nor later: the server hands out its whole window.
		err := hostile.WriteData(stream, false, begin)
		for i := 0; err == nil && i < 50; i++ {
			if err = hostile.WriteData(stream, false, chunk); err == nil {
				sent += len(chunk)
			}
		}
		if err != nil {
			break
		}
		if sent > 10*limit {
			t.Fatalf("the server has taken %d bytes of messages without an end", sent)
		}
		if more := live() - before; more > 2*limit {
			t.Fatalf("with %d bytes sent the server has %d more in memory, and its limit is %d", sent, more, limit)
		}
	}
	hungUp(t, hostile)
	contains(t, "the server's log", log.wait(t), "cut off", "which is the limit (--max-receive-bytes)")
	if _, err := check(t, honest, serve.Live); err != nil {
		t.Errorf("the honest client: %v", err)
	}
}

// TestManyMessages sends far more than may be on its way, in messages that end.
func TestManyMessages(t *testing.T) {
	_, address := serveOn(t, transport.Config{BatchBytes: 1, ReceiveBytes: 1})
	client, _ := dial(t, address, transport.Config{})
	for range 20 {
		if _, err := check(t, client, strings.Repeat("x", 1<<20-100)); status.Code(err) != codes.NotFound {
			t.Fatalf("got %v, want health's NotFound", err)
		}
	}
}

// TestSlowClients lets clients take their time, which is virtual: they are hung up on, whether they say nothing, too little
// of it, or stop in the middle of TLS's handshake.
func TestSlowClients(t *testing.T) {
	ours := newAuthority(t, "ours")
	secure := ours.config(t, ours, leaf{})
	hello := []byte{0x16, 0x03, 0x01, 0x02, 0x00} // a record of TLS, the rest of which is missing
	for name, c := range map[string]struct {
		config transport.Config
		pages  bool
		says   []byte
		within time.Duration
	}{
		"gRPC, silent":      {within: 10 * time.Second},
		"gRPC, slow":        {says: []byte(http2.ClientPreface), within: 10 * time.Second},
		"gRPC, TLS, silent": {config: secure, within: 12 * time.Second},
		"gRPC, TLS, slow":   {config: secure, says: hello, within: 12 * time.Second},
		"pages, silent":     {pages: true, within: 10 * time.Second},
		"pages, slow":       {pages: true, says: []byte("GET /livez HTTP/1.1\r\nHost: x\r\n"), within: 10 * time.Second},
		"pages, TLS, slow":  {pages: true, config: secure, says: hello, within: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				listener := bufconn.Listen(1 << 20)
				if c.pages {
					server, err := serve.NewHTTPServer(serve.HTTPConfig{Transport: c.config})
					if err != nil {
						t.Fatal(err)
					}
					served := make(chan error, 1)
					go func() {
						if server.TLSConfig != nil {
							served <- server.ServeTLS(listener, "", "")
						} else {
							served <- server.Serve(listener)
						}
					}()
					defer func() {
						_ = server.Close()
						if err := <-served; !errors.Is(err, http.ErrServerClosed) {
							t.Errorf("serve: %v", err)
						}
					}()
				} else {
					server, err := serve.NewServer(c.config)
					if err != nil {
						t.Fatal(err)
					}
					run(t, server, listener)
				}
				conn, err := listener.DialContext(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				begin, ended := time.Now(), make(chan time.Time, 1)
				go func() {
					_, _ = io.Copy(io.Discard, conn) // whatever the server says before it hangs up
					ended <- time.Now()
				}()
				for _, b := range c.says {
					time.Sleep(3 * time.Second)
					if _, err := conn.Write([]byte{b}); err != nil {
						break
					}
				}
				select {
				case at := <-ended:
					if took := at.Sub(begin); took > c.within {
						t.Errorf("hung up on after %v, want %v", took, c.within)
					}
				case <-time.After(time.Minute):
					t.Error("the connection still stands after a minute")
				}
			})
		})
	}
}
