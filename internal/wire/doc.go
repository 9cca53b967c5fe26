// Package wire converts between the messages of the protocol (package kisgrid/v1) and the types of package batch.
//
// Bytes and columns are shared, not copied: after a conversion neither the message nor the value may be changed. This package also
// checks everything that a peer may have got wrong, so that no other package uses a number from outside as an index unchecked.
//
// The files, in reading order:
//
//   - status.go: errors become gRPC statuses, and statuses become errors.
//   - wire.go: conversions of columns, ids, outcomes, dead rows, ranges, outputs and revisions.
//   - position.go: the log in which a batch's rows stand.
//   - origin.go: the lines of a batch's rows become runs.
//   - split.go: outcomes and outputs are divided, so that each message stays below every limit.
//   - codec.go: gRPC's codec for all messages, which does not copy rows.
//   - selected.go: a part whose rows are copied from the batch straight into the connection's buffer.
//   - pack.go: messages to bytes and back, sharing the large fields.
//   - pool.go: buffers that are used again, and messages that lie in them.
package wire
