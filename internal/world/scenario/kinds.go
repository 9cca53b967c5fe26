package scenario

// FaultKind is a kind of fault, with the fields that it uses.
type FaultKind struct {
	Name string
	// The field Who says which names Fault.Who may have, and Whom those of Fault.Whom.
	Who, Whom Party
	// Lasts says that Fault.For has a meaning, By and N that these fields do; a fault that needs them has them above zero.
	Lasts, By, N bool
	// Forever says that a fault with For 0 is not over at the end.
	Forever bool
	// Args are the words that Fault.Arg may be; none means that it is empty. Then says that Fault.Then has a meaning.
	Args []string
	Then bool
	Text string
}

// Party is a set of the names in a scenario.
type Party int

// The parties that a fault may concern. Where a process stands for an end of a link, it means this process's connections only; a host
// means those of all processes on it.
const (
	Nobody Party = iota
	AProcess
	AWorker
	AnEnd // a process, a client, a host, "etcd" or "redis" (all of their hosts), or one of their hosts such as "etcd-1"
	AHost // a host of processes or clients, "etcd-1", "redis-1", …
	ProcessOrClient
)

// FaultKinds are all kinds of faults. Package world carries each of them out.
var FaultKinds = []FaultKind{
	// Processes.
	{Name: "kill", Forever: true, Who: ProcessOrClient, Lasts: true, Then: true, Text: "the process is killed, and starts again under its name when the fault ends"},
	{Name: "drain", Forever: true, Who: AProcess, Lasts: true, Then: true, Text: "the process gets SIGTERM, and starts again when the fault ends; if it still runs then, once it has ended"},
	{Name: "stop", Who: ProcessOrClient, Lasts: true, Text: "the process is stopped: it neither reads nor sends, and its functions stand still; its timers run on; it goes on when the fault ends"},
	{Name: "start", Who: AProcess, Then: true, Text: "a process that was absent starts"},
	{Name: "twin", Who: AWorker, Lasts: true, Then: true, Text: "a second process starts under the name of one that runs; it is killed when the fault ends"},

	// Hosts.
	{Name: "host-down", Forever: true, Who: AHost, Lasts: true, Text: "the machine is gone at once: packets vanish, and its processes are lost; they start again when the fault ends"},
	{Name: "host-cut", Who: AHost, Lasts: true, Text: "the machine is cut off from all others: its processes run on"},
	{Name: "no-name", Who: AHost, Lasts: true, Text: "the host's name is not in the DNS"},
	{Name: "wrong-name", Who: AHost, Whom: AHost, Lasts: true, Text: "the host's name has the address of the host after 'from'"},
	{Name: "slow-name", Who: AHost, Lasts: true, By: true, Text: "lookups of the host's name, and of the name that all coordinators have, take longer by 'by'"},
	{Name: "silent-name", Who: AHost, Lasts: true, Text: "no name server answers lookups of the host's name, and of the name that all coordinators have"},
	{Name: "left-out", Who: AHost, Lasts: true, Text: "the name that all coordinators have lacks the host's address"},

	// Links. They concern the connections between who and whom, in both directions unless the text says otherwise.
	{Name: "cut", Who: AnEnd, Whom: AnEnd, Lasts: true, Text: "packets vanish in both directions, connections stay half-open"},
	{Name: "cut-one-way", Who: AnEnd, Whom: AnEnd, Lasts: true, Text: "nothing that whom sends reaches who; the other direction is fine"},
	{Name: "delay", Who: AnEnd, Whom: AnEnd, Lasts: true, By: true, Text: "packets take longer, up to twice as long as 'by' says"},
	{Name: "slow", Who: AnEnd, Whom: AnEnd, Lasts: true, N: true, Text: "the link carries n bytes a second"},
	{Name: "refuse", Who: AnEnd, Whom: AnEnd, Lasts: true, Text: "new connections of whom to who are refused; open ones stay"},
	{Name: "black-hole", Who: AnEnd, Whom: AnEnd, Lasts: true, Text: "new connections of whom to who hang; open ones stay"},
	{Name: "reset", Who: AnEnd, Whom: AnEnd, Text: "connections are reset"},
	{Name: "reset-after", Who: AnEnd, Whom: AnEnd, Lasts: true, N: true, Text: "each connection is reset when n bytes more have gone over it"},

	// etcd.
	{Name: "etcd-election", Lasts: true, Text: "etcd has no leader"},
	{Name: "etcd-slow", Lasts: true, By: true, Text: "each answer of etcd takes longer by 'by'"},
	{Name: "etcd-restart", Lasts: true, Text: "all members of etcd are down; they come back with their data"},
	{Name: "etcd-restore", By: true, Text: "etcd is restored from a snapshot that is as old as 'by' says; it restarts"},
	{Name: "etcd-empty", Text: "etcd begins anew, without data; somebody applies the documents again a little later"},
	{Name: "etcd-full", Lasts: true, Text: "etcd refuses writes: mvcc: database space exceeded"},
	{Name: "etcd-compact", Text: "etcd forgets all but the newest revisions of its keys"},
	{Name: "etcd-expire", Text: "all leases of workers and coordinators end at once"},
	{Name: "etcd-forget", Who: AProcess, Text: "the membership key of the process is deleted by hand"},
	{Name: "etcd-lose", Lasts: true, N: true, Args: []string{"", "cut", "timeout"}, Text: "n calls in a thousand to etcd take effect without an answer: the caller waits in vain, or the connection breaks, or etcd speaks of a timeout"},
	{Name: "etcd-refuse", Lasts: true, N: true, Args: []string{"", "timeout", "busy"}, Text: "n calls in a thousand to etcd are refused without effect, because the leader changes, or for the reason given"},
	{Name: "etcd-member", Lasts: true, Args: []string{"", "cut"}, Text: "one member of etcd is down; with cut, it only reaches no other member"},
	{Name: "etcd-lag", Lasts: true, By: true, Text: "one member of etcd is behind the others by 'by'"},
	{Name: "etcd-tokens", Text: "etcd forgets who is signed in"},
	{Name: "etcd-write", N: true, Text: "another program writes n keys of its own"},
	{Name: "etcd-garbage", Text: "another program writes values that are not JSON under KisGrid's keys of members and statuses"},

	// Redis.
	{Name: "redis-error", Lasts: true, N: true, Args: RedisErrors, Text: "n commands in a thousand are answered with an error of the class"},
	{Name: "redis-handshake", Lasts: true, N: true, Args: RedisErrors, Text: "all connections are cut, and n commands in a thousand of the handshake of new ones are answered with an error of the class"},
	{Name: "redis-cut", Lasts: true, N: true, Args: []string{"", "done", "torn"}, Text: "n commands in a thousand cost their connection; with done, once they are carried out; with torn, in the middle of the answer"},
	{Name: "redis-late", Lasts: true, N: true, By: true, Text: "n answers in a thousand come later by 'by', and with them later ones of their connection"},
	{Name: "redis-hang", Lasts: true, N: true, Text: "n commands in a thousand, and all later ones of their connections, are not carried out; at the end these connections are cut"},
	{Name: "redis-stop", Lasts: true, Text: "Redis's process stands still; connections stay, and new ones come about"},
	{Name: "redis-replica", Lasts: true, Text: "Redis is a replica, and refuses writes: READONLY"},
	{Name: "redis-slow", Lasts: true, By: true, Text: "each answer of Redis takes longer by 'by'"},
	{Name: "redis-full", Lasts: true, Text: "Redis refuses writes: OOM"},
	{Name: "redis-restart", Lasts: true, Text: "Redis is down; it comes back with its data"},
	{Name: "redis-failover", Lasts: true, Text: "Redis is down; a replica takes over, which lacks the newest writes"},
	{Name: "redis-empty", Text: "Redis is down for a moment, and comes back without data"},
	{Name: "redis-password", Lasts: true, Text: "Redis has another password"},
	{Name: "redis-scripts", Text: "Redis forgets its scripts"},
}

// RedisErrors are the classes of errors for the fault redis-error: "" is any line of internal/redisfault's list, another word is any line
// that begins with it.
var RedisErrors = []string{"", "LOADING", "READONLY", "MISCONF", "OOM", "NOREPLICAS", "MASTERDOWN", "NOAUTH", "NOPERM", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "NOSCRIPT", "WRONGTYPE", "ERR"}

// ChangeKind is a kind of change of documents.
type ChangeKind struct {
	Name string
	// N says that Change.N has a meaning, and By that Change.By has.
	N, By bool
	// Saves says that the flow's form must save, and NoFlow that the change concerns no flow of the scenario.
	Saves, NoFlow bool
	Text          string
}

// ChangeKinds are all kinds of changes. Package world carries each of them out.
var ChangeKinds = []ChangeKind{
	{Name: "revise", By: true, Text: "all documents of the flow get the next mark"},
	{Name: "revise-func", By: true, Text: "one function's document gets the next mark, and so differs from the flow's others"},
	{Name: "touch", By: true, Text: "the documents are written again, with the same content"},
	{Name: "copies", N: true, By: true, Text: "the flow has n copies"},
	{Name: "retries", N: true, By: true, Text: "functions are tried again n times"},
	{Name: "shard-key", By: true, Text: "the flow is sharded by another field, or by the first one again"},
	{Name: "off", By: true, Text: "the flow is switched off"},
	{Name: "on", By: true, Text: "the flow is switched on"},
	{Name: "delete", By: true, Text: "the flow's document is deleted"},
	{Name: "delete-func", By: true, Text: "a function's document is deleted, while the flow uses it"},
	{Name: "put-back", By: true, Text: "all documents of the flow are written as they were at first, with the next mark"},
	{Name: "break", By: true, Text: "a document that can't be read"},
	{Name: "break-name", By: true, Text: "a document that names a function which no worker has"},
	{Name: "break-mode", By: true, Text: "a function's document with another mode than the registered one"},
	{Name: "undo", Text: "kisgrid rollout undo"},
	{Name: "many", NoFlow: true, N: true, By: true, Text: "n further flows with one function each are written at once; they take no rows"},
	{Name: "many-gone", NoFlow: true, By: true, Text: "these flows are deleted"},
	{Name: "once-window", N: true, By: true, Saves: true, Text: "the connector's document gets a once-window of n seconds"},
	{Name: "connector", By: true, Saves: true, Text: "the connector's document changes in a way that opens new connections"},
	{Name: "bad-connector", By: true, Saves: true, Text: "the connector's document names an address where nothing listens"},
	{Name: "big", By: true, Text: "a document larger than the limit"},
}

// Builds are the words of Process.Build. A word that begins with a dash takes functions of that kind away.
var Builds = []string{"-verify", "-calculate", "-save", "-load", "-expand", "more", "row2"}

// Hows are the ways in which clients submit rows.
var Hows = []string{
	"stream",   // one stream
	"call",     // a call for each batch
	"producer", // a stream that keeps its identity over kills of the client
	"idle",     // opens a stream, and submits its rows after long pauses
	"gone",     // goes away in the middle, without closing
	"slow",     // does not take its answers for long times
	"wrong",    // sends messages that the protocol forbids, beside ordinary ones
	"intruder", // opens sessions at workers as if it were a coordinator, beside ordinary rows
	"redrive",  // mends dead letters and redrives them, beside ordinary rows
	"watch",    // submits nothing: calls the verbs of the command line
}
