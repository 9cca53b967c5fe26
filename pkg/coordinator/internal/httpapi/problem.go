package httpapi

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// problem is an error as RFC 9457 describes it. It is the body of a refused request, and the last line of an answer that began well.
type problem struct {
	// Type is a URN that ends with the code; programs compare Code instead.
	Type string `json:"type"`
	// Title is the same text for each status.
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what is wrong with this request, and what to do next.
	Detail string `json:"detail"`
	// Code is the stable code of docs/outcomes.md.
	Code string `json:"code"`
	// RetryAfterMilliseconds is after which time it may help to try again; 0 where that is unknown.
	RetryAfterMilliseconds int64 `json:"retry_after_milliseconds,omitempty"`
	// NotSubmitted is the number of the first row of the body that was not submitted, in an answer whose status was 200. All rows from
	// there on have not run.
	NotSubmitted *int64 `json:"not_submitted_from,omitempty"`
}

// statusError is an error that is answered with a status of its own instead of its code's.
type statusError struct {
	error
	status int
}

// Unwrap returns the error that has the code.
func (e statusError) Unwrap() error { return e.error }

// statuses has the status of each code that does not mean a defect of the coordinator.
var statuses = map[batch.Code]int{
	batch.CodeBadMessage:       http.StatusBadRequest,
	batch.CodeEmptyBatch:       http.StatusBadRequest,
	batch.CodeBadColumns:       http.StatusBadRequest,
	batch.CodeBadBatchID:       http.StatusBadRequest,
	batch.CodeMissingKeys:      http.StatusBadRequest,
	batch.CodeRowUndecodable:   http.StatusBadRequest,
	batch.CodeUnauthenticated:  http.StatusUnauthorized,
	batch.CodePermissionDenied: http.StatusForbidden,
	batch.CodeUnknownFlow:      http.StatusNotFound,
	batch.CodeNotFound:         http.StatusNotFound,
	batch.CodeFlowDisabled:     http.StatusConflict,
	batch.CodeConflict:         http.StatusConflict,
	batch.CodeRevisionGone:     http.StatusConflict,
	batch.CodeRevisionChanged:  http.StatusConflict,
	batch.CodeBatchTooOld:      http.StatusConflict,
	batch.CodeBatchGivenUp:     http.StatusConflict,
	batch.CodeRowTooLarge:      http.StatusRequestEntityTooLarge,
	batch.CodeBatchTooLarge:    http.StatusRequestEntityTooLarge,
	batch.CodeTooManyRows:      http.StatusRequestEntityTooLarge,
	batch.CodeFlowUncompilable: http.StatusUnprocessableEntity,
	batch.CodeBadDocument:      http.StatusUnprocessableEntity,
	batch.CodeUnknownFunction:  http.StatusUnprocessableEntity,
	batch.CodeUnknownConnector: http.StatusUnprocessableEntity,
	batch.CodeOverloaded:       http.StatusTooManyRequests,
	batch.CodeNoCapableWorker:  http.StatusServiceUnavailable,
	batch.CodeUnavailable:      http.StatusServiceUnavailable,
	batch.CodeShutdown:         http.StatusServiceUnavailable,
	batch.CodeCancelled:        http.StatusServiceUnavailable,
	batch.CodeProtocolMismatch: http.StatusNotImplemented,
	batch.CodeDeadline:         http.StatusGatewayTimeout,
}

// problemOf makes the problem document of an error, which must not be nil.
func problemOf(err error) problem {
	e := wire.FromError(wire.FromStatus(err))
	code := batch.Code(e.GetCode())
	p := problem{Code: code.String(), Detail: e.GetMessage(), Status: http.StatusInternalServerError}
	if status, ok := statuses[code]; ok {
		p.Status = status
	}
	if own, ok := errors.AsType[statusError](err); ok {
		p.Status = own.status
	}
	p.Type = "urn:kisgrid:problem:" + p.Code
	p.Title = http.StatusText(p.Status)
	p.RetryAfterMilliseconds = int64(e.GetRetryAfterMilliseconds())
	return p
}

// Refuse answers a request that did not come to ServeHTTP, because the port has no room for it, with the problem document of an error.
func (a *API) Refuse(w http.ResponseWriter, err error) {
	secure(w.Header())
	refuse(w, err)
	a.metrics.requests.WithLabelValues(callOther, strconv.Itoa(problemOf(err).Status)).Inc()
}

// refuse answers a request with the problem document of an error. Nothing of the answer may have been written before.
func refuse(w http.ResponseWriter, err error) {
	p := problemOf(err)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		wait := time.Duration(p.RetryAfterMilliseconds) * time.Millisecond
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="kisgrid"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) //nolint:errchkjson // an error says that the client is gone
}
