// Package flowstate describes flows as one coordinator knows them: their revisions, and a snapshot of all flows that any goroutine may
// read. It holds values and a board to publish them on; it decides nothing and starts no goroutine.
//
// Its files, in reading order:
//
//   - snapshot.go: the board, the snapshot on it, and a flow in the snapshot.
//   - revision.go: one revision of a flow, made of its documents.
//   - connectors.go: whether the connectors of flows are connected, by worker.
package flowstate
