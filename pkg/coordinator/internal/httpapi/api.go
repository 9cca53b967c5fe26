package httpapi

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/proto/gateway"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Config is what the API needs of its coordinator. Ingest, Unary and Stream must be set; a zero value of any other field means its
// default.
type Config struct {
	// Ingest takes the batches, as it does for clients that speak gRPC.
	Ingest pb.IngestServer
	// Admin has the calls of the command line. Default: nil, which means that they are not served as JSON.
	Admin pb.AdminServer
	// Requests keeps requests that have a key of idempotency. Default: nil, which means that such keys are refused.
	Requests Requests
	// Caller returns the name of the caller from the context that the interceptors made. Default: everybody has the name "".
	Caller func(context.Context) string
	// Viewer returns the caller and its rights, from the same context. Default: everybody may do everything.
	Viewer func(context.Context) Viewer
	// Unary and Stream are the interceptors of the gRPC server. They find out who calls from the peer and the metadata in the context, and
	// refuse a call that the caller may not make.
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
	// Types returns the types of the fields of a flow's rows, for CSV, or nil if they are not known. Default: they are not known.
	Types func(ctx context.Context, flow string) rowfile.Types
	// Limits are those of a batch.
	Limits batch.Limits
	// MessageBytes is how many bytes one answer may have.
	MessageBytes int
	// Hosts are further names of this server, which the Host header may have. "*" allows all names. Default: none.
	Hosts []string
	// RequireCert says that a request needs a certificate of a client.
	RequireCert bool
	// Budget bounds the bytes of rows that are held before they are sent.
	Budget Budget
	// Draining is closed when no rows are taken any more.
	Draining <-chan struct{}
}

// Budget bounds how many bytes all clients together may make the coordinator hold.
type Budget interface {
	// ReserveCall takes the cost of so many rows and bytes out of the budget. If it has no room, ok is false and release is nil. Otherwise
	// the caller must call release once.
	ReserveCall(rows, bytes int) (release func(), ok bool)
}

// API is the HTTP API of a coordinator: an http.Handler for all paths below /v1/. Its methods may be called by any goroutine.
type API struct {
	Config
	guard guard
	mux   *http.ServeMux
	// carriers waits for goroutines that read the body or write the answer of a request. They may outlive the request for a moment.
	carriers sync.WaitGroup
	calls    sync.WaitGroup // requests under way
	keyRate  *rate.Limiter  // of requests with a key of idempotency
	metrics  metrics
}

// New makes the HTTP API of a coordinator.
func New(c Config) (*API, error) {
	c.Limits = c.Limits.WithDefaults()
	if c.Caller == nil {
		c.Caller = func(context.Context) string { return "" }
	}
	if c.Viewer == nil {
		c.Viewer = func(context.Context) Viewer { return Viewer{Everything: true} }
	}
	a := &API{Config: c, mux: http.NewServeMux(), keyRate: rate.NewLimiter(keysPerSecond, keysAtOnce), metrics: newMetrics()}
	for _, host := range c.Hosts {
		a.guard.hosts = append(a.guard.hosts, strings.ToLower(strings.TrimSuffix(host, ".")))
	}
	a.mux.HandleFunc("POST /v1/flows/{flow}/rows", a.postRows)
	a.mux.HandleFunc("/v1/flows/{flow}/rows", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, statusError{batch.Errorf(batch.CodeBadMessage, "rows are sent with POST: docs/http.md shows how"), http.StatusMethodNotAllowed})
	})
	a.mux.HandleFunc("GET /v1/whoami", a.whoAmI)
	a.mux.HandleFunc("POST /v1/session", a.signIn)
	a.mux.HandleFunc("DELETE /v1/session", a.signOut)
	a.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(gateway.OpenAPI) // an error says that the client is gone
	})
	var calls http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, batch.Errorf(batch.CodeNotFound, "there is no such page: GET /openapi.json lists all pages"))
	})
	if c.Admin != nil {
		var err error
		if calls, err = a.adminCalls(); err != nil {
			return nil, err
		}
	}
	a.mux.Handle("/", calls)
	return a, nil
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.calls.Add(1)
	defer a.calls.Done()
	w, end := a.metrics.begin(w, r)
	defer end()
	secure(w.Header())
	if len(r.TransferEncoding) > 0 && r.ProtoMajor == 1 {
		// Where a proxy before this server sees the end of the body elsewhere, the rest is not taken for another request.
		w.Header().Set("Connection", "close")
	}
	if err := a.guard.check(r); err != nil {
		refuse(w, err)
		return
	}
	if a.RequireCert && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		refuse(w, batch.Errorf(batch.CodePermissionDenied, "this server requires a certificate of its clients: "+
			"show one that an authority has issued which the server trusts"))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// Drain waits until no request is under way, or until ctx is done. Once Config.Draining is closed, no request takes rows any more.
func (a *API) Drain(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.calls.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// Wait waits for all goroutines of requests. The listener must have been closed, with all connections.
func (a *API) Wait() {
	a.calls.Wait()
	a.carriers.Wait()
}

// callContext returns the context for a call that a request makes of a gRPC service: it ends with the request, and has the peer and the
// headers where interceptors look for them.
func callContext(r *http.Request) context.Context {
	p := &peer.Peer{Addr: address(r.RemoteAddr)}
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State: *r.TLS, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	headers := metadata.MD{":authority": {r.Host}}
	for name, values := range r.Header {
		if name != "Cookie" {
			headers.Append(strings.ToLower(name), values...)
		}
	}
	if token := sessionToken(r); token != "" && len(r.Header.Values("Authorization")) == 0 {
		headers.Append("authorization", "Bearer "+token)
	}
	return metadata.NewIncomingContext(peer.NewContext(r.Context(), p), headers)
}

// address is the address of a request's client, as host:port. It implements net.Addr.
type address string

// Network returns the kind of network.
func (a address) Network() string { return "tcp" }

// String returns the address.
func (a address) String() string { return string(a) }
