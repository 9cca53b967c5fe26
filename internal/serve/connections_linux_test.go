package serve_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// silence opens connections to the address that never go beyond what they say first.
func silence(t *testing.T, address string, n int, says string) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, says) // it may be closed already
	}
}

// TestSilenceShutsNobodyOut opens more connections than a port takes, which say nothing or stop before their first call: a client
// and a probe are served beside them.
func TestSilenceShutsNobodyOut(t *testing.T) {
	ours := newAuthority(t, "ours")
	secure := ours.config(t, ours, leaf{})
	hello := "\x16\x03\x01\x02\x00" // a record of TLS, the rest of which is missing
	preface := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, c := range map[string]struct {
		config transport.Config
		says   string
	}{
		"silent": {}, "idle": {says: preface}, "half a header": {says: preface + "\x00\x10\x00\x01"},
		"TLS, silent": {config: secure}, "TLS, slow": {config: secure, says: hello},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serveOn(t, c.config)
			silence(t, address, 1300, c.says)
			honest, conn := dial(t, address, c.config)
			if err := call(conn); err != nil {
				t.Errorf("an honest client: %v", err)
			}
			if _, err := check(t, honest, serve.Live); err != nil {
				t.Errorf("a probe: %v", err)
			}
		})
	}
}

// pages serves the HTTP port.
func pages(t *testing.T, handlers map[string]http.Handler) (address string) {
	t.Helper()
	server, err := serve.NewHTTPServer(serve.HTTPConfig{Handlers: handlers})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return listener.Addr().String()
}

// get asks for a page on a connection of its own, which stays open until the test ends.
func get(t *testing.T, from, address, path string) (int, error) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}, Timeout: 20 * time.Second}
	t.Cleanup(c.CloseIdleConnections)
	r, err := c.Get("http://" + address + path)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return r.StatusCode, err
}

// TestProbesGetThrough holds an HTTP port's connections in each way in which they can be held: pages are refused at the limit, and
// probes are answered.
func TestProbesGetThrough(t *testing.T) {
	page := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	begun, release := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-release
	})
	t.Run("silent", func(t *testing.T) {
		address := pages(t, map[string]http.Handler{"GET /page": page})
		silence(t, address, 150, "")
		silence(t, address, 150, "GET /page HTTP/1.1\r\n")
		for _, path := range []string{"/livez", "/readyz", "/page"} {
			if code, err := get(t, "127.0.0.1", address, path); code != http.StatusOK {
				t.Errorf("%s: %d, %v", path, code, err)
			}
		}
	})
	t.Run("idle", func(t *testing.T) {
		address := pages(t, map[string]http.Handler{"GET /page": page})
		for i := range 100 {
			if code, err := get(t, fmt.Sprintf("127.0.0.%d", 1+i%2), address, "/page"); code != http.StatusOK {
				t.Fatalf("page %d: %d, %v", i, code, err)
			}
		}
		for i := range 150 {
			until(t, func() error {
				if code, err := get(t, "127.0.0.3", address, "/page"); code != http.StatusOK {
					return fmt.Errorf("page %d: %d, error %q", i, code, fmt.Sprint(err))
				}
				return nil
			})
		}
	})
	t.Run("under way", func(t *testing.T) {
		address := pages(t, map[string]http.Handler{"GET /page": page, "GET /slow": slow})
		var ask sync.WaitGroup
		defer ask.Wait()
		defer close(release)
		hold := func(from string) {
			ask.Go(func() {
				if code, err := get(t, from, address, "/slow"); code != http.StatusOK {
					t.Errorf("a slow page: %d, %v", code, err)
				}
			})
			<-begun
		}
		for range 75 {
			hold("127.0.0.1")
		}
		if code, err := get(t, "127.0.0.1", address, "/page"); code != http.StatusServiceUnavailable {
			t.Errorf("beyond the limit of one address: %d, %v", code, err)
		}
		for range 25 {
			hold("127.0.0.2")
		}
		if code, err := get(t, "127.0.0.2", address, "/page"); code != http.StatusServiceUnavailable {
			t.Errorf("beyond the limit of all: %d, %v", code, err)
		}
		for i := range 200 {
			if code, err := get(t, "127.0.0.1", address, "/livez"); code != http.StatusOK {
				t.Fatalf("probe %d: %d, %v", i, code, err)
			}
		}
	})
}

// from dials from one of the loopback's addresses.
func from(ip string) grpc.DialOption {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	})
}

// TestRestingConnectionsGiveWay fills a port with connections that made a call and then stay: clients that have calls get in all the
// same, and a connection with a call under way is left alone.
func TestRestingConnectionsGiveWay(t *testing.T) {
	_, address := serveOn(t, transport.Config{MaxConnections: 8})
	_, kept := dial(t, address, transport.Config{}, from("127.0.0.1"))
	busy(t, kept)
	for i := range 7 {
		if _, conn := dial(t, address, transport.Config{}, from(fmt.Sprintf("127.0.0.%d", 1+i%2))); call(conn) != nil {
			t.Fatalf("connection %d is refused", i)
		}
	}
	for _, ip := range []string{"127.0.0.1", "127.0.0.3", "127.0.0.3", "127.0.0.3"} {
		_, conn := dial(t, address, transport.Config{}, from(ip))
		until(t, func() error { return call(conn) })
		busy(t, conn)
	}
	if state := kept.GetState(); state != connectivity.Ready {
		t.Errorf("the connection with a call under way is %v", state)
	}
}

// TestSlowSendersShutNobodyOut has many connections hold a small piece of a message each, and together all that a server takes:
// they are cut, and not a client whose whole messages are larger than any of these.
func TestSlowSendersShutNobodyOut(t *testing.T) {
	config := transport.Config{BatchBytes: 1, ReceiveBytes: 1}
	_, address := serveOn(t, config)
	for range 4*config.MessageBytes()/(60<<10) + 1 {
		r := dialRaw(t, address)
		go func() { _, _ = io.Copy(io.Discard, r.Conn) }()
		if err := r.open(1, healthpb.Health_Check_FullMethodName); err != nil {
			t.Fatal(err)
		}
		piece := append([]byte{0, 0, 0x0f, 0, 0}, make([]byte, 15<<10)...)
		for range 4 {
			if err := r.WriteData(1, false, piece); err != nil {
				t.Fatal(err)
			}
		}
	}
	honest, _ := dial(t, address, transport.Config{})
	for began := time.Now(); time.Since(began) < 3*time.Second; { // the pieces cost by their time
		if _, err := check(t, honest, serve.Live); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if _, err := check(t, honest, strings.Repeat("x", 512<<10)); status.Code(err) != codes.NotFound {
			t.Fatalf("message %d: got %v, want health's NotFound", i, err)
		}
	}
}

// TestProbesOfABusyServer has as many calls under way as a server takes: health is told all the same.
func TestProbesOfABusyServer(t *testing.T) {
	_, address := serveOn(t, transport.Config{MaxCalls: 4})
	_, conn := dial(t, address, transport.Config{})
	for range 4 {
		busy(t, conn)
	}
	health, another := dial(t, address, transport.Config{})
	if err := call(another); batch.CodeOf(wire.FromStatus(err)) != batch.CodeOverloaded {
		t.Errorf("a call beyond the limit: %v", err)
	}
	if _, err := check(t, health, serve.Live); err != nil {
		t.Errorf("a probe: %v", err)
	}
}

// TestAddressesAreLimited fills the share of one address: it is refused further connections, with a code and advice, and others
// are served.
func TestAddressesAreLimited(t *testing.T) {
	_, address := serveOn(t, transport.Config{MaxConnections: 4})
	for range 3 {
		_, conn := dial(t, address, transport.Config{}, from("127.0.0.1"))
		busy(t, conn)
	}
	health, conn := dial(t, address, transport.Config{}, from("127.0.0.1"))
	err := call(conn)
	if batch.CodeOf(wire.FromStatus(err)) != batch.CodeOverloaded {
		t.Fatalf("beyond the limit: %v, want OVERLOADED", err)
	}
	contains(t, "the error", err.Error(), "3 connections from 127.0.0.1 are open", "--max-connections-per-address", "dial another server")
	if _, err := check(t, health, serve.Live); err != nil {
		t.Errorf("a probe from that address: %v", err)
	}
	if _, conn := dial(t, address, transport.Config{}, from("127.0.0.2")); call(conn) != nil {
		t.Error("another address is refused")
	}
}

// TestGivenUpCallsHoldNothing begins messages, and gives their calls up, beside a call that stays open: their bytes are counted no
// more, however the call ended.
func TestGivenUpCallsHoldNothing(t *testing.T) {
	for name, end := range map[string]func(*raw, uint32) error{
		"reset":   func(r *raw, stream uint32) error { return r.WriteRSTStream(stream, http2.ErrCodeCancel) },
		"refused": nil, // by its handler, which reads nothing
	} {
		t.Run(name, func(t *testing.T) {
			config := transport.Config{BatchBytes: 1, ReceiveBytes: 1}
			limit := 4 * config.MessageBytes()
			started := make(chan struct{}, 1)
			config.MaxCalls = 1 << 20
			_, address := serveOn(t, config, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
				if method, _ := grpc.MethodFromServerStream(stream); method != "/stays/open" {
					return status.Error(codes.Aborted, "not taken")
				}
				started <- struct{}{}
				<-stream.Context().Done()
				return nil
			}))
			r := dialRaw(t, address)
			if err := r.open(1, "/stays/open"); err != nil {
				t.Fatal(err)
			}
			<-started
			refused := make(chan uint32, 1<<10)
			go func() {
				defer close(refused)
				for {
					frame, err := r.ReadFrame()
					if err != nil {
						return
					}
					if end, ok := frame.(*http2.HeadersFrame); ok && end.StreamEnded() {
						refused <- end.StreamID
					}
				}
			}()
			chunk := append([]byte{0, 0, 0x0f, 0, 0}, make([]byte, 16<<10-5)...)
			for sent, stream := 0, uint32(3); sent < 4*limit; stream += 2 {
				method := "/comes/to/nothing"
				if end != nil {
					method = healthpb.Health_Check_FullMethodName // which waits for its message
				}
				if err := r.open(stream, method); err != nil {
					t.Fatalf("after %d bytes: %v", sent, err)
				}
				for range 8 {
					if err := r.WriteData(stream, false, chunk); err != nil {
						t.Fatalf("after %d bytes: %v", sent, err)
					}
					sent += len(chunk)
				}
				if end == nil {
					if _, ok := <-refused; !ok { // its handler has run
						t.Fatalf("after %d bytes: the connection was cut", sent)
					}
				} else if err := end(r, stream); err != nil {
					t.Fatalf("after %d bytes: %v", sent, err)
				}
			}
			honest, _ := dial(t, address, transport.Config{})
			if _, err := check(t, honest, serve.Live); err != nil {
				t.Error(err)
			}
			if err := r.WritePing(false, [8]byte{1}); err != nil {
				t.Errorf("the connection was cut: %v", err)
			}
		})
	}
}

// TestFloodsAreCut sends frames that bring nothing as fast as it can.
func TestFloodsAreCut(t *testing.T) {
	for name, flood := range map[string]func(r *raw, stream uint32) error{
		"resets": func(r *raw, stream uint32) error {
			if err := r.open(stream, healthpb.Health_Check_FullMethodName); err != nil {
				return err
			}
			return r.WriteRSTStream(stream, http2.ErrCodeCancel)
		},
		"empty data": func(r *raw, _ uint32) error { return r.WriteData(1, false, nil) },
		"settings":   func(r *raw, _ uint32) error { return r.WriteSettings() },
		"priorities": func(r *raw, _ uint32) error { return r.WritePriority(1, http2.PriorityParam{StreamDep: 5}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { // no time passes while the flood goes on, however slow the machine is
				log, logger := newLines()
				server, err := serve.NewServer(transport.Config{Logger: logger})
				if err != nil {
					t.Fatal(err)
				}
				listener := bufconn.Listen(1 << 20)
				run(t, server, listener)
				conn, err := listener.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r := rawOn(t, conn)
				if err := r.open(1, healthpb.Health_Check_FullMethodName); err != nil {
					t.Fatal(err)
				}
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				for stream := uint32(3); ; stream += 2 {
					if err := flood(r, stream); err != nil {
						break
					}
					if stream > 1_500_000 {
						t.Fatal("the server takes all of it")
					}
				}
				contains(t, "the server's log", log.wait(t), "frames without data")
			})
		})
	}
}

// TestSilentCallsShutNobodyOut opens as many calls as a server takes and sends no message on any.
func TestSilentCallsShutNobodyOut(t *testing.T) {
	_, address := serveOn(t, transport.Config{MaxCalls: 400})
	for range 4 {
		r := dialRaw(t, address)
		go func() { _, _ = io.Copy(io.Discard, r.Conn) }()
		for stream := range uint32(100) {
			if err := r.open(2*stream+1, healthpb.Health_Watch_FullMethodName); err != nil {
				t.Fatal(err)
			}
		}
	}
	honest, _ := dial(t, address, transport.Config{})
	for i := range 200 {
		if _, err := check(t, honest, serve.Live); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

// TestDrainWaitsForNobodyWhoOnlyWaits drains a server that has calls which would stay open until it ends. Time is virtual.
func TestDrainWaitsForNobodyWhoOnlyWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		server, err := serve.NewServer(transport.Config{}, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			return stream.RecvMsg(&healthpb.HealthCheckRequest{})
		}))
		if err != nil {
			t.Fatal(err)
		}
		listener := bufconn.Listen(1 << 20)
		run(t, server, listener)
		client, conn := dial(t, "passthrough:///server", transport.Config{}, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
		watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/says/nothing"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := server.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the server drained for %v", took)
		}
		for {
			answer, err := watch.Recv()
			if err != nil {
				break
			}
			if answer.Status == healthpb.HealthCheckResponse_SERVING {
				t.Error("the watch says that a draining server serves")
			}
		}
	})
}
