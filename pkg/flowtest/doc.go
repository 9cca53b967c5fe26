// Package flowtest is for tests of flows on a whole cluster: an etcd, a Redis, coordinators and workers, in the test's process
// and over real sockets, with faults as calls.
//
//	func TestCrash(t *testing.T) {
//		g := flowtest.Cluster(t, 3, flowtest.Register(Register), flowtest.Conf("conf"))
//		...
//		g.Owner("Weather", `"roof"`).Kill()
//
// A Node can be killed, drained, paused, cut off and slowed down; Grid.Apply changes definitions; Grid.Client makes clients
// whose connections faults reach too. Nothing is simulated but the network: every connection goes through a relay, and that
// is where faults take place. Everything is stopped when the test ends, and no goroutine is left.
//
// What needs no cluster is tested faster with flowexec.NewLocal, and a function as what it is, a function. Nothing but tests
// may import this package: it brings a whole etcd with it.
package flowtest
