package serve_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

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
