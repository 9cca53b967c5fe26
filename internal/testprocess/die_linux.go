package testprocess

import (
	"os/exec"
	"syscall"
)

// dieWithTest has a test that is cut off leave nothing behind.
func dieWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
