// Package testprocess is the test kit for processes: it runs programs beside a test, and disturbs the connections between them.
// Programs are those of this module, built once per test binary, and servers that are installed on the machine (redis-server, etcd).
// A program's output is kept in files. No process outlives its test. Only tests import this package.
//
// The files, in reading order:
//
//   - servers.go: Redis, Redis Sentinel and etcd as processes, and free addresses for them.
//   - process.go: Process, a program that runs: its output, its end, its memory.
//   - line.go: Line, a relay of TCP connections that a test can cut or stall.
//   - die_linux.go: on Linux, a process is killed when its test is.
//   - die_other.go: on other systems nothing does that.
package testprocess
