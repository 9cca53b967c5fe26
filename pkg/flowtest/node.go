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
	killed atomic.Bool
}

func (n *Node) party() string { return n.Name() }

// Name is worker-1, worker-2, … or coordinator-1, …, or what AddWorker was given.
func (n *Node) Name() string { return n.node.Name() }

// ID is what the cluster calls it, its name and something random.
func (n *Node) ID() string { return n.node.ID() }

// Address is where a coordinator takes clients; a client that dials it is one whom no fault reaches.
func (n *Node) Address() string { return n.node.Address() }

// Kill ends the node as kill -9 does: from here on nothing that it does reaches anybody, its connections are broken and its
// port refuses others, and its key stays in etcd until somebody removes it. What its functions were doing is cancelled a
// moment later. AddWorker brings a worker back under its name.
func (n *Node) Kill() {
	if n.killed.Swap(true) {
		return // its name may be another's by now
	}
	n.grid.network.kill(n.Name(), n.ID())
	n.node.Abandon()
}

// Restart starts a coordinator at the address of this one, which was killed, so that clients that are there find it. It waits until
// it takes batches. What it is called is new.
func (n *Node) Restart() *Node {
	n.grid.t.Helper()
	n.node.Kill() // which waits until the address is free
	ctx, cancel := n.grid.patient()
	defer cancel()
	again, err := n.grid.cluster.StartCoordinator(ctx, n.Address())
	if err != nil {
		n.grid.t.Fatalf("start a coordinator at %s again: %v", n.Address(), err)
	}
	n.grid.forget(n)
	return n.grid.add(again)
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

// Cut parts the node from others, from all if none is named: nothing gets through, in either direction, and nobody is told.
// Connections break after 5 s of that, when the kernels' probes have found out. heal ends it, and is safe twice; what was
// under way then arrives.
func (n *Node) Cut(from ...Party) (heal func()) {
	return n.disturb(from, func(l *link) func() { return l.change(1, 0, 0) })
}

// Pause stops the node as SIGSTOP does, as far as others can see: it takes in nothing and says nothing, and its connections
// stand. resume has it go on where it was, and is safe twice. In between a function that runs goes on running, up to the next
// thing that it needs from outside.
func (n *Node) Pause() (resume func()) {
	return n.disturb(nil, func(l *link) func() { return l.change(0, 1, 0) })
}

// Slow has everything between the node and others, all if none is named, take so much longer in each direction. restore ends
// it, and is safe twice.
func (n *Node) Slow(by time.Duration, to ...Party) (restore func()) {
	return n.disturb(to, func(l *link) func() { return l.change(0, 0, by) })
}

// disturb changes the links to some parties, nil for all.
func (n *Node) disturb(parties []Party, change func(*link) func()) (back func()) {
	if len(parties) == 0 {
		parties = []Party{Etcd, Redis, Clients}
		for _, other := range n.grid.all() {
			parties = append(parties, other)
		}
	}
	var backs []func()
	for _, p := range parties {
		if p.party() != n.Name() {
			backs = append(backs, change(n.grid.network.between(n.Name(), p.party())))
		}
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
			return g.network.dial(ctx, Clients.party(), n.Name(), address)
		}
	}
	return nil, fmt.Errorf("no coordinator of this grid is at %s: there are %s", address, strings.Join(g.addresses(), ", "))
}
