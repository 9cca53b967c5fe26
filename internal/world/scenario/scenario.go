// Package scenario describes what happens in a simulated cluster: which processes run where and with which settings, which flows there
// are and how they change, which rows clients submit, and what goes wrong when. A scenario is made from a seed, or read from a script.
package scenario

import "time"

// Scenario is one life of a cluster. Times are virtual and count from its start.
type Scenario struct {
	// Seed decides everything that the other fields leave open: the content of rows, delays, and the choices of the network.
	Seed uint64
	// Lasts is how long clients submit rows and faults happen. After it all faults are over.
	Lasts time.Duration
	// Calm is how long the cluster has after that to recover. Then the checks look at it.
	Calm time.Duration

	Etcd         Etcd
	Redis        Redis
	TLS          bool
	Coordinators []Process
	Workers      []Process
	Flows        []Flow
	Clients      []Client
	Changes      []Change
	Faults       []Fault
}

// Etcd says how the simulated etcd is set up.
type Etcd struct {
	Members       int           // servers, which share one state
	MaxOperations int           // the limit of operations in a transaction; 0 means 128
	User          string        // the name with which processes sign in; empty means no sign-in
	TokenLasts    time.Duration // how long a sign-in is valid; 0 means 5 min
	Delay         time.Duration // of each answer
}

// Redis says how the simulated Redis is set up.
type Redis struct {
	Replicas   int           // replicas, to which a failover may go
	Lag        time.Duration // how far a replica is behind
	OnceWindow time.Duration // of the connector's document; 0 means its default
}

// Process is the setting of a coordinator or a worker. A zero value of a field means the program's default.
type Process struct {
	Name string
	// Host is the machine that the process runs on. Processes with the same host share its addresses.
	Host string
	// Listen and Advertise are the flags of these names. Advertise may be wrong: a loopback address, or another machine's.
	Listen, Advertise string
	Lease             time.Duration
	NoWorker          time.Duration // of coordinators
	BatchRows         int
	BatchBytes        int
	RowBytes          int
	Budget            int64 // bytes; of a coordinator or a worker
	RowBudget         int64 // of workers
	// Build says which functions a worker has: "" all of them; or a list of differences such as "-calculate" or "row2".
	Build string
	// Absent is a process that a fault or a change starts later.
	Absent bool
}

// Flow is one flow. Form names what its functions do; package world has the documents and functions of each form.
type Flow struct {
	Name   string
	Form   string
	Copies int
	// Timeout and Wait are of the flow's and its functions' documents. 0 means the default.
	Timeout, Wait time.Duration
	// For is the flow whose Save this flow's Load waits for, in a form that loads.
	For string
	// Connector is "redis" or "memory".
	Connector string
}

// Client is a program that submits rows.
type Client struct {
	Name string
	Host string
	Flow string
	// How is how it submits: "stream", "call", "producer" (a stream that keeps its identity over restarts), "idle", "gone" (goes away in
	// the middle), "slow" (does not take its answers), "wrong" (sends what the protocol forbids).
	How     string
	Rows    int
	Batch   int           // rows in a batch
	Every   time.Duration // from one batch to the next; 0 means at once
	Open    int           // unanswered batches at a time; 0 means any number
	Keys    int           // distinct shard keys
	Hot     int           // per cent of the rows that have the first key
	Results bool          // asks for output rows
	Timeout time.Duration // of each batch; 0 means none
	Mix     Mix
}

// Mix says how many rows in a thousand are not ordinary.
type Mix struct {
	Bad, Huge, Panic, Error, Retry, Slow, Block, Drop, Abort, Grow, Mutate, Poison, NoKey int
}

// Change is a change of documents.
type Change struct {
	At   time.Duration
	Kind string // "revise", "break", "mend", "delete", "put", "undo", "rename", "many", "conn", …
	Flow string
	By   string // "etcdctl", "apply", "delete", "undo"
	N    int
}

// Fault is something that goes wrong at a time, for a while.
type Fault struct {
	At, For time.Duration
	Kind    string // "kill", "drain", "stop", "restart", "cut", "cut-one-way", "refuse", "black-hole", "reset", "delay", "slow", "etcd-…", "redis-…"
	Who     string // a process, a host, or "etcd", "redis", "clients"
	Whom    string // the other end of a link
	Arg     string
}
