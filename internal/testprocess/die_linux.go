package testprocess

import (
	"os/exec"
	"syscall"
)

// dieWithTest has the system kill the process that cmd starts when the test's process ends, for whatever
// reason.
func dieWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
