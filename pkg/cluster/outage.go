package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// outage counts the loops that wait for etcd. It logs once that etcd is out of reach, when the first loop begins to wait, and once that it
// is back.
type outage struct {
	logger hclog.Logger

	mu      sync.Mutex
	waiting int       // loops that wait; guarded by mu
	since   time.Time // when the first of them began to wait; guarded by mu
	reason  error     // the error of that loop; guarded by mu
}

// now reports whether a loop waits for etcd at this moment, and why; why is empty if none waits.
func (o *outage) now() (away bool, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting == 0 {
		return false, ""
	}
	return true, o.reason.Error()
}

// waitBegins notes that one more loop waits for etcd, and logs that if it is the first.
func (o *outage) waitBegins(reason error) {
	o.mu.Lock()
	o.waiting++
	first := o.waiting == 1
	if first {
		o.since, o.reason = time.Now(), reason
	}
	o.mu.Unlock()
	if first {
		pointOutage.Hit()
		o.logger.Warn("etcd is out of reach: going on with the last known state, and trying again", "error", reason)
	}
}

// waitEnds notes that a loop no longer waits for etcd. answered is true if etcd has answered the loop, and false if the loop has stopped
// trying. If it was the last loop that waited, and etcd has answered it, that is logged.
func (o *outage) waitEnds(answered bool) {
	o.mu.Lock()
	o.waiting--
	last, since := o.waiting == 0, o.since
	o.mu.Unlock()
	if last && answered {
		pointBack.Hit()
		o.logger.Info("etcd is in reach again", "after", time.Since(since).Round(time.Millisecond))
	}
}

// retry spaces the tries of one loop that needs etcd. Its pauses double from shortestPause to longestPause, and it tells outage while the
// loop waits. It belongs to one goroutine.
type retry struct {
	outage *outage
	away   bool // the last try failed, and outage counts the loop
	pause  time.Duration
}

// Pauses between tries of something that etcd did not do.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 2 * time.Second
)

// failed notes that a call to etcd failed with err, and pauses before the loop tries again. It returns early when the context ends, and
// does nothing if that has ended already.
func (r *retry) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !r.away {
		r.away = true
		r.outage.waitBegins(err)
	}
	r.pause = min(max(2*r.pause, shortestPause), longestPause)
	timer := time.NewTimer(r.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// succeeded notes that a call to etcd succeeded, so that the loop waits no longer.
func (r *retry) succeeded() { r.end(true) }

// giveUp notes that the loop stops trying to reach etcd, because its work has ended.
func (r *retry) giveUp() { r.end(false) }

// end notes that the loop no longer waits for etcd. answered is true if etcd has answered, and false if the loop has stopped trying.
func (r *retry) end(answered bool) {
	if r.away {
		r.away = false
		r.outage.waitEnds(answered)
	}
	r.pause = 0
}
