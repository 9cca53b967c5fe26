package simnet

import (
	"slices"
	"syscall"
	"time"
)

// Settings of TCP, as Linux has them by default or as package network sets them.
const (
	bufferSize     = 512 << 10                              // bytes that the sending, and the receiving, kernel keeps at most
	firstRetry     = 200 * time.Millisecond                 // the first pause before bytes are sent again; each further one is twice as long
	longestRetry   = 2 * time.Minute                        // the longest of these pauses
	retriesEnd     = 924*time.Second + 600*time.Millisecond // bytes that are not acknowledged for this time end the connection
	probeIdle      = 2 * time.Second                        // network.Probes.Idle: silence before the first probe
	probeInterval  = time.Second                            // network.Probes.Interval
	probeCount     = 3                                      // network.Probes.Count
	neighbourFound = 3 * time.Second                        // how long a machine asks for a neighbour before it is unreachable
)

// packetKind says what a packet is.
type packetKind int

// Kinds of packets.
const (
	dataPacket  packetKind = iota
	finPacket              // the sender writes no more
	resetPacket            // the sender does not know the connection
)

// packet is a part of what one end sends to the other.
type packet struct {
	kind    packetKind
	data    []byte
	arrives time.Time
}

// outbox is one direction of a connection, with the bytes that the sending kernel keeps because the peer's has not acknowledged them.
type outbox struct {
	path     path
	queue    []packet // not arrived; in order
	queued   int      // bytes of queue
	unheard  int      // bytes that arrived, but their acknowledgement vanished
	last     time.Time
	stalled  bool      // a packet or its acknowledgement vanished, and has not been made good for yet
	since    time.Time // when the first packet vanished, while stalled; when the peer's buffer became full, while full
	full     bool      // the first packet of queue waits for room in the peer's buffer
	finished bool      // finPacket was queued
}

// queueLocked takes as many bytes of the program as there is room for, and returns their number.
func (c *Conn) queueLocked(p []byte) int {
	o := &c.out
	if len(p) == 0 {
		return 0
	}
	if len(o.queue) == 0 && len(o.path.faults) == 0 && !c.broken && !c.peer.closed && !c.peer.gone { // arrives at once
		n := min(len(p), bufferSize-c.peer.in.unread())
		c.peer.in.add(p[:n])
		c.peer.heard = time.Now()
		c.peer.readable.Signal()
		if n == len(p) {
			return n
		}
		return n + c.enqueueLocked(p[n:])
	}
	n := c.enqueueLocked(p)
	c.sendLocked()
	return n
}

// enqueueLocked puts bytes into the queue, as far as there is room, and returns their number.
func (c *Conn) enqueueLocked(p []byte) int {
	o := &c.out
	n := min(len(p), bufferSize-o.queued-o.unheard)
	if n <= 0 {
		return 0
	}
	now := time.Now()
	data := slices.Clone(p[:n])
	for size := o.path.packet(); len(data) > 0; {
		part := data[:min(size, len(data))]
		data = data[len(part):]
		c.pushLocked(packet{kind: dataPacket, data: part}, now)
	}
	if !o.stalled && !o.full && c.peer.in.unread() >= bufferSize {
		c.sendLocked()
	}
	return n
}

// pushLocked puts one packet at the end of the queue and sets when it arrives.
func (c *Conn) pushLocked(p packet, now time.Time) {
	o := &c.out
	p.arrives = now
	if len(o.path.faults) > 0 {
		p.arrives = o.path.takes(now, len(p.data))
	}
	if p.arrives.Before(o.last) {
		p.arrives = o.last
	}
	o.last = p.arrives
	o.queue = append(o.queue, p)
	o.queued += len(p.data)
}

// sendLocked moves queued packets to the peer, as far as their time has come and the path and the peer's buffer take them.
func (c *Conn) sendLocked() {
	o := &c.out
	now := time.Now()
	before := o.queued + o.unheard
	for len(o.queue) > 0 && !c.noticeLocked(now) {
		p := &o.queue[0]
		if p.arrives.After(now) {
			c.retryLocked(p.arrives.Sub(now))
			break
		}
		done, goOn := c.deliverLocked(p, now)
		if done && len(o.queue) > 0 {
			o.queue[0] = packet{}
			if o.queue = o.queue[1:]; len(o.queue) == 0 {
				o.queue = nil
			}
		}
		if !goOn {
			break
		}
	}
	if c.failed {
		return
	}
	if o.stalled && len(o.queue) == 0 && !o.path.cut && !c.peer.out.path.cut && !now.Before(o.last) {
		o.stalled, o.unheard = false, 0
		c.heard = now
	}
	if o.queued+o.unheard < before {
		c.writable.Broadcast()
	}
	c.scheduleLocked(now)
}

// noticeLocked notices that packets vanish now. It reports whether they do.
func (c *Conn) noticeLocked(now time.Time) bool {
	o := &c.out
	if !o.path.cut {
		return false
	}
	if p := o.queue[0]; p.kind == resetPacket { // is not sent again
		o.queue, o.queued = nil, 0
		return true
	}
	c.stallLocked(now)
	return true
}

// stallLocked notes that something which this end sent, or its acknowledgement, vanished.
func (c *Conn) stallLocked(now time.Time) {
	if o := &c.out; !o.stalled {
		o.stalled, o.full, o.since = true, false, now
	}
}

// deliverLocked hands a packet to the peer's kernel. It reports whether the packet is done with, and whether the next one may follow.
func (c *Conn) deliverLocked(p *packet, now time.Time) (done, goOn bool) {
	o, peer := &c.out, c.peer
	switch {
	case p.kind == resetPacket:
		if !peer.gone {
			failure := syscall.ECONNRESET
			if peer.ended {
				failure = syscall.EPIPE
			}
			peer.failLocked(failure)
		}
		return true, false
	case peer.gone || peer.closed && p.kind == dataPacket:
		switch {
		case peer.out.path.cut: // the reset vanishes
			c.stallLocked(now)
			return false, false
		case c.closed:
			c.forgetLocked()
		default:
			peer.abortLocked()
		}
		o.queue, o.queued = nil, 0
		return false, false
	case p.kind == finPacket:
		peer.ended = true
		peer.heard = now
		peer.readable.Broadcast()
		c.endLocked()
		peer.endLocked()
		return true, true
	}
	room := bufferSize - peer.in.unread()
	if room <= 0 {
		if !o.full && !o.stalled {
			o.full, o.since = true, now
		}
		return false, false
	}
	if o.full {
		o.full = false
	}
	n, reset := min(room, len(p.data)), false
	if len(o.path.faults) > 0 {
		n, reset = o.path.passes(n)
	}
	peer.in.add(p.data[:n])
	p.data = p.data[n:]
	peer.heard = now
	peer.readable.Broadcast()
	o.queued -= n
	if peer.out.path.cut {
		o.unheard += n
		c.stallLocked(now)
	} else {
		c.heard = now
	}
	if reset {
		c.breakLocked()
		return false, false
	}
	return len(p.data) == 0, true
}

// shutLocked ends the sending direction after the bytes that are queued.
func (c *Conn) shutLocked() {
	c.shut = true
	if c.out.finished || c.gone {
		return
	}
	c.out.finished = true
	c.pushLocked(packet{kind: finPacket}, time.Now())
	c.sendLocked()
}

// endLocked lets the kernel forget this end when the program has closed it and both directions are over.
func (c *Conn) endLocked() {
	sent := c.out.finished && (len(c.out.queue) == 0 || c.out.queue[0].kind == finPacket && c.peer.ended)
	if c.closed && c.ended && sent {
		c.forgetLocked()
	}
}

// abortLocked lets the kernel forget this end and tell the peer's by a reset.
func (c *Conn) abortLocked() {
	c.out.queue, c.out.queued, c.out.stalled, c.out.full, c.out.last = nil, 0, false, false, time.Time{}
	c.pushLocked(packet{kind: resetPacket}, time.Now())
	c.forgetLocked()
	c.sendLocked()
}

// breakLocked resets both ends.
func (c *Conn) breakLocked() {
	c.peer.failLocked(syscall.ECONNRESET)
	c.failLocked(syscall.ECONNRESET)
}

// failLocked ends this end with an error.
func (c *Conn) failLocked(failure syscall.Errno) {
	if c.failed {
		return
	}
	c.failed, c.failure = true, failure
	c.out.queue, c.out.queued, c.out.unheard, c.out.stalled, c.out.full = nil, 0, 0, false, false
	c.forgetLocked()
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// forgetLocked lets the kernel forget this end: it answers all further packets with resets.
func (c *Conn) forgetLocked() {
	if c.gone {
		return
	}
	c.gone = true
	n := c.process.host.net
	n.conns = slices.DeleteFunc(n.conns, func(other *Conn) bool { return other == c })
	if c.dying != nil {
		c.dying.Stop()
		c.dies = time.Time{}
	}
	if c.retrying != nil {
		c.retrying.Stop()
	}
	if !c.peer.gone {
		c.peer.scheduleLocked(time.Now())
	}
}

// retryLocked lets sendLocked run again after a pause.
func (c *Conn) retryLocked(pause time.Duration) {
	if c.retrying != nil {
		c.retrying.Reset(pause)
		return
	}
	c.retrying = time.AfterFunc(pause, func() {
		n := c.process.host.net
		n.mu.Lock()
		defer n.mu.Unlock()
		c.sendLocked()
	})
}

// rerouteLocked acts on a path that may have changed.
func (c *Conn) rerouteLocked(now time.Time) {
	o := &c.out
	broken := o.path.cut || c.peer.out.path.cut
	if broken && !c.broken { // the last probe was answered not long ago
		if silent := now.Sub(c.heard); silent > probeIdle {
			c.heard = now.Add(-(silent % probeIdle))
		}
	}
	c.broken = broken
	switch {
	case o.path.cut && len(o.queue) > 0 && !o.full:
		c.noticeLocked(now)
	case o.stalled && !o.path.cut: // the next time that the packets are sent again
		again := o.since
		for pause := firstRetry; !again.After(now); pause = min(2*pause, longestRetry) {
			again = again.Add(pause)
		}
		for i := range o.queue {
			o.queue[i].arrives = again
		}
		o.last = again
		c.retryLocked(again.Sub(now))
	}
	c.scheduleLocked(now)
}

// scheduleLocked sets the timer at whose end the kernel may give this end up.
func (c *Conn) scheduleLocked(now time.Time) {
	if c.gone {
		return
	}
	at := c.dieAtLocked(now)
	switch {
	case at.Equal(c.dies):
		return
	case at.IsZero():
		c.dying.Stop() // it exists, since dies is not zero
	case c.dying == nil:
		c.dying = time.AfterFunc(at.Sub(now), c.die)
	default:
		c.dying.Reset(at.Sub(now))
	}
	c.dies = at
}

// dieAtLocked returns when the kernel gives this end up if nothing changes. Zero means never.
func (c *Conn) dieAtLocked(now time.Time) time.Time {
	o := &c.out
	switch {
	case c.closed:
		return time.Time{}
	case o.stalled && (c.broken || len(o.queue) > 0 || o.unheard > 0):
		if c.userTimeout > 0 {
			return o.since.Add(c.userTimeout)
		}
		return o.since.Add(retriesEnd)
	case o.full:
		if c.userTimeout > 0 { // probes of the peer's full buffer count too, although they are answered
			return o.since.Add(c.userTimeout)
		}
		return time.Time{}
	case c.broken:
		if c.userTimeout > 0 {
			return c.heard.Add(max(c.userTimeout, probeIdle+probeInterval))
		}
		return c.heard.Add(probeIdle + probeCount*probeInterval)
	case c.peer.gone && !(c.ended && c.peer.closed): // the next probe is answered by a reset
		if len(c.peer.out.queue) > 0 {
			return time.Time{} // the reset is on its way
		}
		at := c.heard.Add(probeIdle)
		for !at.After(now) {
			at = at.Add(probeInterval)
		}
		return at
	}
	return time.Time{}
}

// die gives the connection up if its time has come.
func (c *Conn) die() {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if c.gone || c.dies.IsZero() || now.Before(c.dies) {
		return
	}
	if !c.broken && c.peer.gone {
		c.failLocked(syscall.ECONNRESET)
		return
	}
	c.failLocked(syscall.ETIMEDOUT)
}
