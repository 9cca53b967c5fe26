package world

import (
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/world/history"
)

// logWriter takes the lines of a process's log into the history. hclog writes one whole line at a time, and serves one line at a time.
type logWriter struct {
	rec  *history.Recorder
	life *history.Life
	off  atomic.Bool // the process was killed: lines are dropped
}

// newLog makes the logger of a process. Its lines have no time, since the history has it.
func newLog(rec *history.Recorder, life *history.Life) (hclog.Logger, *logWriter) {
	w := &logWriter{rec: rec, life: life}
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: w, DisableTime: true}), w
}

// Write implements io.Writer: it takes one line, such as "[WARN]  transport: refused: peer=…".
func (w *logWriter) Write(line []byte) (int, error) {
	if w.off.Load() {
		return len(line), nil
	}
	text := strings.TrimRight(string(line), "\n")
	level := ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		level, text, _ = strings.Cut(rest, "]")
		text = strings.TrimLeft(text, " ")
	}
	w.rec.Logged(w.life, strings.ToLower(level), text)
	return len(line), nil
}
