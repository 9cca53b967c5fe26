package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/terminal"
)

// silence is for how long a command waits for a coordinator before it says so.
const silence = time.Second

// waiting tells a person why a command waits: once in each wait, after a second, with the last reason that the client's log gave. Any
// goroutine may use it.
type waiting struct {
	say    func(reason string)
	logger hclog.Logger // of the client; it passes warnings on to the person, except for those of which waiting tells

	mu     sync.Mutex
	reason string    // guarded by mu: the last one; "" means that there was none
	since  time.Time // guarded by mu: when the stream lost its coordinator; zero while it has one
	told   bool      // guarded by mu: in this wait
}

// newLogger makes the logger of the client.
func (p *waiting) newLogger(log io.Writer) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "kisgrid", Level: hclog.Warn, Output: log, Exclude: func(_ hclog.Level, message string, _ ...any) bool {
		return message == noCoordinator
	}})
	l.RegisterSink(p)
	return l
}

// noCoordinator is the message with which a client's stream says that it looks for a coordinator, and opened that it has one.
const (
	noCoordinator = "stream has no coordinator"
	opened        = "stream opened"
)

// Accept implements hclog.SinkAdapter: it takes the messages of the client's log.
func (p *waiting) Accept(_ string, _ hclog.Level, message string, args ...any) {
	switch message {
	case noCoordinator:
		reason := "it does not answer"
		if i := slices.Index(args, any("error")); i >= 0 && i+1 < len(args) {
			reason = fmt.Sprint(args[i+1])
		}
		p.mu.Lock()
		if p.since.IsZero() {
			p.since = time.Now()
		}
		p.reason = reason
		p.mu.Unlock()
		p.tell(false)
	case opened:
		p.mu.Lock()
		p.since, p.reason, p.told = time.Time{}, "", false
		p.mu.Unlock()
	}
}

// begin says that a wait begins. The caller calls the result when it is over.
func (p *waiting) begin() (end func()) {
	p.mu.Lock()
	p.since, p.told = time.Now(), false
	p.mu.Unlock()
	timer := time.AfterFunc(silence, func() { p.tell(true) })
	return func() {
		timer.Stop()
		p.mu.Lock()
		p.since, p.told = time.Time{}, false
		p.mu.Unlock()
	}
}

// tell tells the reason, unless it was told or the wait is too short yet. sure says that enough time has passed.
func (p *waiting) tell(sure bool) {
	p.mu.Lock()
	now := !p.told && !p.since.IsZero() && (sure || time.Since(p.since) >= silence)
	p.told = p.told || now
	reason := p.reason
	p.mu.Unlock()
	if !now {
		return
	}
	if reason == "" {
		reason = "it does not answer"
	}
	p.say(terminal.Text(reason))
}
