package main

import (
	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/flowcmd"
)

// testCommand makes the command kisgrid test, which runs the tests of flows that need no Go functions. The program of a worker has the same
// command for its functions.
func testCommand() *cobra.Command { return flowcmd.Test(nil) }

// runCommand makes the command kisgrid run, which runs rows through a flow that needs no Go functions, in this process.
func runCommand() *cobra.Command { return flowcmd.Run(nil) }
