// Package testgrid is the test kit for clusters of processes. A test gets an etcd, a Redis, coordinators and workers as processes of
// the built programs, changes definitions in etcd, and sends rows under load. Only tests import this package.
//
// Three other kits stand beside it. Package testprocess, on which this one is built, runs any program and relays connections.
// Package devcluster, which programs use too, runs a whole cluster in one process. Package flowtest, which is public, adds faults to
// that cluster, as calls of a test.
//
// The files, in reading order:
//
//   - grid.go: Grid, which starts coordinators and workers as processes, and runs the command line against them.
//   - definitions.go: Definitions, which writes documents into etcd and waits for the status of a flow.
//   - load.go: Load, which sends batches on a stream until a test stops it, and hands each answer to the test.
//   - servers.go: the etcd and the Redis of a test: installed programs, or embedded ones where nothing is installed.
package testgrid
