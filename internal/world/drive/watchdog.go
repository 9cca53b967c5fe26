package drive

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// watchdog ends the process of a life that hangs. One goroutine owns it; the others wait for done.
type watchdog struct {
	process *os.Process
	patience
	stop chan struct{} // closed when the process has ended
	done chan struct{} // closed when the goroutine has ended
	hung bool          // read only after done
}

// watch begins to watch a process that has just started.
func watch(process *os.Process, limit time.Duration) *watchdog {
	w := &watchdog{process: process, patience: patience{limit: limit, since: time.Now()}, stop: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// run looks at the process now and then, until it has ended. When it hangs, SIGQUIT has it print all stacks.
func (w *watchdog) run() {
	defer close(w.done)
	began := time.Now()
	tick := time.NewTicker(w.limit/50 + time.Millisecond)
	defer tick.Stop()
	for !w.hung {
		select {
		case <-w.stop:
			return
		case now := <-tick.C:
			w.hung = w.over(now, processorTime(w.process.Pid, now.Sub(began)))
		}
	}
	w.process.Signal(syscall.SIGQUIT) //nolint:errcheck // it may have ended by itself
	select {
	case <-w.stop:
	case <-time.After(10 * time.Second):
		w.process.Kill() //nolint:errcheck // an error says that it has ended
	}
}

// ended ends the watch over a process that has ended, and reports whether it hung.
func (w *watchdog) ended() bool {
	close(w.stop)
	<-w.done
	return w.hung
}

// patience decides when a life hangs: when it has used up a limit of processor time, or has used next to none for as long in real time, as a
// process does whose goroutines wait for ever. A machine that is busy with other things makes a life long in real time only.
type patience struct {
	limit time.Duration
	used  time.Duration // processor time that the life had used at since
	since time.Time     // when the life was last seen to go on
}

// over reports whether a life hangs that has used so much processor time until now.
func (p *patience) over(now time.Time, used time.Duration) bool {
	if used-p.used >= p.limit/1000 && used > p.used {
		p.used, p.since = used, now
	}
	return used >= p.limit || now.Sub(p.since) >= p.limit
}

// processorTime returns how much processor time a process has used so far. Where the system has no /proc, it returns the real time.
func processorTime(pid int, real time.Duration) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return real
	}
	// The name of the program, in parentheses, may have spaces. Behind it, the fields 12 and 13 are hundredths of a second in the program and
	// in the kernel.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return real
	}
	own, err := strconv.ParseInt(string(fields[11]), 10, 64)
	kernel, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil || err2 != nil {
		return real
	}
	return time.Duration(own+kernel) * 10 * time.Millisecond
}
