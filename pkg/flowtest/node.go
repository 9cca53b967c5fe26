package flowtest

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kisgrid/kisgrid/internal/devcluster"
)

// Party is one end of a connection in a cluster: a *Node, Etcd, Redis or Clients. Faults name the parties between which they take place.
type Party interface {
	// party is the name of the party in the network.
	party() string
}

// The parties that are not nodes.
const (
	// Etcd is the etcd of the cluster.
	Etcd = service("etcd")
	// Redis is the Redis that flows share.
	Redis = service("redis")
	// Clients stands for all clients that Grid.Client made.
	Clients = service("clients")
)

// service is a Party that is not a node, by its name in the network.
type service string

// party implements Party: it returns the name of the service.
func (s service) party() string { return string(s) }

// Node is one coordinator or worker of a Grid. Several goroutines may call its methods at the same time. Faults can be combined: a node
// may be cut off from one party and slowed down towards another.
//
//	          Kill                       Restart, AddWorker
//	running ────────▶ ended ─────────────────────────────▶ a new Node, running
//	  │  ▲   Drain
//	  ▼  │
//	disturbed by Cut, Pause or Slow, until the returned function ends it
type Node struct {
	grid   *Grid
	node   *devcluster.Node
	key    string       // the node's party in the network; unlike the name, no other node ever has it
	config WorkerConfig // for a worker: how it was started
	killed atomic.Bool
}

// party implements Party: it returns the node's key, which no other node has.
func (n *Node) party() string { return n.key }

// Name returns the node's name: worker-1, worker-2 and so on, coordinator-1 and so on, or the name that AddWorker was given.
func (n *Node) Name() string { return n.node.Name() }

// ID returns the node's id in the cluster: its name and a random part. The id of a worker is "" until the worker has registered.
func (n *Node) ID() string { return n.node.ID() }

// Address returns the address (host:port) at which a coordinator takes clients; it is empty for a worker. No fault reaches a connection
// that a test makes to this address itself.
func (n *Node) Address() string { return n.node.Address() }

// Kill ends the node as kill -9 does. Its connections break, its port refuses new ones, and nothing that it still does reaches another
// party. Its record stays in etcd until another process removes it or its lease runs out. The contexts of its functions are cancelled a
// moment later. After that AddWorker may start a new worker with this name, and Restart may start any node again. To kill a node that has
// ended does nothing; a new node of the same name goes on.
func (n *Node) Kill() {
	if n.killed.Swap(true) {
		return
	}
	n.grid.network.kill(n.key, n.ID())
	n.node.Abandon()
}

// Restart kills the node if it has not ended, waits until it is gone, and starts a new node in its place, which it returns.
//
// A new coordinator has the same address, so that clients find it, and a new name; Restart waits until it takes batches. A new worker has
// the same name, functions and build; Restart waits until every coordinator has a session with it.
func (n *Node) Restart() *Node {
	g := n.grid
	g.t.Helper()
	ctx, cancel := g.patient()
	defer cancel()
	n.Kill()
	select {
	case <-n.node.Done(): // and its address is free
	case <-ctx.Done():
		g.t.Fatalf("restart %s: it has not ended: %v", n.Name(), ctx.Err())
	}
	if n.Address() == "" {
		g.forget(n)
		return g.AddWorker(n.config)
	}
	again, err := g.cluster.StartCoordinator(ctx, n.Address())
	if err != nil {
		g.t.Fatalf("start a coordinator at %s again: %v", n.Address(), err)
	}
	g.forget(n)
	return g.add(again, again.Name(), WorkerConfig{})
}

// Drain ends the node in good order, as SIGTERM does, and waits until it has ended. A worker hands back the rows that it has not begun; a
// coordinator answers the batches that it has taken. A node that does not drain within a minute fails the test.
func (n *Node) Drain() {
	n.grid.t.Helper()
	ctx, cancel := n.grid.patient()
	defer cancel()
	if err := n.node.Drain(ctx); err != nil {
		n.grid.t.Errorf("drain %s: %v", n.Name(), err)
	}
}

// Cut cuts the node off from the given parties, as a broken network does: nothing gets through in either direction, and neither side is
// told. Without a party it cuts the node off from all, those too that are started later. After 5 s the connections break, as the kernel's
// probes would break them. The function heal ends the cut, and is safe to call twice. Bytes that were on their way arrive then, unless their
// connection has been broken.
//
//	heal := g.Worker(0).Cut(g.Coordinator(0))
//	...
//	heal()
func (n *Node) Cut(from ...Party) (heal func()) {
	n.grid.t.Helper()
	return n.disturb("cut", from, func(l *link) func() { return l.change(1, 0, 0) })
}

// Pause stops the node, as far as others can see, as SIGSTOP does: it reads nothing and writes nothing, and its connections stay open.
// Parties that are started later see it so too. The function resume ends the pause, and is safe to call twice. Inside the node a function
// that runs goes on until it needs something from outside, such as Redis.
func (n *Node) Pause() (resume func()) {
	n.grid.t.Helper()
	return n.disturb("pause", nil, func(l *link) func() { return l.change(0, 1, 0) })
}

// maxSlow is the longest delay of one Slow. No test lasts so long, and the sum of many such delays does not overflow.
const maxSlow = 24 * time.Hour

// Slow delays all bytes between the node and the given parties by the duration by, at most a day, in each direction. Without a party it
// delays the bytes between the node and all other parties, including parties that are started later. Several delays add up. The function
// restore ends the delay, and is safe to call twice.
func (n *Node) Slow(by time.Duration, to ...Party) (restore func()) {
	n.grid.t.Helper()
	if by < 0 || by > maxSlow {
		n.grid.t.Fatalf("slow %s down by %s: give a delay from 0 to %s", n.Name(), by, maxSlow)
	}
	return n.disturb("slow down", to, func(l *link) func() { return l.change(0, 0, by) })
}

// disturb applies change to the node's links to the given parties, or to all of its links if no party is given. The function back undoes
// that. A party that can't be disturbed fails the test; does names the fault in that failure.
func (n *Node) disturb(does string, parties []Party, change func(*link) func()) (back func()) {
	n.grid.t.Helper()
	if len(parties) == 0 {
		return n.grid.network.disturbAll(n.key, change)
	}
	for i, p := range parties {
		other, node := p.(*Node)
		switch {
		case p == nil || node && other == nil:
			n.grid.t.Fatalf("%s %s: party %d is nil: name a node, Etcd, Redis or Clients", does, n.Name(), i+1)
		case other == n:
			n.grid.t.Fatalf("%s %s from itself: name another party", does, n.Name())
		case node && other.grid != n.grid:
			n.grid.t.Fatalf("%s %s: %s is a node of another Grid", does, n.Name(), other.Name())
		}
	}
	var backs []func()
	for _, p := range parties {
		backs = append(backs, change(n.grid.network.between(n.key, p.party())))
	}
	return func() {
		for _, b := range backs {
			b()
		}
	}
}

// Metrics returns the metrics that the node would serve to Prometheus.
func (n *Node) Metrics() prometheus.Gatherer { return n.node.Metrics() }

// Metric returns the value of a counter or a gauge, or the number of observations of a histogram. labels are pairs of a name and a value; the
// values of all series that have these labels are added up. It is 0 where there is no series:
//
//	n.Metric("kisgrid_rows_ended_total", "flow", "Weather", "outcome", "done")
func (n *Node) Metric(name string, labels ...string) float64 {
	n.grid.t.Helper()
	families, err := n.Metrics().Gather()
	if err != nil {
		n.grid.t.Fatalf("gather the metrics of %s: %v", n.Name(), err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// hasLabels reports whether a series has all the labels, which are pairs of a name and a value.
func hasLabels(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}
