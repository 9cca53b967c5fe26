package scenario

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Scenario is one life of a cluster. Times are virtual and count from its start. Every field has a place in the script form: the tag
// "script" of a field is the word that stands before its value there.
type Scenario struct {
	// Seed decides everything that the other fields leave open: the content of rows, delays, and the choices of the network.
	Seed uint64 `script:"seed"`
	// Lasts is how long clients submit rows and things go wrong. At its end every fault is over, except processes that are gone for good.
	Lasts time.Duration `script:"lasts"`
	// Calm is how long the cluster has after that to recover. Then the checks look at it.
	Calm time.Duration `script:"calm"`
	// TLS says that every process and client has a certificate, and that coordinators and workers ask for one.
	TLS bool `script:"tls"`
	// Latency is how long each packet from one host to another takes; some take up to twice as long. 0 means no time.
	Latency time.Duration `script:"latency"`

	// Addresses says which addresses machines have: "" IPv4, IPv6, or BothFamilies.
	Addresses string `script:"addresses"`

	Etcd         Etcd      `script:"etcd"`
	Redis        Redis     `script:"redis"`
	Coordinators []Process `script:"coordinator"`
	Workers      []Process `script:"worker"`
	Flows        []Flow    `script:"flow"`
	Clients      []Client  `script:"client"`
	Changes      []Change  `script:"at"`
	Faults       []Fault   `script:"at"`
}

// Rand returns a new stream of random numbers for a party of the scenario, such as "client a" or "network". Each party has a stream of its
// own, so that a scenario without one of its parties goes on as before for the others.
func (s *Scenario) Rand(party string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(party)) //nolint:errcheck // a hash returns no error
	return rand.New(rand.NewPCG(s.Seed, h.Sum64()))
}

// Etcd says how the simulated etcd is set up. Its hosts are etcd-1, etcd-2, …
type Etcd struct {
	Members       int           `script:"members"`     // servers, which share one state; 0 means 1
	MaxOperations int           `script:"max-txn-ops"` // the limit of operations in a transaction; 0 means 128
	User          string        `script:"user"`        // the name with which processes sign in; empty means no sign-in
	TokenLasts    time.Duration `script:"token"`       // how long a sign-in is valid; 0 means 5 min
	Delay         time.Duration `script:"delay"`       // of each answer
}

// Redis says how the simulated Redis is set up. Its hosts are redis-1, redis-2, …
type Redis struct {
	Replicas   int           `script:"replicas"`    // replicas, to which a failover may go
	Lag        time.Duration `script:"lag"`         // how far a replica is behind
	User       string        `script:"user"`        // the name with which processes sign in; empty means no sign-in
	OnceWindow time.Duration `script:"once-window"` // of the connector's document; 0 means its default
	Wait       int           `script:"wait"`        // replicas that must have a Save before it counts as done: the document's "replicas"
	Delay      time.Duration `script:"delay"`       // of each answer
}

// Process is the setting of a coordinator or a worker. A zero value of a field means the program's default.
type Process struct {
	Name string `script:",lead"`
	// Host is the machine that the process runs on. Processes with the same host share its addresses. A host's name is in the DNS.
	Host string `script:"on"`
	// Listen and Advertise are the flags of these names. Listen is empty for the default port, or a free port where the default one is
	// taken. Advertise may be wrong: a loopback address, or another machine's.
	Listen    string `script:"listen"`
	Advertise string `script:"advertise"`
	// Lease, Drain and the limits of a batch are flags of both programs.
	Lease      time.Duration `script:"lease"`
	Drain      time.Duration `script:"drain-timeout"`
	BatchRows  int           `script:"batch-rows"`
	BatchBytes int           `script:"batch-bytes,bytes"`
	// Budget is a coordinator's --budget-bytes or a worker's --memory-budget.
	Budget int64 `script:"budget,bytes"`
	// Only coordinators have these.
	RowBytes int           `script:"row-bytes,bytes"`
	NoWorker time.Duration `script:"no-worker"`
	TxnOps   int           `script:"max-txn-ops"`
	Letters  bool          `script:"dead-letters"` // keeps dead rows in the simulated Redis
	// LettersMax is how many dead rows of one flow are kept. 0 means the default.
	LettersMax int `script:"letters-max"`
	// Only workers have these.
	RowBudget int64 `script:"row-budget"`
	// Build says how the functions of a worker differ from those of the others: a list of words of Builds, separated by commas.
	Build string `script:"build"`
	// Absent is a process that a fault "start" starts later.
	Absent bool `script:"absent"`
}

// Flow is one flow. Its form, a word of Forms, says what its functions do.
type Flow struct {
	Name string `script:",lead"`
	Form string `script:",lead"`
	// Copies, Timeout, Wait and Retries are of the flow's and its functions' documents. 0 means the default.
	Copies  int           `script:"copies"`
	Timeout time.Duration `script:"timeout"`
	Wait    time.Duration `script:"wait"`
	Retries int           `script:"retries"`
	// For is the flow whose Save this flow's Load waits for, in a form that loads another flow's keys.
	For string `script:"for"`
}

// Texts of Scenario.Addresses.
const (
	IPv6         = "ipv6"
	BothFamilies = "both"
)

// ByName is the text of Client.To for a client that finds the coordinators by one name.
const ByName = "dns"

// hasPort reports whether a coordinator listens at port 7700 of all addresses of its machine, if it is the first one there.
func (p Process) hasPort() bool { return p.Listen == "" || p.Listen == ":7700" }

// Client is a program that submits rows.
type Client struct {
	Name string `script:",lead"`
	How  string `script:",lead"` // a word of Hows
	Flow string `script:"of"`
	Host string `script:"on"`
	// To is the list of coordinators that the client knows, separated by commas; "" means all. ByName means those that listen at port 7700,
	// which the client finds by one name.
	To      string        `script:"to"`
	Start   time.Duration `script:"start"` // when the client begins
	Rows    int           `script:"rows"`
	Batch   int           `script:"batch"`    // rows in a batch
	Every   time.Duration `script:"every"`    // from one batch to the next; 0 means at once
	Open    int           `script:"open"`     // unanswered batches at a time; 0 means any number
	Keys    int           `script:"keys"`     // distinct shard keys; 0 means as many as rows
	Hot     int           `script:"hot"`      // per cent of the rows that have the first key
	Pad     int           `script:"pad"`      // bytes that are added to each row, at most
	Results bool          `script:"results"`  // asks for output rows
	Timeout time.Duration `script:"timeout"`  // of each batch; 0 means none
	Again   int           `script:"again"`    // per cent of the batches with failed rows that it submits again, under their old ids
	Msgpack bool          `script:"msgpack"`  // sends rows in MessagePack
	Oldest  time.Duration `script:"born-ago"` // how old a producer says that its batches are, at most
	Forgets bool          `script:"forgets"`  // a producer whose program, when it begins again, does not know on which revisions its batches ran
	Mix     Mix           `script:",inline"`
}

// Mix says how many rows in a thousand are not ordinary.
type Mix struct {
	Bad    int `script:"bad"`    // do not decode
	Huge   int `script:"huge"`   // are near the limit of a row, or above it
	Panic  int `script:"panic"`  // make a function panic
	Error  int `script:"error"`  // make a function return an error each time
	Retry  int `script:"retry"`  // make a function return an error at first, and succeed when it is tried again
	Slow   int `script:"slow"`   // make a function sleep
	Hang   int `script:"hang"`   // make a function wait until its context ends
	Block  int `script:"block"`  // make a function not return
	Odd    int `script:"odd"`    // make a function return an odd error, such as a nil pointer in an error
	Misfit int `script:"misfit"` // save a value that their key can't take
	Drop   int `script:"drop"`   // are dropped
	Abort  int `script:"abort"`  // are aborted
	Grow   int `script:"grow"`   // become many rows, or large ones
	Mutate int `script:"mutate"` // are changed in place by a function, which then returns an error at its first attempt
	Jump   int `script:"jump"`   // make a function jump
	Lose   int `script:"lose"`   // lose their lineage
	Poison int `script:"poison"` // kill the worker process that runs them
	NoKey  int `script:"no-key"` // have no shard key, or null
	Miss   int `script:"miss"`   // wait for a key that nobody saves
	Late   int `script:"late"`   // wait for a key that is saved later
	Busy   int `script:"busy"`   // take up to 95 ms in a function, so that lanes have something to do
}

// Change is a change of documents.
type Change struct {
	At   time.Duration
	Kind string `script:",lead"` // a word of ChangeKinds
	Flow string `script:",lead"`
	By   string `script:"by"` // "etcdctl": puts, one after the other; "apply": the call of kisgrid apply; "" means apply
	N    int    `script:"n"`  // a number that the kind asks for
}

// Fault is something that goes wrong at a time, for a while.
type Fault struct {
	At   time.Duration
	For  time.Duration // 0 means that it is over at once, or for kill, drain and host-down, that it is for good
	Kind string        `script:",lead"` // a word of FaultKinds
	Who  string        `script:",lead"` // a process, host or client, as the kind says
	Whom string        `script:"from"`  // the other end of a link; "" means every other host
	By   time.Duration `script:"by"`    // a delay, or how far back
	N    int           `script:"n"`     // a number of bytes, or of cases in a thousand
	Arg  string        `script:"with"`  // a word that the kind asks for
	// Then lists settings with which the process starts again, as they stand in the line of a process, such as "build row2 lease 2s".
	Then string `script:"then,rest"`
}

// Over returns when the fault ends.
func (f Fault) Over() time.Duration { return f.At + f.For }
