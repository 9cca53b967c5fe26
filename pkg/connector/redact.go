package connector

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Redaction stands in one place: whatever a connector says, its Pool takes the values of ${NAME} out before anybody hears of it.
// Openers get the redactor for what they log.

type redactorKey struct{}

// RedactorOf is the redactor for the document that an Opener opens under ctx; nil: there is nothing to take out.
func RedactorOf(ctx context.Context) *definition.Redactor {
	r, _ := ctx.Value(redactorKey{}).(*definition.Redactor)
	return r
}

// opened calls an opener. A panic in it is an error: it must not end the process. passes: the error may pass although its code is
// that of a wrong document.
func (pc *pooledConn) opened(ctx context.Context, open Opener) (conn Connection, passes bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			conn, err = nil, fmt.Errorf("connector %s: opening it panicked, which is a defect of what opens type %q: %v", pc.document.Name, pc.document.Type, p)
		}
		passes, err = isOutside(err), pc.redactor.Error(err)
	}()
	conn, err = open(context.WithValue(ctx, redactorKey{}, pc.redactor), pc.document)
	return conn, false, err
}

// Redact is a text without the values, for what a function says that went around the connection.
func (h *handle) Redact(text string) string { return h.redactor.Text(text) }

func (h *handle) Save(ctx context.Context, cause Cause, effects []Effect) ([]error, error) {
	verdicts, err := h.Connection.Save(ctx, cause, effects)
	if h.redactor == nil {
		return verdicts, err
	}
	for i, verdict := range verdicts {
		verdicts[i] = h.redactor.Error(verdict)
	}
	return verdicts, h.redactor.Error(err)
}

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

// Redacting is a logger that logs what l does, without the values that r takes out. l itself where r is nil.
func Redacting(l hclog.Logger, r *definition.Redactor) hclog.Logger {
	if r == nil {
		return l
	}
	return &redacting{l, r}
}

type redacting struct {
	hclog.Logger
	redactor *definition.Redactor
}

// clean takes the values out of what is logged beside a message.
func (l *redacting) clean(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		text := fmt.Sprint(arg)
		if out[i] = arg; l.redactor.Text(text) != text {
			out[i] = l.redactor.Text(text)
		}
	}
	return out
}

func (l *redacting) Log(level hclog.Level, msg string, args ...any) {
	l.Logger.Log(level, l.redactor.Text(msg), l.clean(args)...)
}
func (l *redacting) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *redacting) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *redacting) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *redacting) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *redacting) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *redacting) With(args ...any) hclog.Logger {
	return &redacting{l.Logger.With(l.clean(args)...), l.redactor}
}
func (l *redacting) Named(name string) hclog.Logger {
	return &redacting{l.Logger.Named(name), l.redactor}
}
func (l *redacting) ResetNamed(name string) hclog.Logger {
	return &redacting{l.Logger.ResetNamed(name), l.redactor}
}
