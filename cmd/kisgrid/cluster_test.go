package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// patience is the longest that a test of this package waits for anything.
const patience = 2 * time.Minute

// said is the output of a running command.
type said struct {
	mu      sync.Mutex
	text    bytes.Buffer  // guarded by mu
	changed chan struct{} // closed and replaced when there is more output; guarded by mu
}

func (s *said) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.text.Write(text)
}

func (s *said) read() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.text.String(), s.changed
}

// await waits until the command has printed a text.
func (s *said) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		now, changed := s.read()
		if strings.Contains(now, text) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("it does not print %q:\n%s", text, now)
		}
	}
}

// running is a command that runs beside the test.
type running struct {
	out    said
	ended  chan error
	cancel context.CancelFunc
}

// begin starts a command against the first coordinator.
func begin(t *testing.T, g *flowtest.Grid, stdin string, args ...string) *running {
	t.Helper()
	r := &running{ended: make(chan error, 1)}
	cmd := root()
	cmd.SetArgs(append(args, "--server", g.Coordinator(0).Address()))
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&r.out)
	cmd.SetErr(&r.out)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		r.ended <- cmd.ExecuteContext(ctx)
	}()
	return r
}

// end waits for the command, and returns its output and its error.
func (r *running) end(t *testing.T) (string, error) {
	t.Helper()
	select {
	case err := <-r.ended:
		out, _ := r.out.read()
		if err != nil {
			out += err.Error()
		}
		return out, err
	case <-time.After(patience):
		out, _ := r.out.read()
		t.Fatalf("the command does not end:\n%s", out)
		return "", nil
	}
}

// runs runs a command that must succeed and print the texts.
func runs(t *testing.T, g *flowtest.Grid, stdin string, args []string, want ...string) string {
	t.Helper()
	out, err := begin(t, g, stdin, args...).end(t)
	if err != nil {
		t.Fatalf("kisgrid %s ended with %v:\n%s", strings.Join(args, " "), err, out)
	}
	prints(t, out, want...)
	return out
}

// fails runs a command that must fail and print the texts.
func fails(t *testing.T, g *flowtest.Grid, stdin string, args []string, want ...string) string {
	t.Helper()
	out, err := begin(t, g, stdin, args...).end(t)
	if err == nil {
		t.Fatalf("kisgrid %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	prints(t, out, want...)
	return out
}

func prints(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("it does not print %q:\n%s", w, out)
		}
	}
}

// until calls question again and again until it returns nil. It is for states that give no signal.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for timeout := time.After(patience); !is(); {
		select {
		case <-look.C:
		case <-timeout:
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

type mark struct {
	ID int `json:"id"`
}

// registers registers functions that return their rows as they are.
func registers(names ...string) func(*kis.Registry) {
	return func(r *kis.Registry) {
		for _, name := range names {
			r.Func(name, kis.Verify(func(context.Context, mark) error { return nil }))
		}
	}
}

// marks is the document of flow Marks with the named functions and more lines.
func marks(functions []string, more ...string) string {
	text := "kistype: flow\nflow_name: Marks\nstatus: 1\nshard_key: id\n"
	for _, line := range more {
		text += line + "\n"
	}
	text += "flows:\n"
	for _, name := range functions {
		text += "  - fname: " + name + "\n"
	}
	for _, name := range functions {
		text += "---\nkistype: func\nfname: " + name + "\nfmode: Verify\n"
	}
	return text
}

// etcdOf is a client of the cluster's etcd.
func etcdOf(t *testing.T, g *flowtest.Grid) *clientv3.Client {
	t.Helper()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{g.Etcd()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	return etcd
}

// put writes a document into etcd as etcdctl does.
func put(t *testing.T, g *flowtest.Grid, key, document string) {
	t.Helper()
	if _, err := etcdOf(t, g).Put(t.Context(), "/kisgrid/config/"+key, document); err != nil {
		t.Fatal(err)
	}
}

func containsLine(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimRight(l, "\n") == line {
			return true
		}
	}
	return false
}
