// Package cli tests the command line as people use it: the built program in a shell, at a small cluster. The files in testdata have commands with
// the output that they must have; the examples of each verb's --help are run as they stand there.
package cli
