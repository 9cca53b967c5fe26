package drive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Children starts processes that live through one scenario each.
type Children struct {
	// Test is the name of the test that calls Life.
	Test string
	// Patience is how much processor time a life may take, and how long it may take next to none; 0 means five minutes.
	Patience time.Duration
	// Lines asks for Outcome.Lines.
	Lines bool
}

// memoryLimit is how much memory a child takes before it collects garbage. Until then it does not, because a collection makes goroutines
// run in another order.
const memoryLimit = "1500MiB"

// Live runs one scenario in a process of its own, and returns when that has ended. The error is about starting the process only; a life
// that ends badly has breaches. When ctx ends, the process is killed, and the error is the context's.
func (c Children) Live(ctx context.Context, s *scenario.Scenario) (*Outcome, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Its files have the same names in every life, so that the names do not make two lives of a scenario differ.
	folder, err := os.MkdirTemp("", "kisgrid-life-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // the next cleanup of the system's temporary files gets it
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close() //nolint:errcheck // only read from
	cmd := exec.CommandContext(ctx, program, "-test.run=^"+c.Test+"$", "-test.timeout=0", "-test.count=1")
	mode := "1"
	if c.Lines {
		mode = "lines"
	}
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "TMPDIR=.", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1",
		childVariable+"="+mode, randomVariable+"="+strconv.FormatUint(s.Seed, 10))
	if !bubble.Race { // the race detector takes many times as much memory as the program
		cmd.Env = append(cmd.Env, "GOGC=off", "GOMEMLIMIT="+memoryLimit)
	}
	cmd.Stdin = strings.NewReader(s.String())
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.ExtraFiles = []*os.File{write}
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	if err := write.Close(); err != nil {
		return nil, err
	}
	patience := c.Patience
	if patience == 0 {
		patience = 5 * time.Minute
	}
	dog := watch(cmd.Process, patience)
	report, readErr := io.ReadAll(read)
	waitErr := cmd.Wait()
	hung := dog.ended()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	outcome := &Outcome{}
	if readErr == nil {
		readErr = json.Unmarshal(report, outcome)
	}
	if waitErr != nil || readErr != nil {
		outcome.Breaches = append(outcome.Breaches, ending(output.String(), hung, errors.Join(waitErr, readErr)))
	}
	outcome.Real = time.Since(began)
	return outcome, nil
}

// ending returns the breach of a process that ended with an error, from its output.
func ending(output string, hung bool, err error) Breach {
	b := Breach{Oracle: Failed, Text: err.Error(), Story: output}
	at := func(marks ...string) string { // the line with a mark, from the mark on
		for _, mark := range marks {
			if i := strings.Index(output, mark); i >= 0 {
				b.Story = output[i:]
				line, _, _ := strings.Cut(output[i:], "\n")
				return line
			}
		}
		return ""
	}
	if hung {
		at("SIGQUIT")
		b.Oracle, b.Text = Hang, "the life did not end in time; these are the stacks of its goroutines"
	} else if line := at("panic: deadlock:", "fatal error: all goroutines are asleep"); line != "" {
		b.Oracle, b.Text = Deadlock, line
	} else if line := at("WARNING: DATA RACE"); line != "" {
		b.Oracle, b.Text = DataRace, line
	} else if line := at("panic: ", "fatal error: ", "unexpected fault address"); line != "" {
		b.Oracle, b.Text = Panic, line
	} else if line := at("--- FAIL"); line != "" {
		lines := strings.SplitN(b.Story, "\n", 3)
		if len(lines) > 1 {
			line = strings.TrimSpace(lines[1])
		}
		b.Text = line
	}
	b.Subject = withoutNumbers(b.Text)
	if lines := strings.SplitAfter(b.Story, "\n"); len(lines) > mostLines {
		b.Story = strings.Join(lines[:mostLines], "") + fmt.Sprintf("… and %d lines more\n", len(lines)-mostLines)
	}
	return b
}

// mostLines bounds how many lines of a child's output are shown.
const mostLines = 200

// number is a part of a message that differs from one process to the next.
var number = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+`)

// withoutNumbers returns a message without addresses and other numbers, cut to a line, so that messages of two processes can be compared.
func withoutNumbers(message string) string {
	message = number.ReplaceAllString(message, "#")
	if len(message) > 200 {
		message = message[:200]
	}
	return message
}

// tail keeps the first and the last part of a child's output. It may be written to by several goroutines.
type tail struct {
	mu          sync.Mutex
	first, last bytes.Buffer
}

// tailSize is the size of each of the two parts, in bytes.
const tailSize = 128 << 10

// Write keeps the first bytes of the output and the last ones, and forgets bytes between them.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if room := tailSize - t.first.Len(); room > 0 {
		part := p[:min(room, len(p))]
		t.first.Write(part)
		p = p[len(part):]
	}
	t.last.Write(p)
	if t.last.Len() > 2*tailSize {
		t.last.Next(t.last.Len() - tailSize)
	}
	return n, nil
}

// String returns the output.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first.String() + t.last.String()
}
