// Package cluster reads and writes everything that KisGrid keeps in etcd: documents, the history and status of flows, the registered
// workers and coordinators, and the election of the leader. A [Store] is one connection to etcd.
//
// Errors are *batch.Error. CodeUnavailable means that etcd does not answer or refuses the user, CodeConflict that somebody else wrote
// first, CodeCancelled and CodeDeadline that the caller's context ended.
//
// The package is exported for the project's own programs and changes with them: see docs/stability.md.
//
// # Files
//
// In reading order, from the methods that other packages call to the parts that they share:
//
//   - store.go: Config, Store, Open, Wait and Close.
//   - audit.go: who has changed documents, and what else was done.
//   - audit_announced.go: entries about changes that leave no room for them.
//   - documents.go: documents are read, followed and written in transactions.
//   - members.go: workers and coordinators: their records, and how they register.
//   - control.go: flows that are paused and workers that are cordoned.
//   - log.go: logs that flows read from outside of the cluster, and the terms of their readers.
//   - namesakes.go: workers that register under a name that another worker has.
//   - status.go: statuses of functions and connectors.
//   - leadership.go: the election of the leader, and everything that only the leader writes.
//   - flows.go: statuses and revisions of flows, and how they are read.
//   - state.go: everything that leaders have written, read or followed as one.
//   - requests.go: HTTP requests that may be made again.
//   - claim.go: a key under a lease, which registrations and campaigns consist of.
//   - transaction.go: a transaction, with the size that etcd will count.
//   - follow.go: a copy of a range of keys that a watch keeps up to date.
//   - read.go: how a range is listed in pages, and records that can't be read are logged.
//   - records.go: the JSON of statuses and revisions.
//   - calls.go: how calls of the etcd client behave while etcd is out of reach.
//   - signin.go: one sign-in for all calls.
//   - outage.go: how loops wait while etcd is out of reach, and log it once.
//   - keys.go: every key.
//   - errors.go: errors of etcd, with a code and advice.
//   - points.go: the points, which count how often rare branches were reached.
package cluster
