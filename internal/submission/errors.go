package submission

import (
	"errors"
	"fmt"
)

// ErrNotDone is the error of Run if rows are dead or failed. Run has printed how many rows have each outcome, and the first rows that are
// not done.
var ErrNotDone = errors.New("not all rows are done")

// ErrInterrupted is the error of Run if the context ended before all rows were sent and answered. Run has printed which ones were.
var ErrInterrupted error = exitError{"interrupted", 130}

// exitError is an error with an exit code for the program, which package command reads.
type exitError struct {
	message string
	code    int
}

// Error returns the message.
func (e exitError) Error() string { return e.message }

// ExitCode returns the exit code with which a program ends that has this error.
func (e exitError) ExitCode() int { return e.code }

// usage makes the error of a flag that has a wrong value.
func usage(format string, args ...any) error { return exitError{fmt.Sprintf(format, args...), 2} }
