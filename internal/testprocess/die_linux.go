package testprocess

import (
	"os/exec"
	"syscall"
)

// dieWithTest has the system kill a process when the test's process ends, however that ends.
func dieWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
