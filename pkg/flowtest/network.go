package flowtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"

	kisnet "github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// network makes every connection between two parties of a Grid, and carries it through a relay that can hold, delay or break it. It
// implements devcluster.Network. Several goroutines may use it.
//
// A party is a string. It is the name of a service ("etcd") or of a node ("worker-1"); a later node of the same name is another party.
type network struct {
	machine kisnet.Network // the network in which everything listens and dials
	stopped chan struct{}  // closed by close
	pairing sync.Mutex     // held while pair uses pairs
	pairs   net.Listener   // accepts the connections that pair makes
	running sync.WaitGroup // counts relays and the goroutines of entries

	mu       sync.Mutex
	links    map[ends]*link            // guarded by mu
	standing []*standing               // disturbances of all links of a party, later links included; guarded by mu
	bearers  map[string]string         // by name: the party that has the name now; empty means the party of that name; guarded by mu
	begun    map[string]int            // by name: how many parties have had it; guarded by mu
	dead     map[string]bool           // parties that were killed, and their ids in the cluster; guarded by mu
	entries  map[string][]net.Listener // by party: the addresses at which that party reaches etcd and Redis; guarded by mu
	stopping bool                      // close was called; guarded by mu

	// bearer is the party that belongs to a worker of the cluster; empty means that it is not known yet. It is set before use and
	// never changes.
	bearer func(w cluster.Worker) string
	// coordinator is the same for a coordinator.
	coordinator func(c cluster.Coordinator) string
}

// standing is a disturbance of all links of a party, links that are made later included. Its fields are guarded by the network's mu.
type standing struct {
	party  string
	change func(*link) (back func()) // disturbs one link
	backs  []func()                  // each ends the disturbance of one link
}

// ends are the two parties of a link, the smaller name first.
type ends struct{ a, b string }

// endsOf returns the ends of the link between two parties, which may be given in either order.
func endsOf(a, b string) ends {
	if b < a {
		a, b = b, a
	}
	return ends{a, b}
}

// newNetwork makes a network without parties, whose connections are connections of a machine.
func newNetwork(ctx context.Context, machine kisnet.Network) (*network, error) {
	pairs, err := machine.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("make a network of relays: %w", err)
	}
	return &network{
		machine: machine, stopped: make(chan struct{}), pairs: pairs,
		links: map[ends]*link{}, bearers: map[string]string{}, begun: map[string]int{}, dead: map[string]bool{}, entries: map[string][]net.Listener{},
		bearer: func(cluster.Worker) string { return "" }, coordinator: func(cluster.Coordinator) string { return "" },
	}, nil
}

// between returns the link between two parties. If there is none yet, it makes one, with the disturbances of both parties.
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

// disturbAll applies change to all links of a party, including links that are made later. The function back undoes that, and is safe to
// call twice.
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

// begin makes a new party, which has the name from now on. Disturbances of parties that had the name before don't reach it. The first party
// of a name is called by the name; the second is called, for example, "worker-1, for the 2th time".
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

// named returns the party that has the name now: the newest one that begin made for it, or the name itself if begin made none.
func (n *network) named(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if party := n.bearers[name]; party != "" {
		return party
	}
	return name
}

// isDead reports whether one of the given parties, or of the given ids in the cluster, was killed.
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

// errRefused is the error of a connection to a party that was killed.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// DialWorker implements devcluster.Network: it connects a coordinator to a worker.
func (n *network) DialWorker(ctx context.Context, coordinator string, w cluster.Worker) (net.Conn, error) {
	if n.isDead(w.ID) {
		return nil, errRefused // even where another party has its name by now
	}
	party := n.bearer(w)
	if party == "" {
		party = n.named(w.Name)
	}
	return n.dial(ctx, n.named(coordinator), party, w.Address)
}

// DialCoordinator implements devcluster.Network: it connects a coordinator to another one. One that was started a moment ago can't be reached
// yet.
func (n *network) DialCoordinator(ctx context.Context, coordinator string, other cluster.Coordinator) (net.Conn, error) {
	party := n.coordinator(other)
	if party == "" || n.isDead(other.ID) {
		return nil, errRefused
	}
	return n.dial(ctx, n.named(coordinator), party, other.Address)
}

// dial connects the party from to the party to, which listens at the address, through a relay. While the two are cut off from each other,
// dial waits until ctx ends, as a dial in a broken network does. If one of them was killed, the connection is refused.
func (n *network) dial(ctx context.Context, from, to, address string) (net.Conn, error) {
	l := n.between(from, to)
	if err := l.awaitDial(ctx); err != nil {
		return nil, fmt.Errorf("dial %s from %s, which are cut off from each other: %w", to, from, err)
	}
	if n.isDead(from, to) {
		return nil, errRefused
	}
	remote, err := n.machine.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	local, relayed, err := n.pair(ctx)
	if err != nil {
		return nil, errors.Join(err, remote.Close())
	}
	if !n.startRelay(l, relayed, remote) {
		return nil, errors.Join(errRefused, local.Close(), relayed.Close(), remote.Close())
	}
	return relayedConn{local, remote.RemoteAddr()}, nil
}

// relayedConn is a connection through a relay. Its remote address is the address of the other party, not of the relay: coordinators
// compare it to tell whose death a refused connection proves.
type relayedConn struct {
	net.Conn
	to net.Addr
}

// RemoteAddr implements net.Conn: it returns the address of the other party.
func (c relayedConn) RemoteAddr() net.Addr { return c.to }

// pair makes a TCP connection within this process and returns its two ends. A dial that ctx ends may leave a connection behind that
// nobody has: the kernel had made it when the dial gave up. So pair takes only the connection that comes from the end that it dialled
// from, and closes all others.
func (n *network) pair(ctx context.Context) (net.Conn, net.Conn, error) {
	n.pairing.Lock()
	defer n.pairing.Unlock()
	dialled, err := n.machine.DialContext(ctx, "tcp", n.pairs.Addr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("make a relay: %w", err)
	}
	for {
		accepted, err := n.pairs.Accept()
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make a relay: %w", err), dialled.Close())
		}
		if accepted.RemoteAddr().String() == dialled.LocalAddr().String() {
			return dialled, accepted, nil
		}
		_ = accepted.Close() // nobody has its other end
	}
}

// startRelay starts a goroutine that carries bytes between the connections a and b, over the link l, until one of them ends. It returns
// false, and starts nothing, if the network is closed.
func (n *network) startRelay(l *link, a, b net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return false
	}
	n.running.Go(func() { l.carry(n.stopped, a, b) })
	return true
}

// Reach implements devcluster.Network: it returns an address at which a node reaches a service ("etcd" or "redis") through relays. The
// service itself listens at the given address.
func (n *network) Reach(node, service, address string) (string, error) {
	entry, err := n.machine.Listen(context.Background(), "127.0.0.1:0") // it does not block
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
			remote, err := n.machine.DialContext(context.Background(), "tcp", address) // for 5 s at most
			if err != nil {
				_ = conn.Close() // the node sees that the service can't be reached
				continue
			}
			if !n.startRelay(n.between(party, service), conn, remote) {
				_, _ = conn.Close(), remote.Close()
			}
		}
	})
	return entry.Addr().String(), nil
}

// kill breaks all connections of a party and refuses new ones. id is the party's id in the cluster, by which coordinators dial it.
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

// close ends all connections and waits for all goroutines of the network. A second call returns at once.
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
