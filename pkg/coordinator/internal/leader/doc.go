// Package leader decides which revision of each flow is active. The one coordinator of a cluster that etcd elected runs it.
//
// A revision of a flow is made of documents: the flow's own, those of its functions, and those of their connectors. Documents that
// somebody has written ask for a revision; the leader brings the cluster to it:
//
//	documents in etcd ──CompileDocuments──> DesiredState: one candidate for each flow
//	candidate ──takenIn──> rejected here, when a document breaks a rule for new documents
//	candidate ──RequestRollouts──> workers compile the revision and answer
//	answers ──decide──> the flow's status, and at the end its active revision, in etcd
//
// All coordinators, this one included, follow the statuses in etcd and switch to the active revision that they find there.
//
// Its files, in reading order:
//
//   - leader.go: the loop of the leader, its view of etcd, and the removal of old history.
//   - reconcile.go: one pass over all flows: which candidates are new, what the workers say, what is written.
//   - intake.go: the rules that only new documents must keep.
//   - direct_changes.go: changes that somebody made in etcd past all coordinators, and how they are refused.
//   - document_status.go: the statuses of functions and connectors, which follow from those of flows.
//   - desired_state.go: documents compiled to candidates.
//   - rollout.go: how far the workers are with a revision, and how that reads.
//   - points.go: the points, which count how often rare branches were reached.
package leader
