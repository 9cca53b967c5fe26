package world

import (
	"fmt"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
)

// scheduleFaults lets the scenario's faults happen at their times.
func (w *world) scheduleFaults() {
	for i, f := range w.s.Faults {
		w.prepareFault(i, f)
		w.at(f.At, func() {
			number := w.rec.FaultBegan(f)
			end, note := w.strike(i, f)
			w.hold(number, f, end, note)
		})
	}
}

// hold lets a fault last for its time, and ends it. end is nil for a fault that has no end of its own.
func (w *world) hold(number int, f scenario.Fault, end func(), note string) {
	if end == nil || f.For == 0 && forever[f.Kind] {
		w.rec.FaultEnded(number, note)
		return
	}
	w.mu.Lock()
	if w.calmed {
		w.mu.Unlock()
		end()
		w.rec.FaultEnded(number, note)
		return
	}
	w.undo[number] = func() {
		end()
		w.rec.FaultEnded(number, note)
	}
	w.mu.Unlock()
	if w.sleep(f.For) {
		w.finish(number)
	}
}

// forever has the faults that are for good when they last no time.
var forever = map[string]bool{"kill": true, "drain": true, "host-down": true}

// finish ends a fault that lasts. It does nothing if that has happened already.
func (w *world) finish(number int) {
	w.mu.Lock()
	end := w.undo[number]
	delete(w.undo, number)
	w.mu.Unlock()
	if end != nil {
		end()
	}
}

// finishAll ends all faults that last, in the order in which they began. Faults that begin later end at once.
func (w *world) finishAll() {
	w.mu.Lock()
	w.calmed = true
	var numbers []int
	for n := range w.undo {
		numbers = append(numbers, n)
	}
	w.mu.Unlock()
	slices.Sort(numbers)
	for _, n := range numbers {
		w.finish(n)
	}
}

// prepareFault does what has to happen before a fault: a snapshot of etcd.
func (w *world) prepareFault(i int, f scenario.Fault) {
	if f.Kind == "etcd-restore" {
		w.at(max(0, f.At-f.By), func() {
			snapshot := w.etcd.Snapshot()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.snapshots[i] = snapshotAt{snapshot, w.rec.Now()}
		})
	}
}

// strike makes a fault happen. It returns a function that ends the fault, or nil, and what came of it.
func (w *world) strike(i int, f scenario.Fault) (end func(), note string) {
	switch f.Kind {
	case "kill", "drain", "stop", "start", "twin":
		return w.strikeProcess(f)
	case "host-down", "host-cut", "no-name", "wrong-name", "slow-name", "silent-name", "left-out":
		return w.strikeHost(f)
	case "cut", "cut-one-way", "delay", "slow", "refuse", "black-hole", "reset", "reset-after":
		return w.strikeLink(f)
	case "etcd-election", "etcd-slow", "etcd-restart", "etcd-restore", "etcd-empty", "etcd-full", "etcd-compact", "etcd-expire", "etcd-forget",
		"etcd-lose", "etcd-refuse", "etcd-member", "etcd-lag", "etcd-tokens", "etcd-write", "etcd-garbage":
		return w.strikeEtcd(i, f)
	case "redis-error", "redis-handshake", "redis-cut", "redis-late", "redis-hang", "redis-stop", "redis-replica", "redis-slow", "redis-full",
		"redis-restart", "redis-failover", "redis-empty", "redis-password", "redis-scripts":
		return w.strikeRedis(i, f)
	}
	w.t.Errorf("the world knows no fault of the kind %s", f.Kind)
	return nil, ""
}

// strikeProcess makes a fault of a process or a client happen.
func (w *world) strikeProcess(f scenario.Fault) (end func(), note string) {
	if s := w.clientOf(f.Who); s != nil {
		return s.strike(f)
	}
	p := w.partyOf(f.Who)
	if p == nil {
		return nil, "there is no process of this name"
	}
	n := w.present(p)
	setting, err := p.setting.With(f.Then)
	if err != nil {
		return nil, err.Error()
	}
	if f.Kind == "start" {
		if n != nil && !n.ended() {
			return nil, "it runs already"
		}
		w.revive(p, setting)
		return nil, ""
	}
	if n == nil || n.ended() {
		return nil, "it does not run"
	}
	switch f.Kind {
	case "kill":
		n.kill()
		return func() { w.revive(p, setting) }, ""
	case "drain":
		w.inWorld(n.drain)
		return func() {
			w.inWorld(func() {
				<-n.done
				w.revive(p, setting)
			})
		}, ""
	case "stop":
		n.stop(true)
		return func() { n.stop(false) }, ""
	default: // twin
		twin := w.startTwin(p, setting)
		return twin.kill, ""
	}
}

// partyOf returns the process of a name, or nil.
func (w *world) partyOf(name string) *party {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parties[name]
}

// clientOf returns the client of a name, or nil.
func (w *world) clientOf(name string) *submitter {
	for _, s := range w.clients {
		if s.c.Name == name {
			return s
		}
	}
	return nil
}

// revive starts a process with new settings, unless it runs, or the world is about to end.
func (w *world) revive(p *party, setting scenario.Process) {
	w.mu.Lock()
	n, closing := p.now, w.closing
	if !closing {
		p.setting = setting
	}
	w.mu.Unlock()
	if closing || n != nil && !n.ended() {
		return
	}
	setting.Absent = false
	w.start(p, setting)
}

// poisoned kills a process because one of its rows asked for it. Something like Kubernetes starts it again.
func (w *world) poisoned(p *party, n *process) {
	if n.ended() {
		return
	}
	n.kill()
	w.note(n.setting.Name, "killed by a row")
	if w.sleep(2 * time.Second) {
		w.mu.Lock()
		setting, latest := p.setting, p.now == n
		w.mu.Unlock()
		if latest {
			w.revive(p, setting)
		}
	}
}

// strike makes a fault of a client's program happen.
func (s *submitter) strike(f scenario.Fault) (end func(), note string) {
	s.mu.Lock()
	l := s.life
	s.mu.Unlock()
	if l == nil || l.ctx.Err() != nil {
		return nil, "it does not run"
	}
	switch f.Kind {
	case "kill":
		s.w.inWorld(s.kill)
		return func() {
			s.w.inWorld(func() {
				<-l.done
				if s.isOpen() {
					s.begin()
				}
			})
		}, ""
	case "stop":
		l.net.Stop()
		return l.net.Continue, ""
	}
	return nil, "a client can't have this fault"
}

// isOpen reports whether the client is not done with its rows.
func (s *submitter) isOpen() bool {
	select {
	case <-s.ended:
		return false
	default:
		return s.w.ctx.Err() == nil
	}
}

// strikeHost makes a fault of a machine happen.
func (w *world) strikeHost(f scenario.Fault) (end func(), note string) {
	h := w.host(f.Who)
	switch f.Kind {
	case "host-cut":
		h.Down()
		return h.Up, ""
	case "no-name":
		w.net.SetName(h.Name())
		return func() { w.net.SetName(h.Name(), h.IPs()...) }, ""
	case "wrong-name":
		w.net.SetName(h.Name(), w.host(f.Whom).IPs()...)
		return func() { w.net.SetName(h.Name(), h.IPs()...) }, ""
	case "slow-name":
		return w.troubleNames(h, simnet.NameTrouble{Delay: f.By}), ""
	case "silent-name":
		return w.troubleNames(h, simnet.NameTrouble{Silent: true}), ""
	case "left-out":
		w.nameCoordinators(h, 1)
		return func() { w.nameCoordinators(h, -1) }, ""
	}
	var ends []func()
	h.Crash()
	for _, n := range w.living() {
		if n.setting.Host == f.Who {
			p := w.partyOf(n.setting.Name)
			n.kill()
			ends = append(ends, func() { w.revive(p, p.setting) })
		}
	}
	for _, s := range w.clients {
		if s.c.Host == f.Who {
			if end, _ := s.strike(scenario.Fault{Kind: "kill"}); end != nil {
				ends = append(ends, end)
			}
		}
	}
	switch {
	case slices.Contains(w.etcdHosts(), f.Who):
		w.etcd.Stop(f.Who)
		ends = append(ends, func() { w.must(w.etcd.Start(w.ctx, f.Who)) })
	case f.Who == "redis-1":
		w.redis.Down()
		ends = append(ends, func() { w.must(w.redis.Up(w.ctx)) })
	}
	return func() {
		h.Up()
		for _, end := range ends {
			end()
		}
	}, fmt.Sprintf("%d processes were on it", len(ends))
}

// troubleNames makes the lookups of a machine's name, and of the name of all coordinators, slow, or lets them fail. It returns a function
// that ends that.
func (w *world) troubleNames(h *simnet.Host, trouble simnet.NameTrouble) (end func()) {
	names := []string{h.Name(), coordinatorsName}
	for _, name := range names {
		w.net.TroubleName(name, trouble)
	}
	return func() {
		for _, name := range names {
			w.net.TroubleName(name, simnet.NameTrouble{})
		}
	}
}

// must notes an error of the world itself.
func (w *world) must(err error) {
	if err != nil {
		w.t.Error(err)
	}
}

// places returns the names of hosts and processes that an end of a link stands for.
func (w *world) places(end string) []string {
	switch end {
	case "etcd":
		return w.etcdHosts()
	case "redis":
		return []string{"redis-1"}
	}
	return []string{end}
}

// strikeLink makes a fault of the links between two ends happen.
func (w *world) strikeLink(f scenario.Fault) (end func(), note string) {
	who, whom := w.places(f.Who), w.places(f.Whom)
	if f.Kind == "reset" {
		count := 0
		for _, a := range who {
			for _, b := range whom {
				count += w.net.Reset(a, b)
			}
		}
		return nil, fmt.Sprintf("%d connections", count)
	}
	var troubles []*simnet.Fault
	for _, a := range who {
		for _, b := range whom {
			t := simnet.Trouble{From: b, To: a}
			switch f.Kind {
			case "cut":
				t.Cut, t.BothWays = true, true
			case "cut-one-way":
				t.Cut = true
			case "delay":
				t.Delay, t.Jitter, t.BothWays = f.By, f.By, true
			case "slow":
				t.Bandwidth, t.BothWays = f.N, true
			case "refuse":
				t.Refuse = true
			case "black-hole":
				t.BlackHole = true
			case "reset-after":
				t.ResetAfter, t.BothWays = int64(f.N), true
			}
			troubles = append(troubles, w.net.Break(t))
		}
	}
	return func() {
		for _, t := range troubles {
			t.Heal()
		}
	}, ""
}

// startTwin starts a second process under the name of one that may run.
func (w *world) startTwin(p *party, setting scenario.Process) *process {
	w.mu.Lock()
	now := p.now
	w.mu.Unlock()
	twin := w.start(p, setting)
	w.mu.Lock()
	p.now = now
	w.twins = append(w.twins, twin)
	w.mu.Unlock()
	return twin
}

// etcdHosts returns the names of the hosts of etcd.
func (w *world) etcdHosts() []string {
	var all []string
	for i := range max(1, w.s.Etcd.Members) {
		all = append(all, fmt.Sprintf("etcd-%d", i+1))
	}
	return all
}
