// Package worker implements the worker process of a KisGrid cluster. A worker runs flows: chains of Go functions that are built into
// its program. [Main] makes a whole program of one function that registers those functions. [New] is for a program that has a main
// function of its own.
//
// A worker registers its address in etcd. Coordinators dial this address and open a session, which is one gRPC stream. In a session the
// coordinator sends definitions (the documents of flows) and parts (rows of one batch). The worker answers with results, and grants
// credit, which is leave to send more rows.
//
//	coordinator ──► Hello      ──► handshake.go                 ┌── Welcome  ──► coordinator
//	            ──► Definition ──► definitions.go, compile.go   ├── Compiled ──►
//	            ──► Part       ──► parts.go                     ├── Credit   ──►
//	                                 │                          └── Result   ──►
//	                                 ▼                               ▲
//	                               lanes of package flowexec ──► results.go
//
// The messages on the left are read by receive.go, and those on the right are written by send.go.
//
// Four things live for different times. A session (session.go) is one connection. A peer (peer.go) is one coordinator,
// from session to session. A plan (plans.go) is one compiled revision of a flow, for all coordinators. A flow (flows.go)
// has the lanes, for all plans and coordinators.
//
// The files, in reading order:
//
//   - main.go: Main, the command line of a worker program, and its flags.
//   - worker.go: Config and Worker; opens everything, waits, and closes everything.
//   - membership.go: the worker's record in etcd, and its probes of readiness.
//   - drain.go: the end in good order: hand rows back, finish the running ones, deliver results.
//   - receive.go: the call that opens a session, and the goroutine that reads from it.
//   - handshake.go: Hello and Welcome; decides whether a session resumes an earlier one.
//   - definitions.go: messages that bring, activate and drop revisions of flows.
//   - parts.go: messages that bring rows and that ask rows back.
//   - announce.go: the wait before a run, and announcements of rows that may kill the worker.
//   - locate.go: answers where the rows of one shard key are.
//   - tap.go: copies of rows for people who look, from the lanes to the session.
//   - tap_viewer.go: what one of them may see and wants to see; the taps of a flow.
//   - tap_budget.go: the time that all taps may use.
//   - send.go: the goroutine that writes to a session.
//   - results.go: gathers ended rows into results, and keeps results until they are acknowledged.
//   - result_messages.go: makes the messages of results.
//   - split.go: splits a result that is too large for one message.
//   - server.go: all sessions and coordinators of the worker.
//   - peer.go: one coordinator, from session to session.
//   - session.go: one connection of a coordinator.
//   - held_part.go: one part, from its arrival to the acknowledgement of its last result.
//   - plans.go: compiled revisions, shared by coordinators.
//   - compile.go: compiles the documents of a revision.
//   - flows.go: the lanes of each flow.
//   - connector_states.go: opens the connectors of plans, and reports whether they work.
//   - figures.go: counts of functions, parked rows and credit, for coordinators.
//   - metrics.go: the worker's metrics.
//   - budget.go: how many rows and bytes coordinators may send.
//   - output_memory.go: when a run may begin, by the memory that its output may take.
//   - client_backlog.go: when a run may begin, by the output that clients have not taken.
//   - gate.go: lets one row run with nothing beside it.
//   - points.go: the points, which count how often rare branches were reached.
package worker
