package history

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// History is the record of one life of a cluster. It does not change any more once Recorder.History has returned it. All times are virtual,
// and count from the start of the scenario.
type History struct {
	Scenario scenario.Scenario
	Batches  []*Batch // in the order of their first submission
	Runs     []Run    // in order of time
	Calls    []Call   // in order of their beginning
	// Documents has the writes of documents that etcd accepted, in their order there.
	Documents []Document
	Changes   []Change      // in order of time
	Faults    []Fault       // in order of their beginning
	Lives     []*Life       // in the order of their beginning
	Stores    []Store       // at the end; one for each connector that the world can look into
	Events    []Event       // what happens to Redis, etcd and the network, in order of time
	Secrets   []Secret      // texts that nobody may find in a log, message or metric
	Final     *Final        // nil when the life ended too early to have one
	Calm      time.Duration // when clients had submitted everything and all faults were over
	Ended     time.Duration // when the record ended
}

// Run is one call of a function for one row.
type Run struct {
	At      time.Duration
	Process string // the worker's name in the scenario
	Life    int    // which life of that process, from 1
	Flow    string
	// Function is the name of the function's document, and Mark is the mark in its parameters.
	Function string
	Mark     string
	Revision int64       // the flow's revision, as the function sees it
	ID       batch.RowID // of the row
	Key      string      // the row's shard key; empty in a flow without one
	N        int         // the row's number, which is unique among the rows of one client
	Attempt  int         // from 1, as the function sees it
}

// Call is a call of the command line's interface that the world made.
type Call struct {
	At, Ended   time.Duration
	Coordinator string     // the coordinator's name, as far as it is known
	Verb        string     // such as "apply", "get", "explain", "redrive"
	Subject     string     // such as "flow/Orders"
	Code        batch.Code // of the error; 0 means that there was none
	Error       string     // the text of the error; empty means that there was none
	Answer      string     // the answer, as text or JSON
}

// Document is a write of one document in etcd.
type Document struct {
	At time.Duration
	// Epoch counts the data of etcd: it grows when etcd begins anew or is restored from a snapshot. Revision numbers may come again then.
	Epoch    int
	Revision int64
	Kind     string // "flow", "func" or "conn"
	Name     string
	Mark     string // the mark in the document's parameters; empty means none
	Deleted  bool
	// Restored says that etcd did not take a write, but came back with this document after it had lost its data.
	Restored bool
	YAML     string
}

// Change is a change of documents that the world asked for. History.Documents has the writes that etcd made of it.
type Change struct {
	At time.Duration
	scenario.Change
	Mark string // of the documents that were written
	Good bool   // the documents are right: a cluster that has the functions should run them
	Err  string // why the change could not be made; empty means that it was made
}

// Fault is a fault that the world made.
type Fault struct {
	At, Until time.Duration
	scenario.Fault
	Note string // what came of it, such as the number of connections that were cut
}

// Event is something else that happened, for the reader of a history and for checks that excuse by it.
type Event struct {
	At   time.Duration
	Kind EventKind
	Who  string // the process, host, store or client that it concerns
	Text string
	// Since is for losses of data: writes that were acknowledged at this time or later are lost. 0 means that all are.
	Since time.Duration
}

// Secret is a text that must stand in no log, message or metric: a password, or a piece of the pads of rows.
type Secret struct{ Name, Text string }

// EventKind names a kind of event, so that checks need not read texts.
type EventKind string

// The kinds of events that checks look at.
const (
	RedisLost     EventKind = "redis lost writes" // Redis failed over or restarted, and lost writes that it had acknowledged
	RedisFlushed  EventKind = "redis lost all"    // Redis restarted without its data
	RedisAnswered EventKind = "redis answered"    // a command got an error reply of a fault, or its connection was cut
	EtcdLost      EventKind = "etcd lost writes"  // etcd restarted with earlier data or none
	StoreChanged  EventKind = "store changed"     // the world itself changed a key, such as a delete of other rows; Who is the key
	Panicked      EventKind = "panicked"          // a goroutine outside of users' functions panicked; Text has the stack
	Note          EventKind = "note"              // for readers only
)
