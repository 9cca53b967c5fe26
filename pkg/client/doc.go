// Package client is the Go client of KisGrid: programs import it to submit batches of rows to flows, and to learn how each row ended.
// docs/sdk.md shows it with programs that run.
//
// [Client.Submit] sends one batch and waits for its result. A [Stream] sends any number of batches to one flow, in order, as fast as
// the cluster takes them: Send blocks while the window is full, and returns a [Pending] for each batch, which gets the batch's result.
//
// # Promises
//
// Every row of an answered batch has exactly one outcome. [Result.NotDone] lists the rows that are not done: filtered, aborted, dead
// (the row's own fault) or failed (the cluster's fault). Outcomes are data, not errors. An error of Submit, Send or Wait is about the
// batch as a whole, and [batch.CodeOf] returns its code.
//
// A batch gets its id when it is first sent and keeps it. Its rows run at least once: they run again when a worker dies, and when the
// batch is sent again. The changes that they save through connectors take effect once all the same, as far as the store keeps
// what it acknowledged. The other effects of a function happen again, unless the function uses the row's id as a key.
// A batch that is sent again an hour after it was first sent (the connector's once_window) saves nothing more: its rows come back
// failed.
//
// An error that matches [ErrUnanswered] means that the batch may have run in part or in full: in this call, or in an earlier one, of
// this client or of another. Submit the same Batch again to find out: that is safe. The same rows in another Batch would take effect
// twice. An error that does not match it means that no row of the batch ever ran.
//
// [Timeout] sets a deadline, counted from Submit or Send. A batch that could not be sent before its deadline, or must be sent again
// after it, is not sent: it ends with CodeDeadline.
//
// Batches of one stream are sent in the order of Send. They stay in that order when the connection breaks and another coordinator
// takes the stream. Rows with the same shard key are executed in that order. There are three exceptions: rows that came back
// failed, a batch that was refused, and an unanswered batch that is sent again after later ones. Calls of Submit that run at the same
// time have no order among each other.
//
// Not promised is an answer while no coordinator can be reached. Submit and the batches of a stream then end with an error
// after [WithRetryFor]. The stream itself goes on as soon as a coordinator can be reached.
//
// # Retries
//
// Submit repeats a call that was refused for now (its code is Retryable) and a call whose connection broke. It keeps the batch id, and
// waits for growing random delays, at least for the RetryAfter that the coordinator asked for. A stream whose connection broke opens
// again and sends its unanswered batches again. A batch that was refused within a stream is not repeated, because later batches
// have overtaken it by then: its Pending gets the error, and the program decides.
//
// The client remembers a batch that failed or is unanswered for the time of [WithResubmitWithin]. A program that will not send the
// batch again calls [Client.GiveUp].
//
// # Files
//
// In reading order, from the call to the connection and back:
//
//   - client.go: Dial, Close and GiveUp; the fields that all calls and streams of a client share.
//   - options.go: options of Dial, and of a batch.
//   - rows.go: names from package batch; how a batch is made and an output decoded.
//   - term.go: rows that stand in a log: terms of its readers, and positions.
//   - submit.go: Submit, its tries, and the errors of a call.
//   - flowcalls.go: the fields that the calls of Submit to one flow share.
//   - callprogress.go: how far a call got: whether its request left, and whether a coordinator ran nothing of it.
//   - stream.go: Stream with its states; Send, Flush and Close.
//   - window.go: how Send waits for room in the window.
//   - session.go: sessions, one connection of a stream each, and how the next one begins.
//   - send.go: the sending half of a session.
//   - receive.go: the receiving half of a session.
//   - move.go: how a stream moves to another coordinator.
//   - open.go: how a coordinator is asked to take a stream.
//   - deadline.go: batches whose Timeout is over before they are sent.
//   - settle.go: how a batch of a stream ends.
//   - pending.go: Pending, one batch with its result.
//   - producer.go: sequences of batches: which of them may be submitted again.
//   - trace.go: spans of batches, for package oteltrace.
//   - retries.go: pauses between tries.
//   - size.go: rows and bytes of batches, as windows count them.
//   - signal.go: how one goroutine of a stream wakes another.
//   - errors.go: errors that several files return.
//   - points.go: the points, which count how often rare branches were reached.
package client
