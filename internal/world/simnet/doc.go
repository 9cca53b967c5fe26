// Package simnet is a network in memory, for whole processes that run in one test, each on a machine of its own. It keeps to what Linux
// does with TCP, errors included, so that code meets the same network as in production. Time is the time of package time: in a bubble of
// testing/synctest it is virtual, and nothing here keeps the bubble's clock from moving on.
//
// A Net has hosts, with their addresses and names. A process on a host implements network.Network. Connections through it belong to the
// process and end when it is killed. A Fault of a link delays, cuts, refuses or resets connections between two hosts or processes.
//
// One mutex guards everything of a Net. It is never held while something blocks. A healthy connection costs no timer and no goroutine:
// Write copies bytes into the buffer from which the peer reads.
//
// Differences from the real network: connections have no file descriptor, so that go-redis does not look whether the peer has closed a
// connection of its pool, and gRPC can't set TCP_USER_TIMEOUT. A Net sets the latter itself for clients that speak HTTP/2.
//
// The files, in reading order:
//
//   - net.go: the network, its hosts, and addresses.
//   - process.go: processes, which are killed, stopped, and go on.
//   - names.go: names and their addresses.
//   - listener.go: listeners.
//   - dial.go: connects.
//   - conn.go: a connection as a program sees it.
//   - kernel.go: a connection as the kernels of both machines see it: how bytes reach the peer, and when a connection is given up.
//   - fault.go: faults of links.
package simnet
