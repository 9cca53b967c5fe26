package simnet

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Trouble says what is wrong with packets that go from one place to another. Troubles of several faults add up.
type Trouble struct {
	// From and To are names of processes or hosts; empty means any. A fault of a host does not touch connections within the host, and
	// a fault of a process only if both ends are named by processes.
	From, To string
	// BothWays means also the packets that go from To to From.
	BothWays bool

	// Delay is how long a packet takes. Jitter is the most by which a packet takes longer, at random. Bytes never overtake each other.
	Delay, Jitter time.Duration
	// Bandwidth is how many bytes pass in a second, of all connections together. 0 means any number.
	Bandwidth int
	// Cut lets packets vanish. TCP sends them again, with growing pauses, for a while.
	Cut bool
	// Refuse answers new connections with a refusal.
	Refuse bool
	// BlackHole lets packets that open a new connection vanish.
	BlackHole bool
	// Unreachable answers new connections with "no route to host" after three seconds, as a neighbour does that is not found.
	Unreachable bool
	// ResetAfter resets the connection that carries the byte with this number, counted from now over all connections, after that byte.
	// It happens once. 0 means never.
	ResetAfter int64
}

// Fault is a Trouble in force.
type Fault struct {
	Trouble
	net    *Net
	random *rand.Rand // guarded by net.mu
	free   time.Time  // when the bytes of Bandwidth that are on their way have passed; guarded by net.mu
	left   int64      // bytes until ResetAfter; guarded by net.mu
}

// Break puts a trouble in force, for open connections too. It ends by the Heal of the returned Fault.
func (n *Net) Break(trouble Trouble) *Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made++
	f := &Fault{Trouble: trouble, net: n, random: rand.New(rand.NewPCG(n.seed, n.made)), left: trouble.ResetAfter}
	n.faults = append(n.faults, f)
	n.refreshLocked()
	return f
}

// Heal ends the trouble. Bytes that were lost arrive with the next retransmission. It may be called twice.
func (f *Fault) Heal() {
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	f.net.faults = slices.DeleteFunc(f.net.faults, func(other *Fault) bool { return other == f })
	f.net.refreshLocked()
}

// Reset resets every open connection between two places now, as a firewall does that forgets them, and returns their number. A place is
// the name of a process or a host; empty means any.
func (n *Net) Reset(a, b string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	trouble := Trouble{From: a, To: b, BothWays: true}
	for _, c := range slices.Clone(n.conns) {
		if !c.gone && !c.peer.gone && trouble.concerns(c.process, c.peer.process) {
			c.breakLocked()
			count++
		}
	}
	return count
}

// concerns reports whether packets from one process to another have the trouble.
func (t *Trouble) concerns(from, to *Process) bool {
	return t.runs(t.From, t.To, from, to) || t.BothWays && t.runs(t.To, t.From, from, to)
}

// runs reports whether two processes are at the places a and b.
func (t *Trouble) runs(a, b string, from, to *Process) bool {
	if from.host == to.host { // within a host only processes have links
		return a == from.name && b == to.name && from != to && a != from.host.name && b != from.host.name
	}
	return (a == "" || a == from.name || a == from.host.name) && (b == "" || b == to.name || b == to.host.name)
}

// path is what happens to the packets from one process to another.
type path struct {
	faults                       []*Fault // the faults with a delay, a bandwidth or a reset
	cut                          bool
	refuse, blackHole, unreached bool
}

// pathLocked returns the path from one process to another. The caller holds mu.
func (n *Net) pathLocked(from, to *Process) path {
	var p path
	if from.host != to.host {
		p.cut = from.host.down || to.host.down
	}
	for _, f := range n.faults {
		if !f.concerns(from, to) {
			continue
		}
		p.cut = p.cut || f.Cut
		p.refuse = p.refuse || f.Refuse
		p.blackHole = p.blackHole || f.BlackHole
		p.unreached = p.unreached || f.Unreachable
		if f.Delay > 0 || f.Jitter > 0 || f.Bandwidth > 0 || f.ResetAfter > 0 {
			p.faults = append(p.faults, f)
		}
	}
	return p
}

// takes returns when a packet of this size that is sent now arrives. The caller holds the Net's mu.
func (p *path) takes(now time.Time, size int) time.Time {
	at := now
	for _, f := range p.faults {
		if f.Bandwidth > 0 && size > 0 {
			if f.free.Before(now) {
				f.free = now
			}
			f.free = f.free.Add(time.Duration(float64(size) / float64(f.Bandwidth) * float64(time.Second)))
			at = at.Add(f.free.Sub(now))
		}
		at = at.Add(f.Delay)
		if f.Jitter > 0 {
			at = at.Add(time.Duration(f.random.Int64N(int64(f.Jitter) + 1)))
		}
	}
	return at
}

// passes returns how many of size bytes pass before a reset that a fault has ordered, and whether the reset follows. The caller holds the
// Net's mu.
func (p *path) passes(size int) (n int, reset bool) {
	n = size
	for _, f := range p.faults {
		if f.left > 0 && int64(n) >= f.left {
			n, reset = int(f.left), true
		}
	}
	for _, f := range p.faults {
		if f.left > 0 {
			f.left -= int64(n)
		}
	}
	return n, reset
}

// packet is the largest number of bytes that go over a slow link at once.
func (p *path) packet() int {
	for _, f := range p.faults {
		if f.Bandwidth > 0 {
			return 16 << 10
		}
	}
	return bufferSize
}

// refreshLocked looks at every connection again after the faults changed. The caller holds mu.
func (n *Net) refreshLocked() {
	now := time.Now()
	for _, c := range n.conns {
		c.out.path = n.pathLocked(c.process, c.peer.process)
		if c.peer.gone { // its kernel still answers with resets
			c.peer.out.path = n.pathLocked(c.peer.process, c.process)
		}
	}
	for _, c := range slices.Clone(n.conns) {
		if !c.gone {
			c.rerouteLocked(now)
		}
	}
}
