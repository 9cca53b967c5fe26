// Package admin serves the calls of the gRPC service Admin, which the command kisgrid makes: apply, delete, get, rollout, history, explain,
// the calls about dead letters, and version.
//
// Every coordinator serves them. The package knows its coordinator by the interfaces in its Config: the fleet of workers, the scheduler's
// rows, the budget of bytes, and the runner of dead letters' rows.
//
// Its files, in reading order:
//
//   - admin.go: the service, and its configuration.
//   - apply.go: documents that somebody writes.
//   - prune.go: stored documents that an apply deletes because they were not given.
//   - delete.go: documents that somebody deletes.
//   - compare.go: the difference between given and stored documents, and whether the flows are still right after it.
//   - rights.go: whether the caller may change or see documents that flows share, and dead letters.
//   - control.go: flows are paused and workers cordoned, and the views of workers.
//   - audit.go: who has changed something, or has read rows.
//   - rollout.go: how far a flow has come, and the revisions that it had.
//   - await_flows.go: waiting until flows have settled.
//   - await_connectors.go: waiting until the connectors of flows are connected.
//   - get.go: flows, functions, connectors, workers and coordinators with their statuses.
//   - chain.go: the steps of a flow, for pictures of it.
//   - figures.go: what the whole cluster counts.
//   - stored_state.go: the documents that get lists, also while etcd is away.
//   - explain.go: where the rows of a shard key are.
//   - tap.go: rows as they pass functions: the call, and its limits.
//   - tap_view.go: what its caller is told.
//   - redrive.go: dead letters that run again.
//   - redrive_results.go: the progress of a redrive, and the rows that flows pass on in it.
//   - dead_letters.go: listing, editing and dropping dead letters.
//   - select_letters.go: a filter for dead letters is checked, and letters are read page by page.
//   - letter_content.go: the part of a filter that looks at the contents of rows.
//   - version.go: the build of this coordinator.
//   - coordinator.go: what the calls need of their coordinator.
//   - points.go: the points, which count how often rare branches were reached.
package admin
