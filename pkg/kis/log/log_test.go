package log_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/kis/log"
)

// kept is a logger that keeps what it is told.
type kept struct {
	debug bool
	lines []string
}

func (k *kept) add(level, format string, args ...any) {
	k.lines = append(k.lines, level+fmt.Sprintf(format, args...))
}
func (k *kept) InfoF(format string, args ...any)                      { k.add("I ", format, args...) }
func (k *kept) ErrorF(format string, args ...any)                     { k.add("E ", format, args...) }
func (k *kept) DebugF(format string, args ...any)                     { k.add("D ", format, args...) }
func (k *kept) InfoFX(_ context.Context, format string, args ...any)  { k.InfoF(format, args...) }
func (k *kept) ErrorFX(_ context.Context, format string, args ...any) { k.ErrorF(format, args...) }
func (k *kept) DebugFX(_ context.Context, format string, args ...any) { k.DebugF(format, args...) }
func (k *kept) SetDebugMode(enable bool)                              { k.debug = enable }

func TestSetLogger(t *testing.T) {
	standard := log.Logger()
	if standard == nil {
		t.Fatal("there is no default logger")
	}
	k := &kept{}
	log.SetLogger(k)
	log.Logger().SetDebugMode(true)
	log.Logger().InfoF("%d", 1)
	log.Logger().ErrorFX(t.Context(), "%d", 2)
	log.Logger().DebugF("%d", 3)
	if want := []string{"I 1", "E 2", "D 3"}; !slices.Equal(k.lines, want) || !k.debug {
		t.Errorf("the logger was told %q", k.lines)
	}
	log.SetLogger(nil)
	if log.Logger() != standard {
		t.Error("nil does not bring the default logger back")
	}
}
