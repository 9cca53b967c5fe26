//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// leastFiles is how many files a whole cluster in one process has open, with room for some clients. etcd alone wants 150 for itself.
const leastFiles = 256

// enoughFiles returns an error if the process may open too few files for a whole cluster.
func enoughFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= leastFiles {
		return nil //nolint:nilerr // without the limit, the cluster is tried
	}
	return fmt.Errorf("this process may open %d files at a time, and a cluster in one process needs %d: raise the limit, such as with ulimit -n 1024", limit.Cur, leastFiles)
}
