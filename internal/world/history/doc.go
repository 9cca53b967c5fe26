// Package history records one life of a simulated cluster: which rows clients submitted, which functions ran for them, what clients were
// answered, how documents changed, which faults happened, and what was left at the end. The checks of package oracle read it.
//
// The files, in reading order:
//
//   - history.go: History, and the types of its events.
//   - batches.go: batches of rows, and the tries to submit them.
//   - processes.go: the lives of processes, their metrics and logs.
//   - stores.go: the content of a connector's store, and the entries that the world's functions write there.
//   - final.go: what is left when the cluster has come to rest.
//   - recorder.go: Recorder, which the world calls while time passes.
//   - tell.go: the story of one key, batch, row or revision, as text.
package history
