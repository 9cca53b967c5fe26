package transport

import (
	"context"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxBodyBytes bounds what a request to the HTTP port may carry.
const maxBodyBytes = 1 << 20

// HTTPConfig says what the HTTP port serves: GET /metrics, /livez and /readyz, and what else is handed in.
type HTTPConfig struct {
	// Transport gives the port TLS where it has a certificate. The zero value is plaintext.
	Transport Config
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
	config, err := c.Transport.ServerTLS()
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
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	}
	return &http.Server{
		Handler:           http.MaxBytesHandler(mux, maxBodyBytes),
		TLSConfig:         config,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second, // a profile takes half of it
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          c.Transport.logger().StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
	}, nil
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
