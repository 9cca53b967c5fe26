package simnet

import (
	"fmt"
	"net"
	"slices"
	"sync"
)

// Process is a process on a host. It implements network.Network and owns the connections and listeners that are made through it.
//
//	        Stop                      Kill
//	running ────► stopped    any state ────► killed
//	        ◄────
//	        Continue
type Process struct {
	host *Host
	name string

	changed   sync.Cond   // the state changed; its lock is host.net.mu
	stopped   bool        // guarded by host.net.mu
	killed    bool        // guarded by host.net.mu
	conns     []*Conn     // not closed by the program; guarded by host.net.mu
	listeners []*Listener // not closed by the program; guarded by host.net.mu
}

// newProcess makes a running process.
func newProcess(h *Host, name string) *Process {
	p := &Process{host: h, name: name}
	p.changed.L = &h.net.mu
	return p
}

// Process adds a process to the host. Its name stands for it in faults; a process that takes the place of a killed one may have the same
// name, and then has the same faults.
func (h *Host) Process(name string) *Process {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	p := newProcess(h, name)
	h.processes = append(h.processes, p)
	return p
}

// Name returns the process's name.
func (p *Process) Name() string { return p.name }

// Host returns the machine on which the process runs.
func (p *Process) Host() *Host { return p.host }

// Kill ends the process for the network: its connections are closed as the kernel closes those of a killed process, its listeners are
// gone, and every call through it fails with net.ErrClosed from now on, also calls that are under way.
func (p *Process) Kill() {
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	p.killLocked()
	p.host.processes = slices.DeleteFunc(p.host.processes, func(other *Process) bool { return other == p && p != p.host.own })
}

// killLocked does the work of Kill. The caller holds the Net's mu.
func (p *Process) killLocked() {
	p.killed, p.stopped = true, false
	for _, l := range slices.Clone(p.listeners) {
		l.closeLocked()
	}
	for _, c := range slices.Clone(p.conns) {
		c.closeLocked()
	}
	p.wakeLocked()
}

// Stop stops the process, as SIGSTOP does: calls through it that would return block until Continue. The kernel of its machine still
// accepts connections and bytes for it, until buffers are full. Time limits that run out meanwhile are noticed at Continue.
func (p *Process) Stop() { p.setStopped(true) }

// Continue lets a stopped process go on.
func (p *Process) Continue() { p.setStopped(false) }

// setStopped sets whether the process is stopped.
func (p *Process) setStopped(stopped bool) {
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	if !p.killed {
		p.stopped = stopped
		p.wakeLocked()
	}
}

// wakeLocked wakes every call that is under way, to look at the state again. The caller holds the Net's mu.
func (p *Process) wakeLocked() {
	p.changed.Broadcast()
	for _, l := range p.listeners {
		l.arrived.Broadcast()
	}
	for _, c := range p.conns {
		c.readable.Broadcast()
		c.writable.Broadcast()
	}
}

// ready blocks while the process is stopped, and returns net.ErrClosed when it is killed.
func (p *Process) ready() error {
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	for p.stopped {
		p.changed.Wait()
	}
	if p.killed {
		return net.ErrClosed
	}
	return nil
}

// Open lists the listeners and connections that the program of the process has not closed, for checks that nothing leaks.
func (p *Process) Open() []string {
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	var open []string
	for _, l := range p.listeners {
		open = append(open, fmt.Sprintf("listener %s", l.Addr()))
	}
	for _, c := range p.conns {
		open = append(open, fmt.Sprintf("connection %s to %s (%s)", c.local, c.remote, c.peer.process.name))
	}
	return open
}
