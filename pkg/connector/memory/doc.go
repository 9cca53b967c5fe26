// Package memory is a connector whose data lives in the process: for tests, and for trying flows out without a Redis. It behaves as the
// Redis connector does, except that the data is gone when the Store is.
//
// The files, in reading order:
//
//   - memory.go: Store, and the connection to it.
//   - once.go: records of the effects that took place.
//   - points.go: the points, which count how often rare branches were reached.
package memory
