package connector

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// redactorKey is the context key under which an Opener finds its redactor.
type redactorKey struct{}

// RedactorOf returns the redactor for the document that an Opener opens under ctx. An opener uses it for the texts that it logs
// itself; Pool takes secrets out of the errors that it returns. nil means that the document has no secrets.
func RedactorOf(ctx context.Context) *definition.Redactor {
	r, _ := ctx.Value(redactorKey{}).(*definition.Redactor)
	return r
}

// Redacting returns a logger that logs as l does, without the values that r takes out. If r is nil it returns l.
func Redacting(l hclog.Logger, r *definition.Redactor) hclog.Logger {
	if r == nil {
		return l
	}
	return &redacting{l, r}
}

// redacting is the logger that Redacting returns.
type redacting struct {
	hclog.Logger
	redactor *definition.Redactor
}

// clean returns the arguments of a log message with the secrets taken out.
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

// Log logs a message at a level, without secrets. The other methods of hclog.Logger that log go through it.
func (l *redacting) Log(level hclog.Level, msg string, args ...any) {
	l.Logger.Log(level, l.redactor.Text(msg), l.clean(args)...)
}
func (l *redacting) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *redacting) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *redacting) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *redacting) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *redacting) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

// With makes a logger that adds args, without secrets, to each message.
func (l *redacting) With(args ...any) hclog.Logger {
	return &redacting{l.Logger.With(l.clean(args)...), l.redactor}
}
func (l *redacting) Named(name string) hclog.Logger {
	return &redacting{l.Logger.Named(name), l.redactor}
}
func (l *redacting) ResetNamed(name string) hclog.Logger {
	return &redacting{l.Logger.ResetNamed(name), l.redactor}
}
