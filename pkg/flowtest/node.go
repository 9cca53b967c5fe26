package flowtest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kisgrid/kisgrid/internal/devcluster"
)

// Party is somebody whom a node talks to: a *Node, Etcd, Redis or Clients.
type Party interface{ party() string }

// The parties that are not nodes. Clients are those that Grid.Client made.
const (
	Etcd    = service("etcd")
	Redis   = service("redis")
	Clients = service("clients")
)

type service string

func (s service) party() string { return string(s) }

// Node is one coordinator or worker of a Grid. Its methods may be called by several goroutines.
type Node struct {
	grid   *Grid
	node   *devcluster.Node
	key    string       // the party that it is in the network: unlike its name, nobody else ever has it
	config WorkerConfig // a worker's
	killed atomic.Bool
}

func (n *Node) party() string { return n.key }

// Name is worker-1, worker-2, … or coordinator-1, …, or what AddWorker was given.
func (n *Node) Name() string { return n.node.Name() }

// ID is what the cluster calls it, its name and something random.
func (n *Node) ID() string { return n.node.ID() }

// Address is where a coordinator takes clients; a client that dials it is one whom no fault reaches.
func (n *Node) Address() string { return n.node.Address() }

// Kill ends the node as kill -9 does: from here on nothing that it does reaches anybody, its connections are broken and its
// port refuses others, and its key stays in etcd until somebody removes it. What its functions were doing is cancelled a
// moment later. AddWorker brings a worker back under its name, and Restart any node. A node that has ended stays as it is, and who
// has its name meanwhile too.
func (n *Node) Kill() {
	if n.killed.Swap(true) {
		return
	}
	n.grid.network.kill(n.key, n.ID())
	n.node.Abandon()
}

// Restart starts the node anew: it kills it, unless it has ended, waits until it is gone, and starts another one in its place. A
// coordinator has the address of this one, so that clients that are there find it, and is waited for until it takes batches; its
// name is new. A worker has the name, the functions and the build of this one, and is waited for until every coordinator has a
// session with it.
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

// Drain ends the node in good order, as SIGTERM does, and waits for that: a worker hands back what it has not begun, a
// coordinator answers what it has taken.
func (n *Node) Drain() {
	n.grid.t.Helper()
	ctx, cancel := n.grid.patient()
	defer cancel()
	if err := n.node.Drain(ctx); err != nil {
		n.grid.t.Errorf("drain %s: %v", n.Name(), err)
	}
}

// Cut parts the node from others, from all if none is named, those too that are started later: nothing gets through, in either
// direction, and nobody is told. Connections break after 5 s of that, when the kernels' probes have found out. heal ends it, and is
// safe twice; what was under way then arrives.
func (n *Node) Cut(from ...Party) (heal func()) {
	n.grid.t.Helper()
	return n.disturb("cut", from, func(l *link) func() { return l.change(1, 0, 0) })
}

// Pause stops the node as SIGSTOP does, as far as others can see, those too that are started later: it takes in nothing and says
// nothing, and its connections stand. resume has it go on where it was, and is safe twice. In between a function that runs goes on
// running, up to the next thing that it needs from outside.
func (n *Node) Pause() (resume func()) {
	n.grid.t.Helper()
	return n.disturb("pause", nil, func(l *link) func() { return l.change(0, 1, 0) })
}

// maxSlow bounds one Slow: a test is over long before, and sums of it don't overflow.
const maxSlow = 24 * time.Hour

// Slow has everything between the node and others, all if none is named, those too that are started later, take so much longer in
// each direction, a day at most. restore ends it, and is safe twice.
func (n *Node) Slow(by time.Duration, to ...Party) (restore func()) {
	n.grid.t.Helper()
	if by < 0 || by > maxSlow {
		n.grid.t.Fatalf("slow %s down by %s: give a delay from 0 to %s", n.Name(), by, maxSlow)
	}
	return n.disturb("slow down", to, func(l *link) func() { return l.change(0, 0, by) })
}

// disturb changes the links to some parties, none for all. What can't be ends the test.
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

// Metrics are what the node would serve to Prometheus.
func (n *Node) Metrics() prometheus.Gatherer { return n.node.Metrics() }

// Metric is the value of one metric, of a histogram how often it was observed. Labels are pairs of name and value; series
// that have others too are added up. A metric without such a series is 0.
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

// dialCoordinator makes the connections of clients.
func (g *Grid) dialCoordinator(ctx context.Context, address string) (net.Conn, error) {
	for _, n := range g.all() {
		if n.Address() == address {
			return g.network.dial(ctx, Clients.party(), n.key, address)
		}
	}
	return nil, fmt.Errorf("no coordinator of this grid is at %s: there are %s", address, strings.Join(g.addresses(), ", "))
}
