// Package oracle judges the history of a simulated cluster by KisGrid's promises: those of docs/promises.md, docs/outcomes.md and the other
// pages, whatever the code does. Each check is an exported function, and All lists them by name.
//
// A check that can't fail is worth nothing. So each has a test with histories made by hand: one that keeps the promise, and one for each way
// to break it. And each excuse is counted: Report.Excused says how many rows or other subjects a check let pass, and for which reason.
//
// The files, in reading order:
//
//   - oracle.go: All, Judge, and the report with breaches and excuses.
//   - life.go: Life, the history with the indexes that checks share.
//   - troubles.go: which faults and changes concern a row, and when stores lost data.
//   - outcomes.go: every row has one outcome; an answer that says that nothing ran is true.
//   - waits.go: how long rows may wait for one another, and which late answers are none of the cluster's fault.
//   - effects.go: done rows have their effects; effects happen once.
//   - order.go: rows of one key run and take effect in order.
//   - revisions.go: a batch runs on one revision, whose documents belong together.
//   - model.go: how a row of a form may end.
//   - rowbyrow.go: answers and outputs are those that the model allows.
//   - codes.go: the codes of docs/outcomes.md; errors have one of them, and say what to do.
//   - secrets.go: no secret and no row in any text; no panic.
//   - memory.go: budgets are kept.
//   - rest.go: after calm, windows are full again, sessions are up, and nothing is left.
//   - definitions.go: after calm, flows run with the documents of etcd, and statuses are true.
//   - independence.go: a fault stops nobody who does not depend on it.
package oracle
