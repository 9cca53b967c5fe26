package serve

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kisgrid/kisgrid/internal/transport"
)

// Limits of the HTTP port.
const (
	maxBodyBytes       = 1 << 20 // of one request
	maxHTTPConnections = 100     // that have asked for a page; further ones get none while these use theirs
)

// HTTPConfig says what the HTTP port serves: GET /metrics, /livez and /readyz, and what else is handed in.
type HTTPConfig struct {
	// Transport gives the port TLS where it has a certificate. The zero value is plaintext. Where it requires certificates of
	// clients, /livez and /readyz are shown without one all the same: the kubelet has none.
	Transport transport.Config
	// Metrics is what /metrics gathers. Nil: the page does not exist.
	Metrics prometheus.Gatherer
	// Ready says what the process still waits for; /readyz answers 503 with its error. Nil: the process is always ready.
	Ready func(context.Context) error
	// Profiles serves /debug/pprof/ too. Off by default: who reaches the port could slow the process down.
	Profiles bool
	// Handlers are further pages by pattern, as http.ServeMux takes them.
	Handlers map[string]http.Handler
}

// NewHTTPServer makes the server; Serve it on a listener of Listen, with ServeTLS(l, "", "") where its TLSConfig is set.
// Slow and oversized requests are cut off. The caller ends it with Shutdown or Close.
func NewHTTPServer(c HTTPConfig) (*http.Server, error) {
	if _, err := c.Transport.ServerTLS(); err != nil {
		return nil, err
	}
	asking := c.Transport
	asking.RequireClientCert = false // by the handshake: the pages look
	config, err := asking.ServerTLS()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for pattern, handler := range c.Handlers {
		mux.Handle(pattern, handler)
	}
	if c.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{}))
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if c.Ready == nil {
			answer(w, nil)
			return
		}
		answer(w, c.Ready(r.Context()))
	})
	if c.Profiles {
		handleProfiles(mux)
	}
	var pages http.Handler = mux
	if c.Transport.RequireClientCert {
		pages = requireCert(&c.Transport, mux)
	}
	places := &httpConns{connections: newConnLimiter(maxHTTPConnections, maxHTTPConnections*3/4), entries: map[net.Conn]*connEntry{}}
	return &http.Server{
		Handler:           http.MaxBytesHandler(places.limit(pages), maxBodyBytes),
		ConnContext:       places.add,
		ConnState:         places.stateChanged,
		TLSConfig:         config,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second, // a profile takes half of it
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    transport.MaxHeaderBytes,
		ErrorLog:          c.Transport.Log().StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
	}, nil
}

// probe tells that a request is a probe's, which no limit of connections may keep out.
func isProbe(r *http.Request) bool { return r.URL.Path == "/livez" || r.URL.Path == "/readyz" }

// httpPlaces has the places of an HTTP server's connections.
type httpConns struct {
	connections *connLimiter
	mu          sync.Mutex
	entries     map[net.Conn]*connEntry // guarded by mu
}

type placeKey struct{}

// accept is for http.Server's ConnContext.
func (h *httpConns) add(ctx context.Context, conn net.Conn) context.Context {
	a := h.connections.add(conn)
	h.mu.Lock()
	h.entries[conn] = a
	h.mu.Unlock()
	return context.WithValue(ctx, placeKey{}, a)
}

// state is for http.Server's ConnState.
func (h *httpConns) stateChanged(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	h.mu.Lock()
	a := h.entries[conn]
	delete(h.entries, conn)
	h.mu.Unlock()
	if a != nil {
		a.remove()
	}
}

// admitted shows pages, other than those for probes, on as many connections as there may be.
func (h *httpConns) limit(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, _ := r.Context().Value(placeKey{}).(*connEntry); a != nil && !isProbe(r) {
			if err := a.beginCall(); err != nil {
				w.Header().Set("Connection", "close")
				w.Header().Set("Retry-After", "1")
				http.Error(w, err.Error()+": close some, and try again", http.StatusServiceUnavailable)
				return
			}
			defer a.endCall()
		}
		pages.ServeHTTP(w, r)
	})
}

// certified shows pages, other than those for probes, to clients with a certificate only.
func requireCert(c *transport.Config, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isProbe(r) && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			http.Error(w, "this page asks for a client certificate that comes from the server's "+c.Flag("tls-ca"), http.StatusForbidden)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(err.Error() + "\n")) // who asked has gone
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
