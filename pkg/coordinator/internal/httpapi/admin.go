package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/kisgrid/kisgrid/pkg/batch"
	gateway "github.com/kisgrid/kisgrid/proto/gateway/kisgrid/v1"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxCallBytes is the most bytes of the body of a call of Admin.
const maxCallBytes = 8 << 20

// adminCalls makes the handler of the calls of Admin as JSON: proto/http.yaml has their paths.
func (a *API) adminCalls() (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &verbatim{runtime.JSONPb{MarshalOptions: jsonOptions}}),
		runtime.WithForwardResponseRewriter(readable),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			refuse(w, err)
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, status int) {
			text := "there is no such page: GET /openapi.json lists all pages"
			if status == http.StatusMethodNotAllowed {
				text = "the page does not take this method: GET /openapi.json lists all pages"
			}
			refuse(w, statusError{batch.Errorf(batch.CodeNotFound, "%s", text), status})
		}),
	)
	conn := &localConn{service: &pb.Admin_ServiceDesc, server: a.Admin, unary: a.Unary, stream: a.Stream, carriers: &a.carriers}
	if err := gateway.RegisterAdminHandlerClient(context.Background(), mux, pb.NewAdminClient(conn)); err != nil {
		return nil, err
	}
	calls := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(callContext(r))
		r.Body = http.MaxBytesReader(w, r.Body, maxCallBytes)
		mux.ServeHTTP(&patientWriter{w, http.NewResponseController(w)}, r)
	})
	a.mux.HandleFunc("GET /v1/flows/{flow}/tap", tapEvents(conn, calls))
	return calls, nil
}

// patientWriter is a ResponseWriter that gives the client writePatience for each write, however long the answer takes together.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write writes a piece of the answer.
func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(writePatience)) // an error comes again with the write
	return p.ResponseWriter.Write(b)
}

// Flush sends what was written.
func (p *patientWriter) Flush() { _ = p.control.Flush() }

// Unwrap returns the ResponseWriter below, for http.ResponseController.
func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
