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

// Patience is the longest that this package waits for anything. It is long enough for a slow machine, and short enough for a test to
// fail before the test binary's own timeout.
const Patience = 3 * time.Minute

// bin is the folder of the programs that Main built. Main sets it before tests run; empty means that Main built none.
var bin string

// Main builds the programs of the packages, given as patterns of the go command such as "../cmd/...", and runs the tests of m. Start
// finds the programs by their names. Main returns the exit code for os.Exit; call it from TestMain.
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

// Bin returns the folder of the programs that Main built, for shells that find programs by their names.
func Bin() string { return bin }

// Config says how a program runs. The zero value is usable.
type Config struct {
	// Name tells the process from others, in failures and file names. Default: the program's name.
	Name string
	// Dir is the working directory. Default: the working directory of the test.
	Dir string
	// Env is added to the test's environment, as NAME=value.
	Env []string
	// Stdin is all that the program can read from its standard input.
	Stdin string
	// Logs is the folder for the files Name.out (standard output) and Name.log (standard error). Default: a temporary folder; then
	// the last 60 lines of both files are shown when the test fails.
	Logs string
}

// Process is a program that runs or has ended. Its methods may be called from several goroutines, but Await from one at a time.
type Process struct {
	tb       testing.TB
	name     string
	cmd      *exec.Cmd
	out, log *os.File      // standard output and standard error
	news     chan struct{} // capacity 1; holds a token when the process has written since Await last looked
	exited   chan struct{} // closed when the process has ended
}

// Start starts a program and does not wait for it. The program is one that Main built, one that is installed, or the path of a file.
// The process is killed when the test ends. A program that can't be started fails the test.
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
	p.cmd.WaitDelay = time.Second // a child that lives on may hold the output open
	dieWithTest(p.cmd)
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit code is in ProcessState
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

// create opens a file for appending, and makes it if need be.
func create(tb testing.TB, path string) *os.File {
	tb.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

// exists reports whether there is a file at the path.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tail is the last 60 lines of a text.
func tail(text string) string {
	const lines = 60
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// output writes to a file, and leaves a token in news after each write. It hides the file's other methods: exec would use them to
// copy, and so pass by Write.
type output struct {
	file *os.File
	news chan<- struct{}
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	select {
	case o.news <- struct{}{}:
	default:
	}
	return n, err
}

// Run runs a program to its end. It returns the exit code, and the text on standard output (out) and on standard error (log).
func Run(tb testing.TB, c Config, program string, args ...string) (code int, out, log string) {
	tb.Helper()
	if c.Logs == "" {
		c.Logs = tb.TempDir() // so that Start shows nothing: the caller gets the output
	}
	p := Start(tb, c, program, args...)
	code = p.Wait()
	return code, p.Out(), p.Log()
}

// MustRun is Run for a program that must end with 0; another exit code fails the test. It returns the standard output.
func MustRun(tb testing.TB, c Config, program string, args ...string) (out string) {
	tb.Helper()
	code, out, log := Run(tb, c, program, args...)
	if code != 0 {
		tb.Fatalf("%s %s ended with %d:\n%s%s", program, strings.Join(args, " "), code, out, log)
	}
	return out
}

// Name is the name that Config gave the process.
func (p *Process) Name() string { return p.name }

// Out is everything that the process has written to standard output so far.
func (p *Process) Out() string { return p.read(p.out) }

// Log is everything that the process has written to standard error so far.
func (p *Process) Log() string { return p.read(p.log) }

// read is the text of one of the process's files; an error fails the test.
func (p *Process) read(file *os.File) string {
	text, err := os.ReadFile(file.Name())
	if err != nil {
		p.tb.Error(err)
	}
	return string(text)
}

// Await waits until the standard error or the standard output of the process matches a regular expression. It returns the match, and
// the matches of its groups. Earlier output counts too. A process that ends without a match fails the test.
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

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait waits until the process has ended, and returns its exit code; -1 means that a signal ended it.
func (p *Process) Wait() int {
	p.tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		p.tb.Fatalf("%s did not end within %s", p.name, Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the process. A process that has ended gets none.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the process at once, as kill -9 does, and waits until it has ended. It is safe to call twice.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Stop sends SIGTERM and waits for the end. An exit code other than 0 fails the test.
func (p *Process) Stop() {
	p.tb.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		p.tb.Fatalf("%s ended with %d after SIGTERM", p.name, code)
	}
}

// ID is the process id.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Resident is the memory that the process has now, in bytes. It is 0 once the process has ended, or where there is no /proc.
func (p *Process) Resident() int64 { return p.memory("VmRSS:") }

// Peak is the most memory that the process has had at a time, in bytes, since its start or since ForgetPeak. It fails the test where
// the system does not tell.
func (p *Process) Peak() int64 {
	p.tb.Helper()
	bytes := p.memory("VmHWM:")
	if bytes == 0 {
		p.tb.Fatalf("/proc does not tell how much memory %s had at its peak", p.name)
	}
	return bytes
}

// ForgetPeak makes the system measure the peak of the process's memory anew, from now on.
func (p *Process) ForgetPeak() {
	p.tb.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.ID()), []byte("5"), 0); err != nil {
		p.tb.Fatal(err)
	}
}

// memory reads a size, in bytes, from the line of /proc/<id>/status that begins with name, such as "VmRSS:". 0 means that the line
// is not there.
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

// Until calls question every 20 ms until it returns nil. It is for states that give no signal, such as the state of another process;
// what names the state in the failure. After Patience it fails the test with the latest error.
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
