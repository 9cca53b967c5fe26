package connector

import (
	"context"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// handle is one user's share in a pooled connection. It passes calls on, and takes secrets out of their errors.
type handle struct {
	Connection
	redactor *definition.Redactor // takes out the values of ${NAME}; nil if there are none
	leave    func() error         // ends the share; it may be called twice
}

func (h *handle) Close() error { return h.leave() }

// Unwrap returns the pooled connection itself, for packages that know its type.
func (h *handle) Unwrap() Connection { return h.Connection }

// Redact returns a text without secrets. It is for texts of functions that use the connection's client directly.
func (h *handle) Redact(text string) string { return h.redactor.Text(text) }

// Save passes the effects on, and takes secrets out of the verdicts and the error.
func (h *handle) Save(ctx context.Context, cause Cause, effects []Effect) ([]error, error) {
	verdicts, err := h.Connection.Save(ctx, cause, effects)
	if h.redactor == nil {
		return verdicts, err
	}
	verdicts = slices.Clone(verdicts) // the connection may still read its own: it tells waiting rows which effects took place
	for i, verdict := range verdicts {
		verdicts[i] = h.redactor.Error(verdict)
	}
	return verdicts, h.redactor.Error(err)
}

// Load passes the keys on, and takes secrets out of the values' errors and the error.
func (h *handle) Load(ctx context.Context, keys []string) ([]Value, error) {
	values, err := h.Connection.Load(ctx, keys)
	if h.redactor == nil {
		return values, err
	}
	for i := range values {
		values[i].Err = h.redactor.Error(values[i].Err)
	}
	return values, h.redactor.Error(err)
}

func (h *handle) Ping(ctx context.Context) error { return h.redactor.Error(h.Connection.Ping(ctx)) }
