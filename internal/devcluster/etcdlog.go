package devcluster

import (
	"slices"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap/zapcore"
)

// errorsOnly hands on what etcd logs as an error, until it is silenced: while it stops, etcd takes every broken connection for
// an error.
type errorsOnly struct {
	to     hclog.Logger // nil: nobody
	silent *atomic.Bool
	fields []zapcore.Field
}

func newErrorsOnly(to hclog.Logger) *errorsOnly { return &errorsOnly{to: to, silent: new(atomic.Bool)} }

func (l *errorsOnly) silence() { l.silent.Store(true) }

// Enabled implements zapcore.Core.
func (l *errorsOnly) Enabled(level zapcore.Level) bool {
	return l.to != nil && level >= zapcore.ErrorLevel && !l.silent.Load()
}

// With implements zapcore.Core.
func (l *errorsOnly) With(fields []zapcore.Field) zapcore.Core {
	with := *l
	with.fields = slices.Concat(fields, l.fields)
	return &with
}

// Check implements zapcore.Core.
func (l *errorsOnly) Check(entry zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	// A new member has no term yet when it first looks for one, and says so; it looks again.
	if l.Enabled(entry.Level) && entry.Message != "failed to update storage version" {
		return to.AddCore(entry, l)
	}
	return to
}

// Write implements zapcore.Core.
func (l *errorsOnly) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(fields, l.fields) {
		f.AddTo(values)
	}
	pairs := make([]any, 0, 2*len(values.Fields))
	for name, value := range values.Fields {
		pairs = append(pairs, name, value)
	}
	l.to.Error("embedded etcd: "+entry.Message, pairs...)
	return nil
}

// Sync implements zapcore.Core.
func (l *errorsOnly) Sync() error { return nil }
