// Package flowcmd has the verbs that run and check flows in the process of the command line, without a cluster: run, lint and test. A
// worker's program has them for its Go functions, and kisgrid for flows whose functions are all made of their documents.
//
// The files, in reading order:
//
//   - run.go: the verb run, which runs a file of rows through a flow.
//   - rowtypes.go: the types of the rows of a file in CSV.
//   - lint.go: the verb lint, which checks a folder of documents against the functions of a worker's program.
//   - test.go: the verb test, which runs test files.
//   - without_go.go: what a program without Go functions says of flows that need some.
//   - printing.go: mistakes and notices as text, and the errors with which a command ends.
package flowcmd
