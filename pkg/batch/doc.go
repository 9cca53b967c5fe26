// Package batch has the data that clients, coordinators and workers exchange: rows packed into columns, the ids of batches, how
// rows ended, and codes that say why. It is a leaf: it imports nothing else of the project, and every package may import it.
//
// The files, in reading order:
//
//   - batch.go: Batch, rows that a program submits together.
//   - batch_state.go: what a Batch knows of its submissions, and which errors leave its outcome open.
//   - id.go: ids of streams, batches and rows.
//   - position.go: logs outside of the cluster, and where rows stand in them.
//   - revision.go: revisions of flows.
//   - key.go: the hash of a row's shard key.
//   - key_plain.go: the same hash, fast, for the most common rows.
//   - key_text.go: the text of a value in keys of a store.
//   - key_number.go: one text for all spellings of a number.
//   - key_scan.go: where values in JSON end.
//   - dead.go: rows that died, and why a row is not kept as a dead letter.
//   - outcome.go: how rows ended.
//   - merge.go: outputs of several workers become one.
//   - columns.go: rows packed one behind the other.
//   - limits.go: how large rows and batches may be.
//   - code.go: codes, and the project's error type.
package batch
