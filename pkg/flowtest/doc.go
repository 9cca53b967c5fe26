// Package flowtest runs a whole cluster in a test: an etcd, a Redis, coordinators and workers, in the test's process and over real
// sockets. A test disturbs the cluster by calls, such as Kill and Cut, and sees how its flows stand that.
//
//	func TestCrash(t *testing.T) {
//		g := flowtest.Cluster(t, 3, flowtest.Register(Register), flowtest.Conf("conf"))
//		c := g.Client()
//		...
//		g.Owner("Weather", `"roof"`).Kill() // the worker that runs the rows of the shard key "roof"
//		...
//	}
//
// Cluster starts everything, and stops it when the test ends; no goroutine is left. Its result, a Grid, has these parts:
//
//   - Nodes: a Node is one coordinator or worker. It can be killed, restarted, drained, paused, cut off and slowed down. Grid.Workers and
//     Grid.Coordinators list the nodes, Grid.Owner finds the worker of a shard key, Node.Metric reads a node's metrics.
//   - Clients: Grid.Client makes a client of package client. Faults reach its connections too.
//   - Definitions: Grid.Apply changes flows as kisgrid apply does, and waits until they run; Grid.Put writes unchecked, as etcdctl does.
//
// Nothing is simulated but the network. Every connection between two parties of the cluster goes through a relay in the test's process;
// a fault holds, delays or breaks the relay's connections:
//
//	client ──▶ relay ──▶ coordinator ──▶ relay ──▶ worker
//	                     coordinator ──▶ relay ──▶ etcd
//	                     worker      ──▶ relay ──▶ etcd, Redis
//
// Which kind of test to write: test a function by calling it; test a flow, its order and its outcomes with flowexec.NewLocal, which
// starts at once; use this package for effects of a cluster, such as a worker's death, a change of definitions, or several flows
// that share a store. A cluster takes about a tenth of a second to start. Only tests may import this package: it links a whole etcd.
//
// The files, in reading order:
//
//   - grid.go: Grid, which starts the cluster and has its nodes and clients.
//   - definitions.go: how a Grid changes definitions, and finds the owner of a shard key.
//   - node.go: Node, and the faults that a test can call.
//   - network.go: network, which makes every connection go through a relay.
//   - link.go: link, all connections between two parties, which holds, delays and breaks them.
//   - options.go: the options of Cluster.
package flowtest
