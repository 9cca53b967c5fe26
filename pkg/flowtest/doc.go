// Package flowtest runs a whole cluster in a test: an etcd, a Redis, coordinators and workers, in the test's process, over real sockets or
// in virtual time. A test disturbs the cluster by calls, such as Kill and Cut, and sees how its flows stand that.
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
// In real time nothing is simulated but the network. Every connection between two parties of the cluster goes through a relay in the test's process;
// a fault holds, delays or breaks the relay's connections:
//
//	client ──▶ relay ──▶ coordinator ──▶ relay ──▶ worker
//	                     coordinator ──▶ relay ──▶ etcd, other coordinators
//	                     worker      ──▶ relay ──▶ etcd, Redis
//
// With the option VirtualTime a test runs in a bubble of testing/synctest. Then nothing waits for a clock: time goes on at once when every
// goroutine of the bubble waits. So a test of a lease, a retry, a cut or a timeout takes milliseconds, an hour of a small cluster some
// seconds, and no slow machine makes it fail. etcd, Redis and the sockets are simulated there, which the project tests against real ones:
//
//	func TestTomorrow(t *testing.T) {
//		bubble.Test(t, func(t *testing.T) {
//			g := flowtest.Cluster(t, 3, flowtest.Register(Register), flowtest.Conf("conf"), flowtest.VirtualTime())
//			...
//			heal := g.Worker(0).Cut(flowtest.Redis)
//			time.Sleep(time.Minute) // takes no time
//			heal()
//			...
//		})
//	}
//
// The functions under test must do their part: a goroutine of theirs that waits for a real socket, a file that somebody else writes, or a
// channel that was made outside of the bubble keeps virtual time from going on. Use the package without the option for such functions,
// and for a Redis with everything that it can do.
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
//   - virtual.go: the machine, etcd and Redis of virtual time.
//   - options.go: the options of Cluster.
package flowtest
