// Package figures adds up the cluster: how many rows flows take and end, what functions do, which rows wait. Every coordinator keeps a Book
// of all coordinators and workers, with an hour of history, and answers everybody who asks from there: workers and other coordinators send
// their counts about once a second or two, however many people look.
//
//	workers ───── heartbeats with totals of functions ─────┐
//	                                                       v
//	scheduler ─── own ledger of rows, once a second ───> Book ───> calls Figures and Get of Admin
//	                                                       ^
//	other coordinators ── ShareFigures, every 2 s ─────────┘
//
// All counts that travel are totals, since the process that counts has started. The Book adds up by how much they grow. So it does not
// matter whether a message is lost, comes twice, or comes late, and totals never go back: those of processes that have ended stay in the
// sum. A total that comes for the first time, or for the first time after a connection broke, has grown at times that nobody knows: it
// counts in totals and not in rates, so that a restart shows no burst.
//
// Its files, in reading order:
//
//   - gather.go: Gatherer, which brings the rows of this coordinator and of the others into the Book.
//   - book.go: Book and its flows; the rows that coordinators have counted.
//   - share.go: the counts that other coordinators are told, and those of coordinators that have ended.
//   - workers.go: the counts of workers.
//   - step.go: recent steps, from which rates come, and rings of steps, which are the history.
//   - read.go: the answer to those who look.
package figures
