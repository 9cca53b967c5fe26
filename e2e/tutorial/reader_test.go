//go:build unix

package tutorial

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
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

// patience is the longest that a reader waits for one block of a page. Most blocks take less than a second, but the machine may be
// busy.
const patience = 4 * time.Minute

// reader follows one page. It replaces the addresses in the page by free ones, because several tests run on one machine.
type reader struct {
	t         *testing.T
	addresses *strings.Replacer // replaces the addresses in the page by those of this test
	env       []string
	special   map[string][]string // by the name of a terminal: more variables of its environment
	terminals map[string]*terminal
	scripts   string // a folder
	n         int

	overlay map[string]string // by the path of a source file: the path of the file that Go's commands take in its place
}

// newReader makes a reader whose first terminal is in the checkout. It starts a Redis at the default address, unless the page starts
// one itself. For a page that changes code, the go command reads the changed files from an overlay.
func newReader(t *testing.T, startsRedis, changesCode bool) *reader {
	t.Helper()
	etcd, peers, redis, coordinator, http := testprocess.Address(t), testprocess.Address(t), testprocess.Address(t), testprocess.Address(t), testprocess.Address(t)
	bin := t.TempDir()
	if startsRedis {
		redirectRedis(t, bin, redis)
	} else {
		testprocess.StartRedis(t, redis, func() (io.Closer, error) { return devcluster.StartRedis(devcluster.RedisConfig{Address: redis}) })
	}
	listening := []string{"KISGRID_LISTEN=" + coordinator, "KISGRID_HTTP=" + http}
	r := &reader{
		t: t,
		addresses: strings.NewReplacer("127.0.0.1:2379", etcd, "127.0.0.1:6379", redis, "127.0.0.1:7700", coordinator, "127.0.0.1:7702", http,
			"127.0.0.1:2389", testprocess.Address(t), "127.0.0.1:7710", testprocess.Address(t)), // of a second cluster
		env: append(os.Environ(), "GOBIN="+bin, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "TMPDIR="+t.TempDir(),
			"KISGRID_SERVER="+coordinator, "KISGRID_ETCD="+etcd, "REDIS_ADDR="+redis, "ETCDCTL_ENDPOINTS="+etcd, "ETCDCTL_API=3"),
		special: map[string][]string{
			"cluster":     append(slices.Clone(listening), "KISGRID_ETCD_LISTEN="+etcd, "KISGRID_REDIS="+redis), // kisgrid dev
			"coordinator": listening,
			"etcd": {
				"ETCD_DATA_DIR=" + t.TempDir(), "ETCD_LISTEN_CLIENT_URLS=http://" + etcd, "ETCD_ADVERTISE_CLIENT_URLS=http://" + etcd,
				"ETCD_LISTEN_PEER_URLS=http://" + peers, "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://" + peers, "ETCD_INITIAL_CLUSTER=default=http://" + peers,
			},
		},
		terminals: map[string]*terminal{}, scripts: t.TempDir(), overlay: map[string]string{},
	}
	flags := "GOFLAGS="
	if changesCode {
		r.writeOverlay()
		flags += "-overlay=" + r.overlayFile()
	}
	r.env = append(r.env, flags)
	return r
}

// redirectRedis writes a script called redis-server into a folder. The script runs the installed redis-server at another address than
// the default.
func redirectRedis(t *testing.T, folder, address string) {
	t.Helper()
	installed, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --bind %s --port %s --save '' --dir '%s' \"$@\"\n", installed, host, port, t.TempDir())
	if err := os.WriteFile(filepath.Join(folder, "redis-server"), []byte(script), 0o700); err != nil { // it is to be run
		t.Fatal(err)
	}
}

// folder is the folder of the first terminal. Other terminals are opened in it.
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
	r.terminals[name] = open(r.t, name, dir, slices.Concat(env, r.special[name]))
	return r.terminals[name]
}

// write makes a file, or changes one. A file of the checkout stays as it is: the go command reads the changed file through the
// overlay.
func (r *reader) write(s step) {
	r.t.Helper()
	if s.diff {
		r.patch(s)
		return
	}
	if err := os.WriteFile(filepath.Join(r.folder(), s.file), []byte(r.addresses.Replace(s.text)), 0o600); err != nil {
		r.t.Fatalf("line %d: %v", s.line, err)
	}
}

func (r *reader) patch(s step) {
	r.t.Helper()
	path, err := filepath.Abs(filepath.Join("../..", s.file))
	if err != nil {
		r.t.Fatal(err)
	}
	changed, again := r.overlay[path]
	from := path
	if again {
		from = changed
	} else {
		changed = filepath.Join(r.scripts, fmt.Sprintf("%d-%s", len(r.overlay), filepath.Base(path)))
	}
	text, err := os.ReadFile(from)
	if err != nil {
		r.t.Fatalf("line %d: %v", s.line, err)
	}
	after, err := patched(string(text), s.text)
	if err != nil {
		r.t.Fatalf("line %d: %s: %v", s.line, s.file, err)
	}
	if err := os.WriteFile(changed, []byte(after), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.overlay[path] = changed
	r.writeOverlay()
}

// writeOverlay writes the JSON file that tells the go command which files to read in place of others.
func (r *reader) writeOverlay() {
	r.t.Helper()
	list, err := json.Marshal(map[string]any{"Replace": r.overlay})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.overlayFile(), list, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reader) overlayFile() string { return filepath.Join(r.scripts, "overlay.json") }

// follow runs one block, and compares its output with the page.
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

// enter has a shell run a text. For a block that ends, it waits, and returns the output and the exit code of the last command.
func (r *reader) enter(t *terminal, text string, ends bool) (out string, code int) {
	r.t.Helper()
	r.n++
	script := filepath.Join(r.scripts, fmt.Sprintf("%d.sh", r.n))
	if err := os.WriteFile(script, []byte(r.addresses.Replace(text)), 0o600); err != nil {
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

// terminal is a running shell.
type terminal struct {
	t    *testing.T
	name string
	in   io.Writer
	news chan struct{} // capacity 1; holds a token when something was printed
	done chan struct{} // closed when the shell has ended

	mu   sync.Mutex
	text []byte // all output so far; guarded by mu
}

// open opens a shell. The end of the test ends the shell, with all processes that it has started.
func open(t *testing.T, name, dir string, env []string) *terminal {
	t.Helper()
	w := &terminal{t: t, name: name, news: make(chan struct{}, 1), done: make(chan struct{})}
	shell := exec.Command("bash", "--noprofile", "--norc", "-s")
	shell.Dir, shell.Env, shell.Stdout, shell.Stderr = dir, env, w, w
	shell.WaitDelay = time.Second                           // a child that lives on may hold the output open
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the children of the shell are in its process group
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

// Write implements io.Writer: it takes the output of the shell and of its programs.
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

// await waits until enough returns true for the output. The line of the page is for failures.
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
			w.t.Fatalf("line %d: it has not printed the expected output after %s", line, patience)
		}
	}
}
