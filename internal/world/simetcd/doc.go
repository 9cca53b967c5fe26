// Package simetcd is a model of etcd for tests: several members that serve etcd's gRPC API over any network, with one state in memory. The
// real client works with it, also in virtual time. Its answers, errors and watch events are those of etcd; the package suite compares them
// with a real one. Faults are methods of [Etcd].
//
// Differences to etcd: nothing is replicated, so a write takes effect at one moment for all members that reach each other; a lease longer
// than 5 minutes starts anew after an election, although etcd would go on with the rest of it; streams of ranges, learners, changes of the
// members, and single users or roles by name are not served.
//
// # Files
//
// In reading order, from the methods that tests call to the parts of the state:
//
//   - etcd.go: Config, Etcd, Start and Close.
//   - faults.go: everything that can go wrong, as methods.
//   - data.go: tests read and write keys, users and the journal without a client.
//   - member.go: one server, and its connections.
//   - leader.go: the cluster loses and elects leaders.
//   - call.go: how calls and streams wait for a leader, are delayed, and lose their answers.
//   - kv.go: the service of keys.
//   - requests.go: requests that etcd refuses before it looks at its state.
//   - txn.go: transactions.
//   - ranges.go: answers to range requests.
//   - watch.go: the service of watches.
//   - lease.go: the service of leases, and how they run out.
//   - auth.go: who makes a call, and what users may do.
//   - users.go: the service of users and roles.
//   - admin.go: status, alarms and members.
//   - state.go: all that etcd keeps on its disk.
//   - store.go: keys with their versions.
//   - virtual.go: lets the etcd client run in virtual time.
package simetcd
