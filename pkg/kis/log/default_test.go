package log

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// The default logger tells of debug messages in debug mode only, and never of contexts.
func TestDefaultLogger(t *testing.T) {
	var out bytes.Buffer
	l := lines{hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info})}
	l.DebugF("quiet %d", 1)
	l.SetDebugMode(true)
	l.DebugFX(t.Context(), "loud %d", 2)
	l.SetDebugMode(false)
	l.DebugFX(t.Context(), "quiet again")
	l.InfoF("info %d", 3)
	l.ErrorFX(t.Context(), "error %d", 4)
	told := out.String()
	for _, want := range []string{"[DEBUG] loud 2", "[INFO]  info 3", "[ERROR] error 4"} {
		if !strings.Contains(told, want) {
			t.Errorf("it told\n%s\nnot %q", told, want)
		}
	}
	if strings.Contains(told, "quiet") || strings.Contains(told, "context") {
		t.Errorf("it told\n%s", told)
	}
}
