// Package coordinator is the process between clients and workers. Clients submit batches of rows to it. It checks a batch, has the scheduler
// (package scheduler) decide which worker gets which row, sends the rows to workers, and answers the client when each row has an outcome.
//
// The process has these goroutines, each of which owns some of the state:
//
//	client ──> ingest, a goroutine or two per call ──> scheduler loop ──> worker peer, a goroutine or four per worker ──> worker
//	client <── ingest                              <── scheduler loop <── worker peer                                 <── worker
//	etcd   <─> fleet: which workers are there, which flows run
//	etcd   <─> leader (package internal/leader), in one coordinator of the cluster: which revision of a flow is active
//
// Its files, in reading order:
//
//   - coordinator.go: the configuration, and how everything starts and ends.
//   - access.go: the access file, and the warnings about ports that are open to everybody.
//   - access_calls.go: the right that each call needs.
//   - registration.go: this coordinator's key in etcd.
//   - leadership.go: the election of the leader.
//   - metrics.go: the metrics.
//   - figures.go: counts for those who look, brought together from all coordinators.
//   - http.go: the HTTP port: the API, metrics and health.
//   - row_types.go: the types of the fields of a flow's rows, for CSV.
//   - views.go: the statuses that the command line reads.
//   - ingest.go: the service that takes batches, and the call with one batch.
//   - begin_term.go: the call with which a reader begins to read a log, and workers that know no positions.
//   - gathered_answer.go: the answers of one batch, gathered into one.
//   - stream.go: the call with many batches, and their answers in a stream.
//   - balance_streams.go: streams that move to other coordinators, so that each has its share.
//   - letter_runs.go: dead letters that run again, as batches of one row.
//   - admit.go: whether a batch is taken, and on which revision.
//   - find_revision.go: which revision a batch runs on.
//   - etcd_lookups.go: questions to etcd about flows that this coordinator does not know.
//   - fleet.go: the goroutine that knows workers and flows.
//   - flow_table.go: the flows, and the switch to a new revision.
//   - rollouts.go: revisions that the leader has workers compile.
//   - unserved.go: why no worker can run a flow.
//   - connector_report.go: which connectors of flows are connected.
//   - scheduled_flow.go: a flow that the scheduler runs, also after it was switched off.
//   - definitions.go: which revisions each worker is sent.
//   - reachability.go: whether this coordinator reaches enough workers.
//   - roster.go: the workers that are registered.
//   - same_name.go: two workers of one name.
//   - worker_peer.go: a worker, from one session to the next.
//   - peer_death.go: whether a worker is dead.
//   - worker_session.go: one session: the handshake, and the messages of the worker.
//   - session_writer.go: one session: the messages to the worker.
//   - definition_key.go: names of revisions, and maps by them.
//   - sent_definitions.go: the revisions that a worker may have.
//   - connector_states.go: the states of a worker's connectors.
//   - locate_calls.go: asking workers where rows are.
//   - tap_calls.go: showing rows as they pass at workers.
//   - scheduler_loop.go: the goroutine that drives the scheduler.
//   - submission.go: a batch in this process, from its arrival to its answers.
//   - letter_keeper.go: dead rows that are kept as dead letters.
//   - limits.go: how much clients and workers accept.
//   - window.go: how many bytes one client may have under way.
//   - budget.go: how many bytes all clients together may have under way.
//   - untaken_results.go: results that clients have not read, as the worker is told of them.
//   - trace.go: spans of batches and parts.
//   - queue.go: a queue that never blocks.
//   - wait.go: waiting for a time, and for channels.
//   - points.go: the points, which count how often rare branches were reached.
//
// It is exported for the project's own programs and changes with them: see docs/stability.md.
package coordinator
