// Package log has the logger of flows in KisFlow's manner. Flows log their steps: no rows, and no errors that they return.
package log

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// KisLogger is the interface of a logger. Messages are formatted as by fmt.Sprintf. The methods whose names end in X also get
// the context of the run. Any goroutine may call the methods.
type KisLogger interface {
	InfoFX(ctx context.Context, format string, args ...any)
	ErrorFX(ctx context.Context, format string, args ...any)
	DebugFX(ctx context.Context, format string, args ...any)
	InfoF(format string, args ...any)
	ErrorF(format string, args ...any)
	DebugF(format string, args ...any)
	// SetDebugMode turns debug messages on or off.
	SetDebugMode(enable bool)
}

// logger has the KisLogger that SetLogger set; nil means the default logger.
var logger atomic.Pointer[KisLogger]

// SetLogger sets the logger that all flows of the process use. nil restores the default logger.
func SetLogger(l KisLogger) {
	if l == nil {
		l = standard
	}
	logger.Store(&l)
}

// Logger returns the logger that flows use. The default logger writes lines with time and level to the standard error. It writes
// debug messages only in debug mode, and never writes contexts.
func Logger() KisLogger {
	if l := logger.Load(); l != nil {
		return *l
	}
	return standard
}

// standard is the default logger.
var standard KisLogger = lines{hclog.New(&hclog.LoggerOptions{Name: "kisflow", Output: os.Stderr, Level: hclog.Info})}

// lines is the KisLogger of the default logger: it writes lines with package hclog.
type lines struct{ out hclog.Logger }

func (l lines) InfoF(format string, args ...any)  { l.out.Info(fmt.Sprintf(format, args...)) }
func (l lines) ErrorF(format string, args ...any) { l.out.Error(fmt.Sprintf(format, args...)) }

// DebugF formats the message only in debug mode.
func (l lines) DebugF(format string, args ...any) {
	if l.out.IsDebug() {
		l.out.Debug(fmt.Sprintf(format, args...))
	}
}

func (l lines) InfoFX(_ context.Context, format string, args ...any)  { l.InfoF(format, args...) }
func (l lines) ErrorFX(_ context.Context, format string, args ...any) { l.ErrorF(format, args...) }
func (l lines) DebugFX(_ context.Context, format string, args ...any) { l.DebugF(format, args...) }

// SetDebugMode turns the writing of debug messages on or off.
func (l lines) SetDebugMode(enable bool) {
	level := hclog.Info
	if enable {
		level = hclog.Debug
	}
	l.out.SetLevel(level)
}
