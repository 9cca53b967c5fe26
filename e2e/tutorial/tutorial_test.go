//go:build unix

// Package tutorial runs docs/tutorial.md as a reader does, block by block, in shells of its own, and compares what is printed with
// what stands there.
package tutorial

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// patience bounds each block, on a machine that is busy with other things too. Most take less than a second.
const patience = 4 * time.Minute

func TestTutorial(t *testing.T) {
	for _, program := range []string{"bash", "etcdctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	text, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(t)
	for _, s := range steps {
		if s.file != "" {
			r.write(s)
			continue
		}
		r.follow(s)
	}
}

// step is one thing that the tutorial tells its reader to do.
type step struct {
	line int // of the document
	text string
	file string // the text goes into this file; empty: it goes into a shell

	terminal string   // the shell; empty for the first one, in others a program goes on until the end
	fails    bool     // its last command does
	again    bool     // it is repeated until it prints what it should
	prints   []string // lines; nil: nobody cares
}

var (
	fence    = regexp.MustCompile("^```([a-z]*)(.*)$")
	fileName = regexp.MustCompile("`([^`]+)`:$")
)

// parse reads the blocks of a document.
func parse(document string) (steps []step, err error) {
	lines := strings.Split(document, "\n")
	before := "" // the last line of text
	for i := 0; i < len(lines); i++ {
		opening := fence.FindStringSubmatch(lines[i])
		if opening == nil {
			if strings.TrimSpace(lines[i]) != "" {
				before = strings.TrimSpace(lines[i])
			}
			continue
		}
		s := step{line: i + 1}
		var block []string
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			block = append(block, lines[i])
		}
		s.text = strings.Join(block, "\n") + "\n"
		switch opening[1] {
		case "sh":
			for flag := range strings.FieldsSeq(opening[2]) {
				switch name, value, _ := strings.Cut(flag, "="); name {
				case "terminal":
					s.terminal = value
				case "fails":
					s.fails = true
				case "again":
					s.again = true
				default:
					return nil, fmt.Errorf("line %d: a block is %q: it may be terminal=NAME, fails or again", s.line, flag)
				}
			}
			steps = append(steps, s)
		case "text":
			if len(steps) == 0 || steps[len(steps)-1].file != "" || steps[len(steps)-1].prints != nil {
				return nil, fmt.Errorf("line %d: nothing that was run can print this", s.line)
			}
			steps[len(steps)-1].prints = block
		case "go", "yaml":
			name := fileName.FindStringSubmatch(before)
			if name == nil {
				return nil, fmt.Errorf("line %d: say before it into which file it goes, in a line that ends with its name and a colon, such as This is `conf/flows.yml`: and nothing more", s.line)
			}
			s.file = name[1]
			steps = append(steps, s)
		default:
			return nil, fmt.Errorf("line %d: a block of %q: write sh, text, go or yaml", s.line, opening[1])
		}
	}
	return steps, nil
}

// pattern is what lines that are printed must look like: … stands for anything in a line, or for lines if it is alone. Blanks are
// alike, and empty lines count for nothing, on both sides.
func pattern(lines []string, whole bool) *regexp.Regexp {
	var out strings.Builder
	for _, line := range lines {
		switch line = blank(line); line {
		case "":
		case "…":
			out.WriteString(`(?:.*\n)*?`)
		default:
			out.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`)
		}
	}
	if whole {
		return regexp.MustCompile(`\A` + out.String() + `\z`)
	}
	return regexp.MustCompile(`(?m)^` + out.String())
}

func blank(line string) string { return strings.Join(strings.Fields(line), " ") }

// squeeze is a text as pattern compares it.
func squeeze(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line = blank(line); line != "" {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// reader follows the tutorial. The addresses that it names are others here, since several tests run on one machine.
type reader struct {
	t         *testing.T
	addresses *strings.Replacer
	env       []string
	cluster   []string // more of it, for the terminal of that name
	terminals map[string]*terminal
	scripts   string // a folder
	n         int
}

func newReader(t *testing.T) *reader {
	t.Helper()
	etcd, redis, coordinator, http := testprocess.Address(t), testprocess.Address(t), testprocess.Address(t), testprocess.Address(t)
	testprocess.StartRedis(t, redis, func() (io.Closer, error) { return devcluster.StartRedis(devcluster.RedisConfig{Address: redis}) })
	bin := t.TempDir()
	return &reader{
		t:         t,
		addresses: strings.NewReplacer("127.0.0.1:2379", etcd, "127.0.0.1:6379", redis, "127.0.0.1:7700", coordinator, "127.0.0.1:7702", http),
		env: append(os.Environ(), "GOBIN="+bin, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "TMPDIR="+t.TempDir(), "GOFLAGS=",
			"KISGRID_SERVER="+coordinator, "KISGRID_ETCD="+etcd, "REDIS_ADDR="+redis, "ETCDCTL_ENDPOINTS="+etcd, "ETCDCTL_API=3"),
		cluster:   []string{"KISGRID_LISTEN=" + coordinator, "KISGRID_HTTP=" + http, "KISGRID_ETCD_LISTEN=" + etcd, "KISGRID_REDIS=" + redis},
		terminals: map[string]*terminal{}, scripts: t.TempDir(),
	}
}

// folder is where the first terminal is, in which the others are opened.
func (r *reader) folder() string {
	first := r.terminal("")
	out, _ := r.enter(first, "pwd\n", true)
	return strings.TrimSpace(out)
}

func (r *reader) terminal(name string) *terminal {
	r.t.Helper()
	if known := r.terminals[name]; known != nil {
		return known
	}
	dir, env := "../..", r.env
	if name != "" {
		dir = r.folder()
	}
	if name == "cluster" {
		env = slices.Concat(env, r.cluster)
	}
	r.terminals[name] = open(r.t, name, dir, env)
	return r.terminals[name]
}

func (r *reader) write(s step) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.folder(), s.file), []byte(s.text), 0o600); err != nil {
		r.t.Fatalf("line %d: %v", s.line, err)
	}
}

// follow runs a block, and compares.
func (r *reader) follow(s step) {
	r.t.Helper()
	if s.terminal != "" {
		t := r.terminal(s.terminal)
		r.enter(t, s.text, false)
		want := pattern(strings.Split(r.addresses.Replace(strings.Join(s.prints, "\n")), "\n"), false)
		t.await(s.line, func(text string) bool { return want.MatchString(squeeze(text)) })
		return
	}
	var want *regexp.Regexp
	if s.prints != nil {
		want = pattern(strings.Split(r.addresses.Replace(strings.Join(s.prints, "\n")), "\n"), true)
	}
	for began := time.Now(); ; {
		out, code := r.enter(r.terminal(""), s.text, true)
		if (code != 0) == s.fails && (want == nil || want.MatchString(squeeze(out))) {
			return
		}
		if !s.again || time.Since(began) > patience {
			r.t.Fatalf("line %d: it ended with %d, and printed\n%s\nwant\n%s", s.line, code, out, strings.Join(s.prints, "\n"))
		}
	}
}

// enter has a shell run a text. Where it is to end, enter returns what it printed, and the exit code of its last command.
func (r *reader) enter(t *terminal, text string, ends bool) (out string, code int) {
	r.t.Helper()
	r.n++
	script := filepath.Join(r.scripts, fmt.Sprintf("%d.sh", r.n))
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	from := len(t.read())
	end := fmt.Sprintf("\nend of %d with ", r.n)
	if _, err := fmt.Fprintf(t.in, ". '%s' </dev/null; printf '\\nend of %d with %%d\\n' $?\n", script, r.n); err != nil {
		r.t.Fatal(err)
	}
	if !ends {
		return "", 0
	}
	t.await(0, func(all string) bool {
		var rest string
		var ok bool
		out, rest, ok = strings.Cut(all[from:], end)
		if !ok || !strings.Contains(rest, "\n") {
			return false
		}
		_, err := fmt.Sscan(rest, &code)
		return err == nil
	})
	return out, code
}

// terminal is a shell.
type terminal struct {
	t    *testing.T
	name string
	in   io.Writer
	news chan struct{} // has room for one: something was printed
	done chan struct{} // closed when the shell has ended

	mu   sync.Mutex
	text []byte // all that was printed; guarded by mu
}

// open opens a shell. With the test it ends, and with it all that it started.
func open(t *testing.T, name, dir string, env []string) *terminal {
	t.Helper()
	w := &terminal{t: t, name: name, news: make(chan struct{}, 1), done: make(chan struct{})}
	shell := exec.Command("bash", "--noprofile", "--norc", "-s")
	shell.Dir, shell.Env, shell.Stdout, shell.Stderr = dir, env, w, w
	shell.WaitDelay = time.Second                           // for children that hold its output
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children are in its group
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.in = in
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(w.done); _ = shell.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
		<-w.done
		if t.Failed() {
			t.Logf("terminal %q:\n%s", w.name, w.read())
		}
	})
	return w
}

// Write takes what the shell and its programs print.
func (w *terminal) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.text = append(w.text, p...)
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (w *terminal) read() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// await waits until what was printed is as it should be.
func (w *terminal) await(line int, enough func(text string) bool) {
	w.t.Helper()
	late := time.After(patience)
	for !enough(w.read()) {
		select {
		case <-w.news:
		case <-w.done:
			if !enough(w.read()) {
				w.t.Fatalf("line %d: the shell has ended", line)
			}
		case <-late:
			w.t.Fatalf("line %d: it has not printed what it should after %s", line, patience)
		}
	}
}

// What is printed is compared line by line, and nothing else passes.
func TestPattern(t *testing.T) {
	for _, c := range []struct {
		want, got string
		alike     bool
	}{
		{"a  b", "a b\n", true},
		{"a b", "a b\n\nc\n", false},
		{"a b\n…", "a   b\nc\nd\n", true},
		{"…\nd", "a\nd\n", true},
		{"…\nd", "a\nde\n", false},
		{"in … s: 1 done", "in 0.1 s: 1 done\n", true},
		{"in … s: 1 done", "in 0.1 s: 0 done\n", false},
		{"(x)", "x\n", false},
	} {
		if got := pattern(strings.Split(c.want, "\n"), true).MatchString(squeeze(c.got)); got != c.alike {
			t.Errorf("%q is like %q: %v", c.got, c.want, got)
		}
	}
	for _, bad := range []string{"```sh twice\nls\n```", "```text\nx\n```", "Some `file`\n\n```go\nx\n```", "```python\n```"} {
		if steps, err := parse(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, steps)
		}
	}
}
