package devcluster

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap/zapcore"
)

// errorsOnly is the log of an embedded etcd. It passes etcd's errors on to another logger and drops the rest. Close of Etcd silences it:
// while etcd stops, it logs every broken connection as an error. It implements zapcore.Core.
type errorsOnly struct {
	to     hclog.Logger    // nil means that errors are dropped too
	silent *atomic.Bool    // shared by all loggers that With made of this one
	fields []zapcore.Field // added to every entry
}

// newErrorsOnly makes a log that passes errors on to the logger to. If to is nil, errors are dropped.
func newErrorsOnly(to hclog.Logger) *errorsOnly { return &errorsOnly{to: to, silent: new(atomic.Bool)} }

// silence makes the log drop every entry from now on.
func (l *errorsOnly) silence() { l.silent.Store(true) }

// Enabled implements zapcore.Core: it reports whether an entry of this level is passed on.
func (l *errorsOnly) Enabled(level zapcore.Level) bool {
	return l.to != nil && level >= zapcore.ErrorLevel && !l.silent.Load()
}

// With implements zapcore.Core: it returns a log that adds the fields to each entry. silence silences it too.
func (l *errorsOnly) With(fields []zapcore.Field) zapcore.Core {
	with := *l
	with.fields = slices.Concat(fields, l.fields)
	return &with
}

// Check implements zapcore.Core: it adds this log to the checked entry if the entry is to be passed on.
func (l *errorsOnly) Check(entry zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	// A new member logs this error once, before it has its first term, and tries again with success.
	if l.Enabled(entry.Level) && entry.Message != "failed to update storage version" {
		return to.AddCore(entry, l)
	}
	return to
}

// Write implements zapcore.Core: it passes the entry on, as an error with the fields as pairs.
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

// Sync implements zapcore.Core. It does nothing, because nothing is buffered.
func (l *errorsOnly) Sync() error { return nil }

// fatalHook ends the process when the embedded etcd can't go on, as etcd itself does, but says why first.
type fatalHook struct{}

// OnWrite implements zapcore.CheckWriteHook.
func (fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(values)
	}
	fmt.Fprintf(os.Stderr, "the embedded etcd can't go on: %s: %v\n", entry.Message, values.Fields["error"])
	os.Exit(1)
}
