package definition

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/expr"
)

// The defaults of `timeout` in flows and in functions, and of `option.wait` in Load functions.
const (
	DefaultFlowTimeout     = time.Minute
	DefaultFunctionTimeout = 30 * time.Second
	DefaultWait            = 30 * time.Second
)

// MaxSteps is the default limit for the number of steps of a flow. The limit is checked only when a document is taken in, by
// lint, by apply and by the leader. Parse does not check it.
const MaxSteps = 1000

// MaxCopies is the largest number of copies of a flow that a worker may run side by side. It is the number of slots.
const MaxCopies = 65536

// Flow is a chain of functions: `kistype: flow`.
type Flow struct {
	// Name is `flow_name`.
	Name string
	// Enabled is `status`: 1 is on; 0, and no status, is off. A batch for a flow that is off is refused.
	Enabled bool
	// Functions are `flows`, in the order in which rows pass through them. There is at least one. The same function may come
	// twice.
	Functions []FlowFunction
	// ShardKey is `shard_key`: the JSON field whose value decides where a row goes. Empty means that a batch goes to one worker
	// as a whole. It may be any text that encoding/json takes as the name of a field in a tag.
	ShardKey string
	// Copies is `copies`: how many copies of the flow a worker runs side by side, 1 to MaxCopies. 0 means as many as the worker's
	// GOMAXPROCS.
	Copies int
	// Timeout is `timeout`: how long a row may take from its beginning to its end, with all its waiting. Default 1m.
	Timeout  time.Duration
	Document Document
}

// FlowFunction is one step of a flow: an entry of `flows`.
type FlowFunction struct {
	// Name is `fname`.
	Name string
	// Params are `params`. They replace the function's default_params of the same names.
	Params map[string]string
	// Line is the entry's line in the document.
	Line int
}

// Mode is the purpose of a function: `fmode`.
type Mode string

// The modes of functions.
const (
	ModeVerify    Mode = "Verify"
	ModeSave      Mode = "Save"
	ModeLoad      Mode = "Load"
	ModeCalculate Mode = "Calculate"
	ModeExpand    Mode = "Expand"
)

// OnMissing is the action of a Load whose key is not there: `option.on_missing`.
type OnMissing string

// The actions of a Load whose key is not there.
const (
	OnMissingWait OnMissing = "wait" // the row waits until the key is saved, at most for `option.wait`
	OnMissingDead OnMissing = "dead" // the row is dead
	OnMissingNull OnMissing = "null" // the function is called with nil
)

// Source says where the rows of a function come from: `source`. KisGrid does not look at Name.
type Source struct {
	Name string
	// Must are the fields that every row must have.
	Must []string
	// Fields are the types of the rows' fields, for expressions. The zero Type means that they are not declared.
	Fields expr.Type
}

// Function is the document of one function: `kistype: func`. The code behind it is registered in the worker under the same name.
type Function struct {
	// Name is `fname`.
	Name string
	// Mode is `fmode`.
	Mode   Mode
	Source Source
	// Timeout is `timeout`: how long one call may take. Default 30s.
	Timeout time.Duration

	// Connector is `option.cname`. Empty means none. ConnectorLine is the line of the key in the document.
	Connector     string
	ConnectorLine int
	// RetryTimes is `option.retry_times`: how often a failed call is tried again. Default 0.
	RetryTimes int
	// RetryInterval is `option.retry_duration`, the pause before a retry, as a duration or a number of milliseconds. KisFlow's
	// own spelling of the key, `return_duration`, works too. Default 0: no pause.
	RetryInterval time.Duration
	// DefaultParams are `option.default_params`.
	DefaultParams map[string]string
	// OnMissing is `option.on_missing`, for Load functions only. Default wait.
	OnMissing OnMissing
	// Wait is `option.wait`: how long a Load waits for its key. Default 30s.
	Wait time.Duration
	// Save is `option.save`: a Save that needs no code. nil means none.
	Save *DeclaredSave
	// Load is `option.load`: a Load that needs no code. nil means none.
	Load *DeclaredLoad
	// Verify, Calculate and Expand are the expressions of a function that needs no code. nil means none.
	Verify    *DeclaredVerify
	Calculate *DeclaredCalculate
	Expand    *DeclaredExpand
	Document  Document
}

// Declared reports whether the function is made of its document, by option.save, load, verify, calculate or expand, so that no Go code is needed.
func (f *Function) Declared() bool {
	return f.Save != nil || f.Load != nil || f.Verify != nil || f.Calculate != nil || f.Expand != nil
}

// HasExpressions reports whether the document has an expression.
func (f *Function) HasExpressions() bool {
	return f.Verify != nil || f.Calculate != nil || f.Expand != nil || f.Save != nil && (f.Save.KeyExpression != nil || len(f.Save.Expressions) > 0) ||
		f.Load != nil && f.Load.KeyExpression != nil
}

// SaveOp is the operation that a declared Save carries out on its key.
type SaveOp string

// The operations of a declared Save.
const (
	SaveSet    SaveOp = "set"
	SaveIncr   SaveOp = "incr"
	SaveAppend SaveOp = "append"
	SaveDelete SaveOp = "delete"
)

// DeclaredSave is `option.save`: `key`, and one of `set`, `incr`, `append` (each maps fields of the key to fields of the row) or
// `delete: true`.
type DeclaredSave struct {
	// Key is made from fields of the row. The connector's key prefix comes before it.
	Key Template
	Op  SaveOp
	// Fields maps a field of the key to the row's field that has its value. It is empty for SaveDelete.
	Fields map[string]string
	// KeyExpression gives the key, where it is written as "= expression". Key is empty then. Expressions are those values of Fields that are
	// written so: they give the value of the field of that name. nil means none.
	KeyExpression *expr.Source
	Expressions   map[string]expr.Source
	// Line is the line of the declaration in the document.
	Line int
}

// LoadType is the type as which a declared Load reads the text of a field.
type LoadType string

// The types that a document can give a stored text. A row ends as dead if the text is not of the type.
const (
	LoadString LoadType = "string" // the text is a string, whatever it looks like
	LoadInt    LoadType = "int"    // the text is a whole number, written with digits alone
	LoadFloat  LoadType = "float"  // the text is any JSON number
	LoadBool   LoadType = "bool"   // the text is true or false
	LoadJSON   LoadType = "json"   // the text is any JSON value
)

// DeclaredLoad is `option.load`: `key`, `set` (maps fields of the row to fields of the key) and `types` (maps fields of the row
// to types).
type DeclaredLoad struct {
	Key Template
	// KeyExpression gives the key, where it is written as "= expression". Key is empty then. nil means none.
	KeyExpression *expr.Source
	// Fields maps a field of the row to the field of the key that has its value.
	Fields map[string]string
	// Types gives the types of fields of the row. A later function that reads a field decides its type itself, so Types matter
	// for fields that no later function reads. Such a field without a type is read as JSON if its text is JSON, and else as a
	// string.
	Types map[string]LoadType
	// Line is the line of the declaration in the document.
	Line int
}

// Connector is a store that flows share: `kistype: conn`. Addrs, Key, Params, Username and PasswordFile may have ${NAME} or
// ${NAME:default} in them; Resolve fills them in, in the process that opens the connection. A literal ${ is written $${.
type Connector struct {
	// Name is `cname`.
	Name string
	// Type is `type`: redis, memory, mysql, kafka, tidb or es.
	Type string
	// Key is `key`: the beginning of each key in the store.
	Key string
	// Addrs are `addrs`, which the document separates by commas.
	Addrs  []string
	Params map[string]string
	// Load and Save are KisFlow's lists of the functions that use the connector. KisGrid does not look at them.
	Load, Save []string
	// TLS is `tls`. Default false.
	TLS bool
	// Username is `username`.
	Username string
	// PasswordFile is `password_file`: a file of the worker that has the password.
	PasswordFile string
	// Replicas is `replicas`: how many replicas must have a Save before it is acknowledged. Default 0.
	Replicas int
	// Flows is `flows`: patterns of the names of the flows that may use the connector. A pattern with a * at its end stands for all names
	// that begin so. nil means all flows.
	Flows    []string
	Document Document
}

// Global is `kistype: global`: KisFlow's settings of a process. It is for local runs; processes of a cluster have flags.
type Global struct {
	PrometheusEnable bool   // `prometheus_enable`
	PrometheusListen bool   // `prometheus_listen`
	PrometheusServe  string // `prometheus_serve`: the address to listen on
	Document         Document
}
