// Package log has the logger that flows of KisFlow's programs tell what they do: never rows, and no error that they return.
package log

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// KisLogger takes messages in the manner of fmt.Sprintf, with the context of a run where there is one. It is called by many
// goroutines.
type KisLogger interface {
	InfoFX(ctx context.Context, format string, args ...any)
	ErrorFX(ctx context.Context, format string, args ...any)
	DebugFX(ctx context.Context, format string, args ...any)
	InfoF(format string, args ...any)
	ErrorF(format string, args ...any)
	DebugF(format string, args ...any)
	// SetDebugMode says whether debug messages are of interest.
	SetDebugMode(enable bool)
}

var logger atomic.Pointer[KisLogger]

// SetLogger makes flows use another logger. nil brings the default one back.
func SetLogger(l KisLogger) {
	if l == nil {
		l = standard
	}
	logger.Store(&l)
}

// Logger is the logger that flows use. By default it writes lines with time and level to the standard error: debug messages
// only in debug mode, contexts never.
func Logger() KisLogger {
	if l := logger.Load(); l != nil {
		return *l
	}
	return standard
}

var standard KisLogger = lines{hclog.New(&hclog.LoggerOptions{Name: "kisflow", Output: os.Stderr, Level: hclog.Info})}

// lines is the default logger.
type lines struct{ out hclog.Logger }

func (l lines) InfoF(format string, args ...any)  { l.out.Info(fmt.Sprintf(format, args...)) }
func (l lines) ErrorF(format string, args ...any) { l.out.Error(fmt.Sprintf(format, args...)) }

func (l lines) DebugF(format string, args ...any) {
	if l.out.IsDebug() {
		l.out.Debug(fmt.Sprintf(format, args...))
	}
}

func (l lines) InfoFX(_ context.Context, format string, args ...any)  { l.InfoF(format, args...) }
func (l lines) ErrorFX(_ context.Context, format string, args ...any) { l.ErrorF(format, args...) }
func (l lines) DebugFX(_ context.Context, format string, args ...any) { l.DebugF(format, args...) }

func (l lines) SetDebugMode(enable bool) {
	level := hclog.Info
	if enable {
		level = hclog.Debug
	}
	l.out.SetLevel(level)
}
