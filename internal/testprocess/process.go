// Package testprocess runs programs beside a test: those of this module, built once per test binary, and servers that are installed.
// What they write is kept in files. None outlives its test.
package testprocess

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait: long enough for a slow machine, short enough to fail.
const Patience = 3 * time.Minute

// bin is the folder of the built programs; Main sets it before tests run.
var bin string

// Main builds the programs of packages, which Start then finds by their names, and runs the tests. It returns the exit code.
func Main(m *testing.M, packages ...string) int {
	dir, err := os.MkdirTemp("", "kisgrid-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	return m.Run()
}

// Config says how a program runs. The zero value will do.
type Config struct {
	// Name tells the process from others. Default: the program's.
	Name string
	// Dir is the working directory. Default: the test's.
	Dir string
	// Env is added to the test's environment.
	Env []string
	// Stdin is all that it reads.
	Stdin string
	// Logs is the folder where Name.out and Name.log stay. Default: a temporary one; their ends are shown when the test failed.
	Logs string
}

// Process is a program that runs, or ran. Its methods may be called from several goroutines, but Await from one at a time.
type Process struct {
	tb       testing.TB
	name     string
	cmd      *exec.Cmd
	out, log *os.File
	news     chan struct{} // has room for one: something was written since it was last read
	exited   chan struct{}
}

// Start starts a program that Main built, that is installed, or whose path is given. It is killed when the test ends.
func Start(tb testing.TB, c Config, program string, args ...string) *Process {
	tb.Helper()
	if c.Name == "" {
		c.Name = filepath.Base(program)
	}
	logs := c.Logs
	if logs == "" {
		logs = tb.TempDir()
	}
	p := &Process{tb: tb, name: c.Name, news: make(chan struct{}, 1), exited: make(chan struct{})}
	p.out, p.log = create(tb, filepath.Join(logs, c.Name+".out")), create(tb, filepath.Join(logs, c.Name+".log"))
	if built := filepath.Join(bin, program); bin != "" && exists(built) {
		program = built
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	if c.Stdin != "" {
		p.cmd.Stdin = strings.NewReader(c.Stdin)
	}
	p.cmd.Stdout, p.cmd.Stderr = &output{p.out, p.news}, &output{p.log, p.news}
	p.cmd.WaitDelay = time.Second // for children that hold its output
	dieWithTest(p.cmd)
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // its state tells the exit code
		_, _ = p.out.Close(), p.log.Close()
	}()
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() && c.Logs == "" {
			tb.Logf("%s wrote:\n%s%s", p.cmd, tail(p.Out()), tail(p.Log()))
		}
	})
	return p
}

func create(tb testing.TB, path string) *os.File {
	tb.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func tail(text string) string {
	const lines = 60
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// output tells when its file is written to. It has no other method of the file's: copying would go by that one.
type output struct {
	file *os.File
	news chan<- struct{}
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	select {
	case o.news <- struct{}{}:
	default:
	}
	return n, err
}

// Run runs a program to its end, and returns its exit code and what it wrote to standard output and standard error.
func Run(tb testing.TB, c Config, program string, args ...string) (code int, out, log string) {
	tb.Helper()
	if c.Logs == "" {
		c.Logs = tb.TempDir() // the caller shows what matters
	}
	p := Start(tb, c, program, args...)
	code = p.Wait()
	return code, p.Out(), p.Log()
}

// Name is what Config calls it.
func (p *Process) Name() string { return p.name }

// Out is what it has written to standard output so far.
func (p *Process) Out() string { return p.read(p.out) }

// Log is what it has written to standard error so far.
func (p *Process) Log() string { return p.read(p.log) }

func (p *Process) read(file *os.File) string {
	text, err := os.ReadFile(file.Name())
	if err != nil {
		p.tb.Error(err)
	}
	return string(text)
}

// Await waits until the process has written, to standard error or standard output, what the pattern says, and returns the match.
func (p *Process) Await(pattern string) []string {
	p.tb.Helper()
	re := regexp.MustCompile(pattern)
	find := func() []string {
		if match := re.FindStringSubmatch(p.Log()); match != nil {
			return match
		}
		return re.FindStringSubmatch(p.Out())
	}
	deadline := time.After(Patience)
	for {
		if match := find(); match != nil {
			return match
		}
		select {
		case <-p.news:
		case <-p.exited:
			if match := find(); match != nil {
				return match
			}
			p.tb.Fatalf("%s ended with %d before it wrote %q", p.name, p.Wait(), pattern)
		case <-deadline:
			p.tb.Fatalf("%s did not write %q within %s", p.name, pattern, Patience)
		}
	}
}

// Exited is closed when it has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait waits for it to end, and returns its exit code, -1 after a signal.
func (p *Process) Wait() int {
	p.tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		p.tb.Fatalf("%s did not end within %s", p.name, Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal, if it has not ended yet.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends it without a word of warning, and waits until it has ended.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Stop asks it to end, and fails the test unless it does so cleanly.
func (p *Process) Stop() {
	p.tb.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		p.tb.Fatalf("%s ended with %d after SIGTERM", p.name, code)
	}
}

// ID is the system's number for it.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Resident is how many bytes of memory it has at the moment; 0 once it has ended, or where there is no /proc.
func (p *Process) Resident() int64 { return p.memory("VmRSS:") }

// Peak is the most memory, in bytes, that it had at a time, or had since ForgetPeak. It fails the test where the system does not
// tell.
func (p *Process) Peak() int64 {
	p.tb.Helper()
	bytes := p.memory("VmHWM:")
	if bytes == 0 {
		p.tb.Fatalf("nothing tells what memory %s took at its peak", p.name)
	}
	return bytes
}

// ForgetPeak lets the system measure the peak anew.
func (p *Process) ForgetPeak() {
	p.tb.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.ID()), []byte("5"), 0); err != nil {
		p.tb.Fatal(err)
	}
}

// memory is a size from the process's status; 0: it is not there.
func (p *Process) memory(name string) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.ID()))
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// Until asks a question until it is answered with nil. It is for what gives no signal: another process's state.
func Until(tb testing.TB, what string, question func() error) {
	tb.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := question()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %s: %v", what, Patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
