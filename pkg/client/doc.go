// Package client is what programs import that feed rows to flows: it submits batches to the coordinators of a cluster and
// says how each row ended.
//
// [Client.Submit] sends one batch and waits for it. [Client.Stream] sends any number of batches of one flow, in order, as
// fast as the cluster takes them: Send blocks while the window is full, and each batch's [Pending] has its answer.
//
// # What is promised
//
// Every row of an answered batch has exactly one outcome. [Result.NotDone] lists the rows that are not done: filtered,
// aborted, dead (the row's own fault) or failed (the cluster's fault). Outcomes are data, not errors; an error of Submit,
// Send or Wait is about the batch as a whole, and [batch.CodeOf] tells its code.
//
// A batch gets its id when it is first sent and keeps it. Its rows run at least once: a worker that dies, or a batch that is
// sent again, makes them run again. What they save through connectors takes effect once all the same, as far as the store
// keeps what it acknowledged; what a function does outside of connectors happens again, unless it uses the row's id as a key.
// A batch that is sent again an hour after its first sending (the connector's once_window) saves nothing more: its rows come
// back failed.
//
// An error that matches [ErrUnanswered] means that the batch may have run in part or in full: in this call, or in an earlier one,
// of this client or of another. Submitting the same Batch again is the way to find out, and safe; the same rows in another Batch
// would take effect twice. An error that does not match it means that nothing of the batch ever ran.
//
// A deadline is a moment. [Timeout] counts from Submit or Send, and a batch that could not be sent by then, or must be sent again, is
// not: it ends with CodeDeadline.
//
// Batches of one stream are sent in the order of Send, and stay in it when the connection breaks and another coordinator
// goes on. Rows with the same shard key are executed in that order. Three things step out of it: rows that came back
// failed, a batch that was refused, and a batch that was unanswered and is sent again after others. Calls of Submit that
// run at the same time have no order among each other.
//
// What is not promised: that an answer comes at all while no coordinator can be reached. Submit and the batches of a stream
// give up after [WithRetryFor], and the stream itself goes on as soon as a coordinator is there.
//
// # What is retried
//
// Submit repeats a call that was refused for now (its code is Retryable) and one whose connection broke, with the same
// batch id, with growing random delays, not before the coordinator's own RetryAfter. A stream opens again and sends again
// what is unanswered. A batch refused within a stream is not repeated, as later batches have overtaken it by then: its
// Pending has the error, and the program decides.
//
// A batch that failed or is unanswered is remembered by the client, for [WithResubmitWithin]. A program that will not send it
// again says so with [Client.GiveUp].
package client
