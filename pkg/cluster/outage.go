package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// outage tells the logger once that etcd is out of reach, however many wait for it, and once that it is in reach again.
type outage struct {
	logger hclog.Logger

	mu      sync.Mutex
	waiting int       // guarded by mu
	since   time.Time // guarded by mu
	reason  error     // of the first who waits; guarded by mu
}

// now reports whether somebody waits for etcd, and why.
func (o *outage) now() (away bool, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting == 0 {
		return false, ""
	}
	return true, o.reason.Error()
}

// begins counts one more who waits for etcd.
func (o *outage) begins(reason error) {
	o.mu.Lock()
	o.waiting++
	first := o.waiting == 1
	if first {
		o.since, o.reason = time.Now(), reason
	}
	o.mu.Unlock()
	if first {
		o.logger.Warn("etcd is out of reach: going on with what is known, and trying again", "error", reason)
	}
}

// ends takes back one begins, because etcd answered or because nobody waits for that any more.
func (o *outage) ends(answered bool) {
	o.mu.Lock()
	o.waiting--
	last, since := o.waiting == 0, o.since
	o.mu.Unlock()
	if last && answered {
		o.logger.Info("etcd is in reach again", "after", time.Since(since).Round(time.Millisecond))
	}
}

// patience is one loop's way of waiting for etcd: it tells of an outage once, and pauses longer and longer. It belongs to one
// goroutine.
type patience struct {
	outage *outage
	away   bool
	pause  time.Duration
}

// Pauses between tries of something that etcd did not do.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 2 * time.Second
)

// failed pauses, or returns early when the context ends.
func (p *patience) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !p.away {
		p.away = true
		p.outage.begins(err)
	}
	p.pause = min(max(2*p.pause, shortestPause), longestPause)
	timer := time.NewTimer(p.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// succeeded says that etcd did it.
func (p *patience) succeeded() { p.end(true) }

// giveUp says that it is not tried any more.
func (p *patience) giveUp() { p.end(false) }

func (p *patience) end(answered bool) {
	if p.away {
		p.away = false
		p.outage.ends(answered)
	}
	p.pause = 0
}
