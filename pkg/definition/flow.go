package definition

import "time"

// What a document that says nothing gets.
const (
	DefaultFlowTimeout     = time.Minute
	DefaultFunctionTimeout = 30 * time.Second
	DefaultWait            = 30 * time.Second
)

// MaxSteps is how many steps a flow may have where nothing else is said. Only those who take a document in look at it: lint,
// apply, and the leader; Parse does not.
const MaxSteps = 1000

// MaxCopies is the most copies that a worker may run of a flow: as many as there are slots.
const MaxCopies = 65536

// Flow is a chain of functions: `kistype: flow`.
type Flow struct {
	// Name is `flow_name`.
	Name string
	// Enabled is `status`: 1 is on, 0 or none is off. A batch for a flow that is off is refused.
	Enabled bool
	// Functions are `flows`, in the order in which rows pass through them. There is at least one; a name may come twice.
	Functions []FlowFunction
	// ShardKey is `shard_key`: the JSON field that decides where a row goes. Empty: batches go whole. It may be anything that
	// encoding/json takes as a field's name in a tag.
	ShardKey string
	// Copies is `copies`: how many copies of the flow a worker runs side by side, 1 to MaxCopies. 0: the worker's GOMAXPROCS.
	Copies int
	// Timeout is `timeout`: how long a row may take once begun, what it waits included. Default 1m.
	Timeout  time.Duration
	Document Document
}

// FlowFunction is one step of a flow: an entry of `flows`.
type FlowFunction struct {
	// Name is `fname`.
	Name string
	// Params are `params`, which lie over the function's default_params.
	Params map[string]string
	// Line is the entry's line in the document.
	Line int
}

// Mode is what a function is for: `fmode`.
type Mode string

// The modes.
const (
	ModeVerify    Mode = "Verify"
	ModeSave      Mode = "Save"
	ModeLoad      Mode = "Load"
	ModeCalculate Mode = "Calculate"
	ModeExpand    Mode = "Expand"
)

// OnMissing is what a Load does when its key is not there: `option.on_missing`.
type OnMissing string

// What a Load may do.
const (
	OnMissingWait OnMissing = "wait" // park the row until the key is saved, at most `option.wait`
	OnMissingDead OnMissing = "dead" // give the row up
	OnMissingNull OnMissing = "null" // call the function with nil
)

// Source says where a function's rows come from: `source`.
type Source struct {
	Name string
	// Must are the fields that every row must have.
	Must []string
}

// Function is one function's document: `kistype: func`. The code behind it is registered in the worker under the same name.
type Function struct {
	// Name is `fname`.
	Name string
	// Mode is `fmode`.
	Mode   Mode
	Source Source
	// Timeout is `timeout`: how long one call may take. Default 30s.
	Timeout time.Duration

	// Connector is `option.cname`; empty: none. ConnectorLine is where it stands in the document.
	Connector     string
	ConnectorLine int
	// RetryTimes is `option.retry_times`: how often a call that failed is made again. Default 0.
	RetryTimes int
	// RetryInterval is `option.retry_duration`, a duration or a number of milliseconds; KisFlow's own spelling of the key,
	// `return_duration`, works too. Default 0: at once.
	RetryInterval time.Duration
	// DefaultParams are `option.default_params`.
	DefaultParams map[string]string
	// OnMissing is `option.on_missing`, of Load functions only. Default wait.
	OnMissing OnMissing
	// Wait is `option.wait`: how long a Load waits for its key. Default 30s.
	Wait time.Duration
	// Save is `option.save`: a Save that needs no code. nil: none.
	Save *DeclaredSave
	// Load is `option.load`: a Load that needs no code. nil: none.
	Load     *DeclaredLoad
	Document Document
}

// SaveOp is what a declared Save does to its key.
type SaveOp string

// The operations.
const (
	SaveSet    SaveOp = "set"
	SaveIncr   SaveOp = "incr"
	SaveAppend SaveOp = "append"
	SaveDelete SaveOp = "delete"
)

// DeclaredSave is `option.save`: `key`, and one of `set`, `incr`, `append` (field: row field) or `delete: true`.
type DeclaredSave struct {
	// Key is put together from the row; the connector's key prefix comes before it.
	Key Template
	Op  SaveOp
	// Fields maps a field of the key to the row's field that it gets its value from; empty for SaveDelete.
	Fields map[string]string
	// Line is where the declaration stands in the document.
	Line int
}

// LoadType is as what a declared Load reads a text.
type LoadType string

// The types. A text that is not of its type ends its row.
const (
	LoadString LoadType = "string" // a string, whatever it looks like
	LoadInt    LoadType = "int"    // a whole number, in digits alone
	LoadFloat  LoadType = "float"  // any number of JSON
	LoadBool   LoadType = "bool"   // true or false
	LoadJSON   LoadType = "json"   // any JSON
)

// DeclaredLoad is `option.load`: `key`, `set` (row field: field) and `types` (row field: type).
type DeclaredLoad struct {
	Key Template
	// Fields maps a field of the row to the field of the key that it gets its value from.
	Fields map[string]string
	// Types says as what fields of the row are read which no later function of the flow reads. A field that is not in it is JSON
	// if its text is that, else a string.
	Types map[string]LoadType
	// Line is where the declaration stands in the document.
	Line int
}

// Connector is one shared store: `kistype: conn`. Addrs, Key, Params, Username and PasswordFile may hold ${NAME} or
// ${NAME:default}: Resolve fills them in where the connection is opened. A literal ${ is written $${.
type Connector struct {
	// Name is `cname`.
	Name string
	// Type is `type`: redis, memory, mysql, kafka, tidb or es.
	Type string
	// Key is `key`: what the store's keys start with.
	Key string
	// Addrs are `addrs`, which the document separates by commas.
	Addrs  []string
	Params map[string]string
	// Load and Save are KisFlow's lists of the functions that use the connector; nothing depends on them.
	Load, Save []string
	// TLS is `tls`. Default false.
	TLS bool
	// Username is `username`.
	Username string
	// PasswordFile is `password_file`: a file in the worker that holds the password.
	PasswordFile string
	// Replicas is `replicas`: how many replicas must have a Save before it counts. Default 0.
	Replicas int
	Document Document
}

// Global is `kistype: global`: KisFlow's settings of a process. It rules local runs; flags rule clusters.
type Global struct {
	PrometheusEnable bool   // `prometheus_enable`
	PrometheusListen bool   // `prometheus_listen`
	PrometheusServe  string // `prometheus_serve`: the address to listen on
	Document         Document
}
