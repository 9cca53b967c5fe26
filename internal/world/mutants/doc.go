// Package mutants holds faults that the simulated world must find: each is a change of production code that breaks a promise. Some are
// faults that KisGrid once had, and others are new. Each stands in a file of its own in testdata, with its name, the promise that it breaks,
// the oracles that should see that, and the reason why it is a fault. Such a file changes nothing by itself: a Mutant is only ever built with
// go build's flag -overlay, so that the changed code never stands in the tree.
//
// A file of testdata:
//
//	name: hand-over-overtakes
//	breaks: order per key
//	found by: OrderPerKey
//	shows in: (kill|drain|start) .*
//	The text goes on in lines of its own: what the fault is, and how it shows.
//
//	-- pkg/scheduler/route.go
//	<<<
//	the lines as they are, which must stand in the file exactly once
//	===
//	the lines as the mutant has them
//	>>>
//
// The line "shows in" may be missing. It is a regular expression that the scripts of all scenarios match in which the fault can show. A
// mutant that no seed finds may be found by one of the scripts that were kept in internal/world/testdata. If it is not found at all, a line
// "missed: …" before the text says why. Several changes of one file, and several files, may follow each other.
//
// # Files
//
// In reading order:
//
//   - mutant.go: reading the files of testdata, and applying them to the sources.
package mutants
