package world

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
)

// defaultDrain is the default of the programs' --drain-timeout.
const defaultDrain = 30 * time.Second

// service is a coordinator or a worker.
type service interface {
	Run(ctx context.Context) error
	Drain(ctx context.Context) error
}

// party is a process of the scenario, over all of its lives.
type party struct {
	kind    history.Kind
	setting scenario.Process // of its next start

	// now is its latest life. nil means that it was never started. Guarded by world.mu.
	now *process
}

// process is one life of a coordinator or a worker.
//
//	        kill
//	running ────► dead ─────────────► ended (done is closed)
//	   │ drain                          ▲
//	   └────► draining ─────────────────┘
type process struct {
	w       *world
	setting scenario.Process
	life    *history.Life
	net     *simnet.Process
	log     hclog.Logger
	lines   *logWriter
	gate    *gate

	service service             // nil when the process failed before it served
	metrics prometheus.Gatherer // nil until service is set
	id      func() string       // the id under which it is registered; "" before that
	address string              // at which a coordinator takes clients; "" for a worker
	close   []func() error      // closes the connections that the program opens beside the service, last one first

	ctx    context.Context
	cancel context.CancelFunc
	dead   atomic.Bool // killed
	asked  atomic.Bool // told to drain
	once   sync.Once   // kill
	left   []string    // connections and listeners that were open when the program had ended; set before done is closed
	done   chan struct{}
}

// start starts a process with these settings, and makes it the party's present life.
func (w *world) start(p *party, setting scenario.Process) *process {
	life := w.rec.Began(p.kind, setting, setting.Build)
	n := &process{w: w, setting: setting, life: life, done: make(chan struct{}), id: func() string { return "" }}
	n.net = w.host(setting.Host).Process(setting.Name)
	n.log, n.lines = newLog(w.rec, life)
	n.gate = newGate(w.rec, life, func() {
		w.inWorld(func() { w.poisoned(p, n) })
	})
	n.ctx, n.cancel = context.WithCancel(w.ctx)
	var err error
	if p.kind == history.Coordinator {
		err = n.makeCoordinator()
	} else {
		err = n.makeWorker()
	}
	w.mu.Lock()
	p.now = n
	w.all = append(w.all, n)
	calmed := w.calmed
	w.mu.Unlock()
	if calmed {
		n.gate.release()
	}
	w.inWorld(func() {
		if n.run(err) {
			w.again(p, n)
		}
	})
	return n
}

// again starts a process again that has failed, after a pause, as Kubernetes does; it does not if another process has taken its place.
func (w *world) again(p *party, n *process) {
	if !w.sleep(restartPause) {
		return
	}
	w.mu.Lock()
	setting, latest := p.setting, p.now == n
	w.mu.Unlock()
	if latest {
		w.revive(p, setting)
	}
}

// restartPause is the pause before a process that has failed is started again.
const restartPause = 5 * time.Second

// run runs the service until it ends, and closes what the program opened. failed is the error with which the program did not come to
// serve. run reports whether the program ended by itself, with an error.
func (n *process) run(failed error) bool {
	defer close(n.done)
	defer n.cancel()
	err := failed
	if err == nil {
		err = n.service.Run(n.ctx)
	}
	n.registered()
	for _, closeOne := range slices.Backward(n.close) {
		if closed := closeOne(); closed != nil && err == nil && !n.dead.Load() {
			n.w.rec.Happened(history.Note, n.setting.Name, fmt.Sprintf("close: %v", closed))
		}
	}
	how := history.Drained
	switch {
	case n.dead.Load():
		return false // kill has noted it
	case err != nil || !n.asked.Load():
		how = history.Failed
	}
	n.w.rec.EndedLife(n.life, how, err)
	n.gate.end()
	n.left = n.net.Open()
	n.net.Kill() // the program has ended: its kernel closes what it left open
	return how == history.Failed && !n.asked.Load()
}

// registered notes the id under which the process is registered now.
func (n *process) registered() {
	if id := n.id(); id != "" {
		n.w.rec.Registered(n.life, id)
	}
}

// kill ends the process at once. It does not wait until the goroutines of the process have ended; done tells.
func (n *process) kill() {
	n.once.Do(func() {
		select {
		case <-n.done:
			return
		default:
		}
		n.registered()
		n.dead.Store(true)
		n.net.Kill()
		n.lines.off.Store(true)
		n.w.rec.EndedLife(n.life, history.Killed, nil)
		n.gate.kill()
		n.cancel()
	})
}

// drain ends the process as SIGTERM does, and waits until it has ended.
func (n *process) drain() {
	if n.service == nil || n.dead.Load() {
		<-n.done
		return
	}
	if !n.asked.Swap(true) {
		n.w.rec.AskedToEnd(n.life)
	}
	limit := n.setting.Drain
	if limit == 0 {
		limit = defaultDrain
	}
	ctx, cancel := context.WithTimeout(n.ctx, limit)
	defer cancel()
	if err := n.service.Drain(ctx); err != nil && !n.dead.Load() {
		n.w.rec.Happened(history.Note, n.setting.Name, fmt.Sprintf("the drain was cut off: %v", err))
	}
	<-n.done
}

// stop stops the process, or lets it go on.
func (n *process) stop(stopped bool) {
	if n.ended() {
		return
	}
	if stopped {
		n.w.rec.Paused(n.life)
		n.net.Stop()
		n.gate.stop(true)
		return
	}
	n.net.Continue()
	n.gate.stop(false)
	n.w.rec.Continued(n.life)
}

// ended reports whether the process is dead or has ended.
func (n *process) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return n.dead.Load()
	}
}

// snap notes the process's metrics; only bounds which.
func (n *process) snap(only ...string) {
	if n.metrics == nil || n.ended() {
		return
	}
	n.registered()
	samples, err := gather(n.metrics, only...)
	if err != nil {
		n.w.rec.Happened(history.Note, n.setting.Name, "gather: "+err.Error())
	}
	n.w.rec.Snapped(n.life, samples)
}

// transport returns the transport settings of the process.
func (n *process) transport() transport.Config {
	c := n.w.secured()
	c.BatchBytes = n.setting.BatchBytes
	c.Network = n.net
	return c
}
