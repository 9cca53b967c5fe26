package flowtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// network carries every connection of a Grid, through relays that can hold it, delay it or break it. It is safe for
// concurrent use.
type network struct {
	stopped chan struct{} // closed by close
	pairing sync.Mutex    // who holds it uses pairs
	pairs   net.Listener
	running sync.WaitGroup

	mu       sync.Mutex
	links    map[ends]*link            // guarded by mu
	standing []*standing               // what is done to all links of a party, those too that come later; guarded by mu
	bearers  map[string]string         // the party that has a name now, where that is another one than the name's first; guarded by mu
	begun    map[string]int            // how many parties had a name; guarded by mu
	dead     map[string]bool           // parties that were killed, and their ids; guarded by mu
	entries  map[string][]net.Listener // by the party that dials them; guarded by mu
	stopping bool                      // guarded by mu

	// bearer is the party that a worker of the cluster is, "" where that is not known yet. Constant.
	bearer func(w cluster.Worker) string
}

// standing is a disturbance of all links of a party. What it holds is guarded by the network's mu.
type standing struct {
	party  string
	change func(*link) (back func())
	backs  []func()
}

// ends are the two parties of a link, in the order of their names.
type ends struct{ a, b string }

func endsOf(a, b string) ends {
	if b < a {
		a, b = b, a
	}
	return ends{a, b}
}

func newNetwork() (*network, error) {
	pairs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("make a network of relays: %w", err)
	}
	return &network{
		stopped: make(chan struct{}), pairs: pairs,
		links: map[ends]*link{}, bearers: map[string]string{}, begun: map[string]int{}, dead: map[string]bool{}, entries: map[string][]net.Listener{},
		bearer: func(cluster.Worker) string { return "" },
	}, nil
}

// between is the link of two parties.
func (n *network) between(a, b string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := endsOf(a, b)
	if n.links[e] == nil {
		n.links[e] = newLink()
		for _, d := range n.standing {
			if d.party == a || d.party == b {
				d.backs = append(d.backs, d.change(n.links[e]))
			}
		}
	}
	return n.links[e]
}

// disturbAll changes all links of a party, those too that come later. back ends that, and is safe twice.
func (n *network) disturbAll(party string, change func(*link) (back func())) (back func()) {
	d := &standing{party: party, change: change}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.standing = append(n.standing, d)
	for e, l := range n.links {
		if e.a == party || e.b == party {
			d.backs = append(d.backs, change(l))
		}
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.standing = slices.DeleteFunc(n.standing, func(o *standing) bool { return o == d })
		for _, b := range d.backs {
			b()
		}
		d.backs = nil
	}
}

// begin makes a new party, which has the name from now on. Nothing that is done to those that had it before concerns it.
func (n *network) begin(name string) (party string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.begun[name]++
	party = name
	if times := n.begun[name]; times > 1 {
		party = fmt.Sprintf("%s, for the %dth time", name, times)
	}
	n.bearers[name] = party
	return party
}

// named is the party that has the name now.
func (n *network) named(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if party := n.bearers[name]; party != "" {
		return party
	}
	return name
}

// isDead reports whether one of the parties was killed.
func (n *network) isDead(parties ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range parties {
		if n.dead[p] {
			return true
		}
	}
	return false
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// DialWorker implements devcluster.Network.
func (n *network) DialWorker(ctx context.Context, coordinator string, w cluster.Worker) (net.Conn, error) {
	if n.isDead(w.ID) {
		return nil, errRefused // also when another one has its name
	}
	party := n.bearer(w)
	if party == "" {
		party = n.named(w.Name)
	}
	return n.dial(ctx, n.named(coordinator), party, w.Address)
}

// dial connects one party to another, at whose address somebody listens. Where nothing gets through it waits, as a dial does.
func (n *network) dial(ctx context.Context, from, to, address string) (net.Conn, error) {
	l := n.between(from, to)
	if err := l.awaitDial(ctx); err != nil {
		return nil, fmt.Errorf("dial %s from %s, which are cut off from each other: %w", to, from, err)
	}
	if n.isDead(from, to) {
		return nil, errRefused
	}
	remote, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	local, relayed, err := n.pair()
	if err != nil {
		return nil, errors.Join(err, remote.Close())
	}
	if !n.relay(l, relayed, remote) {
		return nil, errors.Join(errRefused, local.Close(), relayed.Close(), remote.Close())
	}
	return relayedConn{local, remote.RemoteAddr()}, nil
}

// relayedConn is a connection through a relay. It tells the address of the other party, by which coordinators know whose death a
// refusal proves, in place of the relay's.
type relayedConn struct {
	net.Conn
	to net.Addr
}

// RemoteAddr implements net.Conn.
func (c relayedConn) RemoteAddr() net.Addr { return c.to }

// pair makes two ends of a TCP connection.
func (n *network) pair() (net.Conn, net.Conn, error) {
	n.pairing.Lock()
	defer n.pairing.Unlock()
	dialled, err := net.Dial("tcp", n.pairs.Addr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("make a relay: %w", err)
	}
	accepted, err := n.pairs.Accept()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a relay: %w", err), dialled.Close())
	}
	return dialled, accepted, nil
}

// relay carries what comes over one connection to the other until one of them ends; false: the network is closed.
func (n *network) relay(l *link, a, b net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return false
	}
	n.running.Go(func() { l.carry(n.stopped, a, b) })
	return true
}

// Reach implements devcluster.Network: the address is a relay's.
func (n *network) Reach(node, service, address string) (string, error) {
	entry, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("make a relay from %s to %s: %w", node, service, err)
	}
	party := n.named(node)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return "", errors.Join(errRefused, entry.Close())
	}
	n.entries[party] = append(n.entries[party], entry)
	n.running.Go(func() {
		for {
			conn, err := entry.Accept()
			if err != nil {
				return // it was closed
			}
			remote, err := net.Dial("tcp", address)
			if err != nil {
				_ = conn.Close() // which says enough
				continue
			}
			if !n.relay(n.between(party, service), conn, remote) {
				_, _ = conn.Close(), remote.Close()
			}
		}
	})
	return entry.Addr().String(), nil
}

// kill breaks all connections of a party, and lets it have no other. id is what the cluster calls it.
func (n *network) kill(party, id string) {
	n.mu.Lock()
	n.dead[party], n.dead[id] = true, true
	for _, entry := range n.entries[party] {
		_ = entry.Close()
	}
	delete(n.entries, party)
	var broken []*link
	for e, l := range n.links {
		if e.a == party || e.b == party {
			broken = append(broken, l)
		}
	}
	n.mu.Unlock()
	for _, l := range broken {
		l.breakAll()
	}
}

// close ends everything and waits for it.
func (n *network) close() {
	n.mu.Lock()
	if n.stopping {
		n.mu.Unlock()
		return
	}
	n.stopping = true
	close(n.stopped)
	_ = n.pairs.Close()
	for _, entries := range n.entries {
		for _, entry := range entries {
			_ = entry.Close()
		}
	}
	n.mu.Unlock()
	n.running.Wait()
}
