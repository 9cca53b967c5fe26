//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
)

// event is a disturbance of the cluster by the test, such as a killed worker.
type event struct {
	kind, what string
	worker     int // index of the worker whose keys are affected; -1 means all keys
	at, until  time.Time
}

// chaos disturbs a cluster: it makes one event after the other. Some events last while the next ones begin.
type chaos struct {
	grid    *grid
	random  *rand.Rand
	version int

	lasting sync.WaitGroup

	mu       sync.Mutex
	events   []*event        // guarded by mu
	underWay map[string]bool // groups of events of which one lasts now; guarded by mu
	breaches []string        // guarded by mu
}

// faults returns the kinds of events, by name. Each function makes one event, or returns nil if that is not possible now.
func (c *chaos) faults() map[string]func() *event {
	return map[string]func() *event{
		"kill worker": c.killWorker, "stop worker": c.stopWorker, "cut worker": c.cutWorker, "add worker": c.addWorker, "drain worker": c.drainWorker,
		"kill coordinator": c.killCoordinator, "cut client": c.cutClient, "etcd member": c.etcdMember, "etcd leader": c.etcdLeader, "definition": c.changeDefinition,
	}
}

// run makes an event each time when gap is over, until stop is closed, and then waits until all events are undone.
func (c *chaos) run(stop <-chan struct{}, gap time.Duration) {
	faults := c.faults()
	var kinds []string
	for kind := range faults {
		if *onlyFlag == "" || slices.Contains(strings.Split(*onlyFlag, ","), kind) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	kinds = append(kinds, slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return kind != "kill worker" && kind != "stop worker" })...)
	for {
		select {
		case <-stop:
			c.lasting.Wait()
			return
		case <-time.After(gap):
		}
		for range 20 { // until an event is possible
			if e := faults[kinds[c.random.IntN(len(kinds))]](); e != nil {
				break
			}
		}
	}
}

// begin notes an event that begins now. It counts as over at once, unless last is called with it.
func (c *chaos) begin(kind, what string, worker int) *event {
	now := time.Now()
	e := &event{kind: kind, what: what, worker: worker, at: now, until: now}
	c.mu.Lock()
	c.events = append(c.events, e)
	c.mu.Unlock()
	c.grid.t.Logf("%s %s: %s", now.Format("15:04:05.000"), kind, what)
	return e
}

// last makes an event last: it calls undo, which ends the event, after the duration d. Of the events of one group only one may
// last at a time.
func (c *chaos) last(e *event, group string, d time.Duration, undo func()) {
	c.mu.Lock()
	c.underWay[group] = true
	e.until = e.at.Add(d) // an estimate; the end of the event sets it
	c.mu.Unlock()
	c.lasting.Go(func() {
		time.Sleep(d)
		undo()
		c.mu.Lock()
		e.until = time.Now()
		delete(c.underWay, group)
		c.mu.Unlock()
	})
}

// isUnderWay reports whether an event of the group lasts now.
func (c *chaos) isUnderWay(group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.underWay[group]
}

// breach notes that a promise of the cluster was broken, for the end of the test.
func (c *chaos) breach(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breaches = append(c.breaches, fmt.Sprintf(format, args...))
}

// pick draws a worker that no event affects, marks it as busy and returns it. It returns nil if fewer than enough such workers
// would be left besides it.
func (c *chaos) pick(enough int) *workerProcess {
	g := c.grid
	g.mu.Lock()
	defer g.mu.Unlock()
	var free []*workerProcess
	for _, w := range g.workers {
		if !w.busy {
			free = append(free, w)
		}
	}
	if len(free) <= enough {
		return nil
	}
	w := free[c.random.IntN(len(free))]
	w.busy = true
	return w
}

// free marks a worker as not busy.
func (c *chaos) free(w *workerProcess) {
	c.grid.mu.Lock()
	defer c.grid.mu.Unlock()
	w.busy = false
}

// killWorker kills a worker, and starts another one in its place.
func (c *chaos) killWorker() *event {
	w := c.pick(1)
	if w == nil {
		return nil
	}
	name := "" // a new name
	if c.random.IntN(2) == 0 {
		name = w.bareName()
	}
	e := c.begin("kill worker", w.Name(), w.index)
	w.Kill()
	c.grid.remove(w)
	c.grid.startWorker(name)
	return e
}

// stopWorker stops a worker with SIGSTOP for a while.
func (c *chaos) stopWorker() *event {
	if c.isUnderWay("stop") {
		return nil
	}
	w := c.pick(1)
	if w == nil {
		return nil
	}
	e := c.begin("stop worker", w.Name(), w.index)
	w.Signal(syscall.SIGSTOP)
	c.last(e, "stop", *leaseFlag+time.Second, func() {
		w.Signal(syscall.SIGCONT)
		c.free(w)
	})
	return e
}

// cutWorker breaks all connections of a worker once, or cuts the worker off from one coordinator for a while.
func (c *chaos) cutWorker() *event {
	to := c.grid.coordinators[c.random.IntN(len(c.grid.coordinators))]
	who := to.id()
	if who == "" || c.isUnderWay("cut") {
		return nil
	}
	w := c.pick(1)
	if w == nil {
		return nil
	}
	if c.random.IntN(3) == 0 {
		e := c.begin("break worker", w.Name()+", all its connections", w.index)
		w.proxy.breakAll()
		c.free(w)
		return e
	}
	e := c.begin("cut worker", w.Name()+" from "+to.Name(), w.index)
	w.proxy.cut(who)
	c.last(e, "cut", c.span(), func() {
		w.proxy.heal()
		c.free(w)
	})
	return e
}

// span draws the length of a cut: shorter than a lease, or longer.
func (c *chaos) span() time.Duration {
	return time.Duration((0.3 + 2*c.random.Float64()) * float64(*leaseFlag))
}

// addWorker starts one more worker, up to a limit.
func (c *chaos) addWorker() *event {
	c.grid.mu.Lock()
	n := len(c.grid.workers)
	c.grid.mu.Unlock()
	if n >= *workersFlag+1 {
		return nil
	}
	w := c.grid.startWorker("")
	return c.begin("add worker", w.Name(), -1)
}

// drainWorker drains a worker with SIGTERM.
func (c *chaos) drainWorker() *event {
	if c.isUnderWay("drain") {
		return nil
	}
	w := c.pick(2)
	if w == nil {
		return nil
	}
	e := c.begin("drain worker", w.Name(), w.index)
	w.Signal(syscall.SIGTERM)
	c.last(e, "drain", 0, func() {
		select {
		case <-w.Exited():
			if code := w.Wait(); code != 0 {
				c.breach("%s ended with %d when it was drained", w.Name(), code)
			}
		case <-time.After(*patienceFlag):
			c.breach("%s was still there %s after SIGTERM", w.Name(), *patienceFlag)
			w.Kill()
		}
		c.grid.remove(w)
	})
	return e
}

// killCoordinator kills a coordinator and starts it again.
func (c *chaos) killCoordinator() *event {
	if c.isUnderWay("coordinator") {
		return nil
	}
	k := c.grid.coordinators[c.random.IntN(len(c.grid.coordinators))]
	if k.id() == "" {
		return nil
	}
	e := c.begin("kill coordinator", k.Name(), -1)
	k.Kill()
	c.last(e, "coordinator", time.Duration(c.random.IntN(1500))*time.Millisecond, func() { c.grid.startCoordinator(k) })
	return e
}

// cutClient breaks the connections between a client and a coordinator once, or cuts them for a while.
func (c *chaos) cutClient() *event {
	if c.isUnderWay("client") {
		return nil
	}
	k := c.grid.coordinators[c.random.IntN(len(c.grid.coordinators))]
	i := c.random.IntN(len(k.proxies))
	what := fmt.Sprintf("client %d from %s", i, k.Address)
	if c.random.IntN(2) == 0 {
		e := c.begin("break client", what, -1)
		k.proxies[i].breakAll()
		return e
	}
	e := c.begin("cut client", what, -1)
	k.proxies[i].cut("")
	c.last(e, "client", c.span(), k.proxies[i].heal)
	return e
}

// etcdMember restarts a member of etcd.
func (c *chaos) etcdMember() *event {
	if c.grid.embedded != nil {
		return c.restartEtcd("etcd member", nil)
	}
	return c.restartEtcd("etcd member", c.grid.members[c.random.IntN(len(c.grid.members))])
}

// etcdLeader restarts the member that leads etcd.
func (c *chaos) etcdLeader() *event {
	m := c.grid.leader()
	if m == nil {
		return nil
	}
	return c.restartEtcd("etcd leader", m)
}

// restartEtcd kills a member of etcd, or closes the embedded etcd, and starts it again a second later.
func (c *chaos) restartEtcd(kind string, m *member) *event {
	if c.isUnderWay("etcd") {
		return nil
	}
	g := c.grid
	if m == nil {
		e := c.begin(kind, "the only one", -1)
		_ = g.embedded.Close()
		c.last(e, "etcd", time.Second, func() {
			again, err := devcluster.StartEtcd(context.Background(), devcluster.EtcdConfig{Address: g.etcd[0], DataDir: filepath.Join(g.dir, "etcd")})
			if err != nil {
				c.breach("etcd does not start again: %v", err)
				return
			}
			g.embedded = again
		})
		return e
	}
	e := c.begin(kind, m.name, -1)
	m.Kill()
	c.last(e, "etcd", time.Second, func() { g.startMember(m) })
	return e
}

// changeDefinition writes the documents of the next version.
func (c *chaos) changeDefinition() *event {
	c.version++
	e := c.begin("definition", fmt.Sprintf("version %d", c.version), -1)
	ctx, cancel := context.WithTimeout(context.Background(), *patienceFlag)
	defer cancel()
	documents := documents(c.version)
	for ctx.Err() == nil {
		if _, err := c.grid.store.PutDocuments(ctx, nil, documents, nil); err == nil {
			return e
		}
	}
	c.breach("the definition could not be written within %s", *patienceFlag)
	return e
}
