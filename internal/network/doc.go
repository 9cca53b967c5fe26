// Package network says what a process needs of the network of its machine: to dial, to listen, to look names up, and to know its own
// addresses. Everything in KisGrid that reaches the network does it through a Network, so that a test can run whole processes, each on a
// machine of its own, over a network in memory.
//
// The files, in reading order:
//
//   - network.go: the interface.
//   - system.go: the network of the machine, which is the default.
package network
