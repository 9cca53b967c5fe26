package access

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// recheck is how long the content of the access file is used before the file is read again.
const recheck = time.Second

// Guard knows the content of an access file and keeps it current. Any goroutine may use it.
type Guard struct {
	path    string
	log     hclog.Logger
	start   time.Time    // time 0 of checked
	checked atomic.Int64 // when the file was last read, as time since start; the goroutine that sets it reads the file
	current atomic.Pointer[content]
	// complaint is the last warning about the file that was logged, so that a lasting mistake is logged once.
	complaint atomic.Pointer[string]
	brake     brake
	processes atomic.Bool // the file must list certificates of coordinators and of workers
}

// content is an access file as it was read at one time.
type content struct {
	text   []byte
	policy *policy
}

// Open reads an access file. The error names the file and the mistake in it.
func Open(path string, log hclog.Logger) (*Guard, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	g := &Guard{path: path, log: log, start: time.Now()}
	c, err := g.read()
	if err != nil {
		return nil, err
	}
	g.current.Store(c)
	return g, nil
}

// read reads the file. It returns the current content if the file has not changed.
func (g *Guard) read() (*content, error) {
	f, err := os.Open(g.path)
	if err != nil {
		return nil, fmt.Errorf("read the access file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the access file: %w", err)
	}
	if old := g.current.Load(); old != nil && bytes.Equal(old.text, text) {
		return old, nil
	}
	p, err := parse(text)
	if err == nil && g.processes.Load() {
		err = p.needProcesses()
	}
	if err != nil {
		return nil, fmt.Errorf("access file %s: %w", g.path, err)
	}
	if old := g.current.Load(); old != nil {
		p.remember(old.policy)
	}
	return &content{text, p}, nil
}

// policy returns the content of the file. If that was read more than a second ago, one caller reads it again first. A file that can't be
// used is logged, and the earlier content stays in use.
func (g *Guard) policy() *policy {
	now, last := int64(time.Since(g.start)), g.checked.Load()
	if now-last >= int64(recheck) && g.checked.CompareAndSwap(last, now) {
		switch c, err := g.read(); {
		case err != nil:
			complaint := err.Error()
			if told := g.complaint.Swap(&complaint); told == nil || *told != complaint {
				g.log.Warn("the access file has changed but can't be used: the earlier rights stay in force", "error", err)
			}
		case c != g.current.Load():
			g.complaint.Store(nil)
			g.current.Store(c)
			g.log.Info("access file reloaded", "file", g.path)
		default:
			g.complaint.Store(nil)
		}
	}
	return g.current.Load().policy
}
