package history

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Kind says which program a process is.
type Kind string

// The kinds of processes.
const (
	Coordinator Kind = "coordinator"
	Worker      Kind = "worker"
	ClientKind  Kind = "client"
)

// Ending says how a life ended.
type Ending string

// The ways in which a life ends.
const (
	Running Ending = ""        // it had not ended when the record ended
	Killed  Ending = "killed"  // from outside, at once
	Drained Ending = "drained" // it was told to end, and ended by itself
	Failed  Ending = "failed"  // its Run returned an error
)

// Life is a process from its start to its end. A process that starts again under its name has another life.
type Life struct {
	Process  string // its name in the scenario
	Kind     Kind
	Number   int    // which life of the process, from 1
	ID       string // the id under which it registered, as far as it is known
	Settings scenario.Process
	Build    string
	Began    time.Duration
	Asked    time.Duration // when it was asked to end; 0 means never
	Ended    time.Duration // 0 means that it was running when the record ended
	How      Ending
	Error    string  // of Run
	Pauses   []Pause // when nothing went in or out
	Snaps    []Snap  // its metrics during the life, in order of time
	Logs     []Line
}

// Pause is a time in which a process was stopped.
type Pause struct{ From, Until time.Duration }

// Line is a line of a process's log.
type Line struct {
	At    time.Duration
	Level string // "trace", "debug", "info", "warn" or "error"
	Text  string // the message with its arguments
}

// Snap is a process's metrics at one moment.
type Snap struct {
	At      time.Duration
	Metrics []Sample
}

// Sample is the value of one series of a metric.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Value returns the sum of all series of a metric whose labels have the given values, written as name, value, name, value. ok says whether
// there is such a series.
func (s *Snap) Value(name string, labels ...string) (sum float64, ok bool) {
	for _, m := range s.Metrics {
		if m.Name == name && matches(m.Labels, labels) {
			sum += m.Value
			ok = true
		}
	}
	return sum, ok
}

// matches reports whether labels have the values that pairs lists: name, value, name, value.
func matches(labels map[string]string, pairs []string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if labels[pairs[i]] != pairs[i+1] {
			return false
		}
	}
	return true
}

// Up reports whether the life was running, and not stopped, during all of a time.
func (l *Life) Up(from, until time.Duration) bool {
	if l.Began > from || l.Ended > 0 && l.Ended < until || l.Asked > 0 && l.Asked < until {
		return false
	}
	for _, p := range l.Pauses {
		if p.From < until && (p.Until == 0 || p.Until > from) {
			return false
		}
	}
	return true
}
