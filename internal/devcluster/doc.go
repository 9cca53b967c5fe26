// Package devcluster runs a whole KisGrid in one process, for demonstrations, development and tests: an embedded etcd and Redis, with
// coordinators and workers on them, over real sockets. kisgrid demo and kisgrid dev run it, and package pkg/flowtest adds faults. Nothing
// of it is for production: the embedded Redis keeps its data in memory, and the embedded etcd has one member.
//
// The files, in reading order:
//
//   - cluster.go: Cluster, which starts everything and stops everything.
//   - node.go: Node, one coordinator or worker of a Cluster.
//   - etcd.go: Etcd, an etcd server in this process.
//   - etcd_log.go: the part of etcd's log that is kept: errors.
//   - redis.go: Redis, a stand-in for Redis in this process.
package devcluster
