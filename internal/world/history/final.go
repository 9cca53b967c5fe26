package history

import "time"

// Final is what is left when clients have ended and the cluster has had its time of calm, while its processes still run; and what is left
// when these have ended, too.
type Final struct {
	At time.Duration // when it was looked at
	// Etcd has every key that is left, without the prefix, by key.
	Etcd map[string]EtcdKey
	// Leases is how many leases etcd still has.
	Leases int
	Snaps  map[string]Snap // the metrics of each running process, by its name
	// Conns are the connections that are open.
	Conns []Conn
	// Explains are answers to the question where rows of a key are.
	Explains []Explain

	// The fields from here on describe the time after all processes have ended.

	// Goroutines are the stacks of goroutines that are left, of KisGrid's code or of code that it started.
	Goroutines []string
	// ConnsAfter are the connections that are still open.
	ConnsAfter []Conn
	// EtcdAfter has the keys that are left.
	EtcdAfter map[string]EtcdKey
}

// EtcdKey is a key in etcd with its value.
type EtcdKey struct {
	Value    string
	Revision int64 // of the last write
	Lease    int64 // 0 means none
}

// Conn is an open connection.
type Conn struct {
	From, To string // process or host of both ends
	Opened   time.Duration
}

// Explain is what a coordinator says about a key.
type Explain struct {
	Coordinator, Flow, Key string
	Worker                 string // where a row of the key would go; empty means nowhere
	Reason                 string // why nowhere
	Places                 int    // how many places have rows of the key now
	Code                   string // of the error; empty means none
}
