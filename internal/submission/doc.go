// Package submission is the part that `kisgrid submit` and the `run` command of worker programs share: it reads rows, sends them in batches,
// and tells how the rows ended.
//
// The package does not know where the rows run. The caller passes a function that opens a [Stream]: to a cluster, or to a flow in
// this process.
//
// Three goroutines pass the rows on. The first one reads rows into a feed, the second one takes batches out of the feed and sends them, the
// third one waits for the answers:
//
//	read ──rows──► feed ──chunks──► send ──sent batches──► gather
//
// When the caller's context ends, as at Ctrl-C, reading and sending stop, and gather waits for the answers of the batches under way, for the time
// of --grace at the most. The same happens when a batch ends with an error, and when too many rows can't be read.
//
// The files, in reading order:
//
//   - submitter.go: Submitter with its flags; Run.
//   - feed.go: packs rows into batches, and lets a batch go that has waited for --flush.
//   - pipeline.go: the three goroutines, and how they stop.
//   - lines.go: which lines are answered, unknown or not sent.
//   - reports.go: the files of --outcomes and --rejects.
//   - summary.go: counts of outcomes, and how they are printed.
//   - errors.go: errors with an exit code.
package submission
