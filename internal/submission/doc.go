// Package submission implements the part that `kisgrid submit` and the `run` command of worker programs share: it reads a file with one
// JSON object in each line, sends the rows in batches, and prints how the rows ended.
//
// The package does not know where the rows run. The caller passes a function that opens a [Stream]: to a cluster, or to a flow in
// this process.
//
// The files, in reading order:
//
//   - submitter.go: flags, and three goroutines that read lines, send batches and wait for answers.
//   - summary.go: counts of outcomes, and how they are printed.
package submission
