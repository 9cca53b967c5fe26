// Package command has the parts of a command line that KisGrid's programs share: flags that fall back to environment variables, logging,
// the way a program stops, and settings of the Go runtime.
//
// The files, in reading order:
//
//   - command.go: flags from the environment, the log, and running a service until a signal ends it.
//   - etcd.go: flags for etcd.
//   - deadletters.go: flags for the store of dead letters.
//   - access.go: flags for the environment variables and files that documents may read.
//   - tracing.go: the flag for spans, and sending them to a collector.
//   - refuse.go: flags whose values can't work.
//   - others_log.go: the logs of libraries, and the last line of a program that fails.
//   - interrupt.go: a context that ends at Ctrl-C.
//   - exit.go: exit codes, and mistakes in the command line.
//   - build.go: the version and commit of a build.
//   - heap.go: when the garbage collector runs.
//   - cgroup.go: the memory limit of a container.
package command
