package serve_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/serve"
)

func TestHTTPPages(t *testing.T) {
	registry := prometheus.NewRegistry()
	rows := prometheus.NewCounter(prometheus.CounterOpts{Name: "kisgrid_test_rows_total", Help: "Rows."})
	registry.MustRegister(rows)
	rows.Add(3)
	var ready error
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
	})
	config := serve.HTTPConfig{
		Metrics:  registry,
		Ready:    func(context.Context) error { return ready },
		Handlers: map[string]http.Handler{"POST /echo": echo},
	}
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		t.Helper()
		server, err := serve.NewHTTPServer(config)
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		server.Handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		return answer
	}
	for _, c := range []struct {
		name, method, path, body string
		before                   func()
		status                   int
		wanted                   string
	}{
		{name: "metrics", method: "GET", path: "/metrics", status: 200, wanted: "kisgrid_test_rows_total 3"},
		{name: "live", method: "GET", path: "/livez", status: 200, wanted: "ok"},
		{name: "ready", method: "GET", path: "/readyz", status: 200, wanted: "ok"},
		{name: "not ready", method: "GET", path: "/readyz", before: func() { ready = errors.New("waiting for etcd") }, status: 503, wanted: "waiting for etcd"},
		{name: "live while not ready", method: "GET", path: "/livez", status: 200, wanted: "ok"},
		{name: "further page", method: "POST", path: "/echo", body: "hello", status: 200, wanted: "hello"},
		{name: "body over the limit", method: "POST", path: "/echo", body: strings.Repeat("x", 1<<20+1), status: 200, wanted: "request body too large"},
		{name: "other method", method: "POST", path: "/metrics", status: 405},
		{name: "no profiles", method: "GET", path: "/debug/pprof/", status: 404},
		{name: "profiles", method: "GET", path: "/debug/pprof/", before: func() { config.Profiles = true }, status: 200, wanted: "goroutine"},
		{name: "no metrics", method: "GET", path: "/metrics", before: func() { config.Metrics = nil }, status: 404},
		{name: "always ready", method: "GET", path: "/readyz", before: func() { config.Ready = nil }, status: 200, wanted: "ok"},
	} {
		if c.before != nil {
			c.before()
		}
		answer := ask(c.method, c.path, c.body)
		if answer.Code != c.status || !strings.Contains(answer.Body.String(), c.wanted) {
			t.Errorf("%s: got %d and %.200q, want %d and %q", c.name, answer.Code, answer.Body, c.status, c.wanted)
		}
	}
}

// TestHTTPConnectionLimit opens as many connections as one address may have, each with a request under way. A further one is refused in the
// words of the API, or in plain text for a page, and a probe is answered.
func TestHTTPConnectionLimit(t *testing.T) {
	const most = 75 // three quarters of all
	entered, leave := make(chan struct{}), make(chan struct{})
	server, err := serve.NewHTTPServer(serve.HTTPConfig{
		Metrics: prometheus.NewRegistry(),
		API: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-leave
		}),
		RefuseAPI: func(w http.ResponseWriter, err error) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("refused: " + err.Error()))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	defer running.Wait()
	defer server.Close()
	defer close(leave)
	get := func(path string) (int, string, http.Header) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			return 0, err.Error(), nil
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(text), r.Header
	}
	for range most {
		running.Go(func() { get("/v1/flows/F/rows") })
		<-entered
	}
	if status, text, header := get("/v1/flows/F/rows"); status != http.StatusServiceUnavailable || !strings.HasPrefix(text, "refused: ") || !strings.Contains(text, "limit for one address") || header.Get("Retry-After") != "1" {
		t.Errorf("the API answers %d %q, %v", status, text, header)
	}
	if status, text, _ := get("/metrics"); status != http.StatusServiceUnavailable || strings.HasPrefix(text, "refused: ") || !strings.Contains(text, "limit for one address") {
		t.Errorf("a page answers %d %q", status, text)
	}
	if status, text, _ := get("/livez"); status != http.StatusOK {
		t.Errorf("a probe is answered with %d %q", status, text)
	}
}

// onePipe is a listener with one connection, which is a pipe in memory, so that its deadlines are in virtual time.
type onePipe struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (p *onePipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p *onePipe) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *onePipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestSlowHeaders sends the headers of a request one byte at a time (slowloris), and then nothing on an open connection. The server cuts the
// former off after 5 seconds, and the latter after a minute.
func TestSlowHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		first   string // is sent at once
		atMost  time.Duration
		atLeast time.Duration
	}{
		"slow headers": {"GET /livez HTTP/1.1\r\nX: ", 5*time.Second + time.Second, 4 * time.Second},
		"no request":   {"", 5*time.Second + time.Second, 4 * time.Second},
		"no second":    {"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", 61 * time.Second, 59 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				server, err := serve.NewHTTPServer(serve.HTTPConfig{})
				if err != nil {
					t.Fatal(err)
				}
				l := &onePipe{conns: make(chan net.Conn, 1), ended: make(chan struct{})}
				client, conn := net.Pipe()
				l.conns <- conn
				began := time.Now()
				var running sync.WaitGroup
				running.Go(func() { _ = server.Serve(l) })
				running.Go(func() {
					_, err := io.WriteString(client, c.first)
					for err == nil && name == "slow headers" {
						time.Sleep(time.Second)
						_, err = io.WriteString(client, "a")
					}
				})
				_, _ = io.Copy(io.Discard, client) // until the server closes
				if took := time.Since(began); took > c.atMost || took < c.atLeast {
					t.Errorf("the server has closed the connection after %v, want %v to %v", took, c.atLeast, c.atMost)
				}
				_ = client.Close()
				_ = server.Close()
				running.Wait()
			})
		})
	}
}
