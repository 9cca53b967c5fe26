// Package scheduler decides which worker runs which row of which batch, and when.
//
// The package is pure: the same events at the same times give the same actions. It has no clock, goroutine, connection, logger or
// source of random numbers. One goroutine of the coordinator owns the Scheduler, passes each event to Scheduler.Step, and carries out
// the actions that Step returns.
//
// A batch goes this way:
//
//	Submitted ──▶ inbox of the flow ──▶ queue of a worker flow ──▶ part at a worker ──▶ Answered ──▶ action Answer
//	              (only while other      (one flow on one worker;   (action Send)                      to the batch's owner
//	              rows go first)         rows wait for credit)
//
// Step by step:
//
//  1. Submitted brings a batch in. Rows with a shard key are divided by slot (a hash bucket of the key) over the workers that own
//     these slots. A batch without keys goes whole to one worker.
//  2. The rows wait in queues until the worker has granted credit: leave to send it so many more rows and bytes.
//  3. The action Send hands a part, which is rows of one batch, to the worker.
//  4. Answered reports how rows of a part ended. Each row's outcome counts once, in the ledger of the flow.
//
// Rows of one key that came through one stream are first executed in the order in which they were submitted. Slots change
// their owner when workers become ready, drain or die. A hand-over keeps the order meanwhile: newer rows of a slot that moves
// are held until its old owner has no rows of the slot any more.
//
// An event that concerns many rows, such as a worker's death, does not make one Step long. Step notes the work that follows, does
// some of it, and leaves the rest to further Steps: see work.go and Scheduler.Behind.
//
// The files, in reading order:
//
//   - scheduler.go: Scheduler, its configuration, and Step.
//   - event.go: the events that Step takes, and the actions that it returns.
//   - work.go: the work that Step does in slices, and its order.
//   - submit.go: a batch comes in.
//   - answer.go: a worker answers rows of a part.
//   - deadline.go: rows fail without a worker: deadlines, cancelled batches, no worker in time.
//   - membership.go: workers connect, become ready, drain and die; slots change their owners.
//   - resend.go: a session resumes, and parts that were lost on the way are sent again.
//   - credit.go: workers grant credit.
//   - retire.go: a flow that nobody uses is forgotten.
//   - find.go: the rows of one key are looked for.
//   - explain.go: where a row of a key would go, and why.
//   - handover.go: slots move from one living worker to another.
//   - inbox.go: rows that have to be routed, from several sources, in order.
//   - route.go: rows with keys are divided over the queues of the slots' owners.
//   - whole.go: batches without keys wait for a worker, and go whole.
//   - send.go: queued rows become parts, as far as credit goes.
//   - skew.go: one key gets only a share of a worker's credit.
//   - sweep.go: queues lose the rows of batches that are over.
//   - poison.go: which rows a worker's death counts against.
//   - held.go: slots that are held, and the rows that wait for them.
//   - counts.go: how many rows of each slot are with workers.
//   - workerflow.go: one flow on one worker.
//   - part.go: parts, and the parts that a worker was sent.
//   - batch.go: batches and ledgers.
//   - flow.go: flows and workers.
//   - table.go: which worker owns which slot.
//   - queue.go: segments of batches, and queues of them.
//   - turn.go: the clock, budget and actions of one Step, and the flows that have work.
//   - points.go: the points, which count how often rare branches were reached.
//
// The package is exported for the project's own programs and changes with them: see docs/stability.md.
package scheduler
