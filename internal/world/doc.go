// Package world runs a whole KisGrid in one test process and in virtual time: coordinators, workers, clients and the calls of the command
// line, unchanged, over a network, an etcd and a Redis in memory. Run lives through a scenario and returns its history, which the checks of
// package oracle read.
//
// The files, in reading order:
//
//   - world.go: Run, and the order in which a scenario happens.
//   - hosts.go: the machines, etcd and Redis.
//   - mutexes.go: how virtual time moves on while somebody waits for a mutex.
//   - certificates.go: the certificate of scenarios with TLS.
//   - process.go: one life of a coordinator or a worker: start, kill, drain, stop.
//   - coordinator.go: what the program coordinator does before it serves.
//   - worker.go: what the program worker does before it serves.
//   - gate.go: the process as the functions of flows see it.
//   - logs.go: the log of a process.
//   - metrics.go: the metrics of a process.
//   - client.go: a client's program, its batches, and how they end.
//   - client_stream.go: clients that submit over a stream.
//   - client_call.go: clients that submit by calls, and producers.
//   - client_wrong.go: clients that send what the protocol forbids.
//   - client_intruder.go: clients that call workers as if they were coordinators.
//   - client_redrive.go: clients that mend dead letters and redrive them.
//   - admin.go: the calls of the command line, and of etcdctl.
//   - changes.go: changes of documents.
//   - faults.go: faults of processes, machines and links.
//   - faults_stores.go: faults of etcd and Redis.
//   - calm.go: clients begin; at the end of the faults the cluster comes to rest.
//   - end.go: the orderly end, and a look at the goroutines, connections and keys that are left.
package world
