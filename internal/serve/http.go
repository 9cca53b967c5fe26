package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Limits of the HTTP port.
const (
	maxBodyBytes       = 1 << 20 // the body of one request has at most so many bytes
	maxHTTPStreams     = 100     // one connection of HTTP/2 may have so many requests under way
	maxHTTPConnections = 100     // at most so many connections may have made a request; further ones are refused while these are busy
)

// HTTPConfig says which pages an HTTP port serves: GET /metrics, /livez and /readyz, and the pages of Handlers.
type HTTPConfig struct {
	// Transport gives the port TLS where it has a certificate. The zero value means plaintext. Where it requires certificates
	// of clients, /livez and /readyz are served without one all the same, because Kubernetes' kubelet has none.
	Transport transport.Config
	// Metrics are the metrics that /metrics shows. nil means that there is no such page.
	Metrics prometheus.Gatherer
	// Ready is the check of /readyz. An error says why the process is not ready; the page then answers 503 with its text. nil
	// means that the process is always ready.
	Ready func(context.Context) error
	// Profiles adds the pages below /debug/pprof/. The default is false, because a profile slows the process down for every
	// client that can reach the port.
	Profiles bool
	// Handlers are further pages, by pattern as in http.ServeMux.
	Handlers map[string]http.Handler
	// API answers the requests for /openapi.json and for paths that begin with /v1/ or /kisgrid.v1., and limits their bodies, times and certificates itself. nil
	// means that there are no such paths.
	API http.Handler
	// Base is a path, such as /a/b, below which all pages are served, too: for a proxy that passes the paths of requests on as they are. Default: none.
	Base string
	// RefuseAPI refuses a request of the API with status 503, because there are too many connections. err says so. nil means plain text.
	RefuseAPI func(w http.ResponseWriter, err error)
}

// NewHTTPServer makes the HTTP server. The caller serves it on a listener of Listen, with ServeTLS(l, "", "") where its
// TLSConfig is set, and ends it with Shutdown or Close. The server cuts off slow and oversized requests.
func NewHTTPServer(c HTTPConfig) (*http.Server, error) {
	if _, err := c.Transport.ServerTLS(); err != nil {
		return nil, err
	}
	asking := c.Transport
	asking.RequireClientCert = false // the handshake does not require a certificate; requireCert checks it for each page
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
	pages := http.MaxBytesHandler(mux, maxBodyBytes)
	if c.Transport.RequireClientCert {
		pages = requireCert(&c.Transport, pages)
	}
	if c.API != nil {
		pages = withAPI(c.API, pages)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	places := &httpConns{connections: newConnLimiter(maxHTTPConnections, maxHTTPConnections*3/4), refuseAPI: c.RefuseAPI, entries: map[net.Conn]*connEntry{}}
	return &http.Server{
		Handler:           below(c.Base, places.limit(pages)),
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxHTTPStreams},
		ConnContext:       places.add,
		ConnState:         places.stateChanged,
		TLSConfig:         config,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second, // twice maxProfileTime
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    transport.MaxHeaderBytes,
		ErrorLog:          c.Transport.Log().StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
	}, nil
}

// below takes the base from the paths of requests that begin with it. The base itself is sent on to the path with a final slash, so that
// relative addresses of the page there lead below the base.
func below(base string, pages http.Handler) http.Handler {
	if base == "" {
		return pages
	}
	stripped := http.StripPrefix(base, pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch rest, is := strings.CutPrefix(r.URL.Path, base); {
		case is && rest == "":
			w.Header().Set("Location", base+"/") // a path of this server, never another host: CheckBase has seen to it
			w.WriteHeader(http.StatusPermanentRedirect)
		case is && rest[0] == '/':
			stripped.ServeHTTP(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// CheckBase returns an error if a text can't be HTTPConfig.Base: it must be empty, or a path of plain names such as /a/b.
func CheckBase(base string) error {
	if base == "" {
		return nil
	}
	plain := strings.Trim(base, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") == ""
	if !plain || base[0] != '/' || path.Clean(base) != base || base == "/" {
		return fmt.Errorf("%q is no path for the HTTP pages: write it as /a/b, without a slash at the end", base)
	}
	return nil
}

// withAPI passes requests for paths of the API on to it, and others to the pages.
func withAPI(api, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isAPI(r) {
			api.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// isAPI reports whether a request is for a path of the API.
func isAPI(r *http.Request) bool {
	return r.URL.Path == "/openapi.json" || strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/kisgrid.v1.")
}

// isProbe reports whether a request is a health probe, which limits must not keep out.
func isProbe(r *http.Request) bool { return r.URL.Path == "/livez" || r.URL.Path == "/readyz" }

// httpConns applies a connLimiter to an HTTP server. It keeps the limiter's entry of each open connection.
type httpConns struct {
	connections *connLimiter
	refuseAPI   func(http.ResponseWriter, error) // refuses requests of the API; nil means plain text
	mu          sync.Mutex
	entries     map[net.Conn]*connEntry // guarded by mu
}

// placeKey is the key of a connection's *connEntry in the context of its requests.
type placeKey struct{}

// add enters a new connection into the limiter and puts its entry into the context of its requests. It is the ConnContext of
// http.Server.
func (h *httpConns) add(ctx context.Context, conn net.Conn) context.Context {
	a := h.connections.add(conn)
	h.mu.Lock()
	h.entries[conn] = a
	h.mu.Unlock()
	return context.WithValue(ctx, placeKey{}, a)
}

// stateChanged takes a closed connection out of the limiter. It is the ConnState of http.Server.
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

// limit wraps the pages, so that only admitted connections get them. Probes are answered on any connection.
func (h *httpConns) limit(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, _ := r.Context().Value(placeKey{}).(*connEntry); a != nil && !isProbe(r) {
			if err := a.beginCall(); err != nil {
				w.Header().Set("Connection", "close")
				w.Header().Set("Retry-After", "1")
				err = batch.Errorf(batch.CodeUnavailable, "%w: close a connection and try again", err)
				if h.refuseAPI != nil && isAPI(r) {
					h.refuseAPI(w, err)
					return
				}
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			defer a.endCall()
		}
		pages.ServeHTTP(w, r)
	})
}

// requireCert wraps the pages, so that only clients with a certificate get them. Probes are answered without one.
func requireCert(c *transport.Config, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isProbe(r) && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			http.Error(w, "this page needs a client certificate that an authority has issued in the server's "+c.Flag("tls-ca"), http.StatusForbidden)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// answer writes the page of a health check: "ok", or the error with status 503.
func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(err.Error() + "\n")) // an error says that the client is gone
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
