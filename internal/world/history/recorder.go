package history

import (
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Recorder makes a History. Its methods only append, so that they cost the simulated cluster next to nothing; all are safe for concurrent
// use. Times come from the clock that New was given. A method that returns a pointer hands out an object of the history: its caller changes
// it only through the Recorder's methods.
type Recorder struct {
	since func() time.Duration

	mu sync.Mutex
	h  History
}

// New makes a Recorder for a life of this scenario, which begins now. It takes the time with time.Now: within a synctest bubble, that is the
// virtual time.
func New(s scenario.Scenario) *Recorder {
	start := time.Now()
	return NewAt(s, func() time.Duration { return time.Since(start) })
}

// NewAt makes a Recorder whose clock is since. It returns the time since the start of the scenario.
func NewAt(s scenario.Scenario, since func() time.Duration) *Recorder {
	return &Recorder{since: since, h: History{Scenario: s}}
}

// Now returns the time since the start of the scenario.
func (r *Recorder) Now() time.Duration { return r.since() }

// Made notes a batch that a client is about to submit for the first time. The Recorder keeps b.
func (r *Recorder) Made(b *Batch) *Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Batches = append(r.h.Batches, b)
	return b
}

// Submitting notes that a client calls Submit or Send with a batch. call is true for Submit.
func (r *Recorder) Submitting(b *Batch, call bool, timeout time.Duration) *Try {
	t := &Try{At: r.since(), Call: call}
	if timeout > 0 {
		t.Deadline = t.At + timeout
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b.Tries = append(b.Tries, t)
	return t
}

// Sent notes that Send returned without an error, and which id the batch has.
func (r *Recorder) Sent(t *Try, id batch.ID) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Sent, t.ID = max(now, 1), id
}

// Answered notes the end of a try: what Submit, or Send and then Wait, returned. id is the batch's id after that. outputs are the result's
// output rows without their pads.
func (r *Recorder) Answered(t *Try, id batch.ID, result *batch.Result, outputs []Output, err error, unanswered bool) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Ended = max(now, 1)
	if !id.IsZero() {
		t.ID = id
	}
	if err != nil {
		t.Err, t.Code, t.Unanswered = err.Error(), batch.CodeOf(err), unanswered
	}
	if result != nil {
		t.Answered = true
		t.Revision = result.Revision
		t.NotDone = slices.Clone(result.NotDone)
		t.Outputs = outputs
		if t.ID.IsZero() {
			t.ID = result.BatchID
		}
	}
}

// Gone notes that the client's program ended, or cancelled the try, before its answer came.
func (r *Recorder) Gone(t *Try, id batch.ID) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Ended, t.Gone = max(now, 1), true
	if !id.IsZero() {
		t.ID = id
	}
}

// GaveUp notes that the client gave the batch up.
func (r *Recorder) GaveUp(b *Batch) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	b.GaveUp = max(now, 1)
}

// Ran notes a call of a function for one row. The Recorder fills in the time.
func (r *Recorder) Ran(run Run) {
	run.At = r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Runs = append(r.h.Runs, run)
}

// Called notes a call of the command line that has ended; c.At says when it began.
func (r *Recorder) Called(c Call) {
	c.Ended = r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Calls = append(r.h.Calls, c)
}

// Wrote notes a write of a document that etcd took, in the order in which etcd took them. The Recorder fills in
// the time where d has none.
func (r *Recorder) Wrote(d Document) {
	if d.At == 0 {
		d.At = r.since()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Documents = append(r.h.Documents, d)
}

// Changed notes a change of documents that the world made, or tried to make: then c.Err says why it could not. The Recorder fills in the
// time.
func (r *Recorder) Changed(c Change) {
	c.At = r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Changes = append(r.h.Changes, c)
}

// FaultBegan notes that a fault begins. FaultEnded takes the number that it returns.
func (r *Recorder) FaultBegan(f scenario.Fault) (number int) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Faults = append(r.h.Faults, Fault{At: now, Fault: f})
	return len(r.h.Faults) - 1
}

// FaultEnded notes that a fault is over, and what came of it.
func (r *Recorder) FaultEnded(number int, note string) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Faults[number].Until, r.h.Faults[number].Note = now, note
}

// Happened notes another event. The Recorder fills in the time.
func (r *Recorder) Happened(kind EventKind, who, text string) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Events = append(r.h.Events, Event{At: now, Kind: kind, Who: who, Text: text})
}

// Secret notes a text that must stand in no log, message or metric. name says what it is, such as "the password of Redis".
func (r *Recorder) Secret(name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Secrets = append(r.h.Secrets, Secret{Name: name, Text: text})
}

// Lost notes that Redis or etcd has lost the writes that it acknowledged since a time. kind is RedisLost, RedisFlushed or EtcdLost.
func (r *Recorder) Lost(kind EventKind, who, text string, since time.Duration) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Events = append(r.h.Events, Event{At: now, Kind: kind, Who: who, Text: text, Since: since})
}

// Began notes that a process starts, and numbers its life. The Recorder keeps what it returns.
func (r *Recorder) Began(kind Kind, settings scenario.Process, build string) *Life {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &Life{Process: settings.Name, Kind: kind, Number: 1, Settings: settings, Build: build, Began: now}
	for _, other := range r.h.Lives {
		if other.Process == l.Process {
			l.Number++
		}
	}
	r.h.Lives = append(r.h.Lives, l)
	return l
}

// Registered notes the id under which a process is known in the cluster.
func (r *Recorder) Registered(l *Life, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.ID = id
}

// AskedToEnd notes that a process was told to drain.
func (r *Recorder) AskedToEnd(l *Life) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.Asked = max(now, 1)
}

// EndedLife notes how a life ended. err is the error of the process's Run, or nil.
func (r *Recorder) EndedLife(l *Life, how Ending, err error) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.Ended, l.How = max(now, 1), how
	if err != nil {
		l.Error = err.Error()
	}
}

// Paused notes that a process is stopped, and Continued that it goes on.
func (r *Recorder) Paused(l *Life) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.Pauses = append(l.Pauses, Pause{From: now})
}

// Continued notes that a process that was stopped goes on.
func (r *Recorder) Continued(l *Life) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(l.Pauses); n > 0 {
		l.Pauses[n-1].Until = max(now, 1)
	}
}

// Snapped notes a process's metrics of this moment.
func (r *Recorder) Snapped(l *Life, metrics []Sample) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.Snaps = append(l.Snaps, Snap{At: now, Metrics: metrics})
}

// Logged notes a line of a process's log.
func (r *Recorder) Logged(l *Life, level, text string) {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.Logs = append(l.Logs, Line{At: now, Level: level, Text: text})
}

// CalmBegan notes that all faults are over and clients have submitted everything.
func (r *Recorder) CalmBegan() {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Calm = now
}

// Finished notes what is left in the end.
func (r *Recorder) Finished(f *Final, stores []Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Final, r.h.Stores = f, stores
}

// History ends the record and returns it. Nothing may be recorded after that: late calls of methods change nothing that checks read, except
// objects that the Recorder handed out.
func (r *Recorder) History() *History {
	now := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.h
	h.Ended = now
	return &h
}
