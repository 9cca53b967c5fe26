package kis

import (
	"context"
	"time"
)

// Flow is a flow in KisFlow's manner. FaaS functions get one for the run that they are called for: it is the function's during
// the call only, and belongs to one goroutine. Programs make others with flow.NewKisFlow and file.ConfigImportYaml, to commit
// rows to and Run; these are safe for concurrent use. The methods about "the function" are for functions.
type Flow interface {
	// Run runs the flow for the rows committed to it since the last Run. A function can't run the flow that it is in.
	Run(ctx context.Context) error
	// Link adds a function, with the flow's parameters for it, to the flow and to its configuration; AppendNewFunction to the
	// flow only. A function can't change the flow that it is in.
	Link(function *FuncConfig, params FParam) error
	AppendNewFunction(function *FuncConfig, params FParam) error
	// GetName is the flow's name, GetID a random id of this copy of it.
	GetName() string
	GetID() string
	// Input is the function's rows as they came: JSON as strings, else what the function before passed on. It is nil once the call
	// that the flow was given to has returned.
	Input() []any
	// CommitRow passes a row on: a struct, a pointer to one, JSON as a string or []byte, or any value that JSON can hold.
	CommitRow(row any) error
	// CommitRowBatch passes on all rows of a slice.
	CommitRowBatch(rows any) error
	// From names the row given, from 0, that the rows committed through what it returns come from. Without it, rows that are
	// the same pointers or as many as were given name their origin themselves; otherwise all rows given stand behind each
	// row, which a flow with a shard_key refuses (LINEAGE_LOST).
	From(given int) Committer
	// Next says what happens after the function, instead of passing on what it committed: `return flow.Next(…)`.
	Next(actions ...ActionFunc) error
	// GetThisFunction is the function, GetThisFuncConf its configuration; nil outside a function.
	GetThisFunction() Function
	GetThisFuncConf() *FuncConfig
	// GetConnector is the function's connector, open; an error once the call has returned. GetConnConf is its configuration.
	GetConnector() (Connector, error)
	GetConnConf() (*ConnConfig, error)
	// GetConfig is the flow's configuration, GetFuncConfigByName that of one of its functions; nil: it has none of this name.
	GetConfig() *FlowConfig
	GetFuncConfigByName(name string) *FuncConfig
	// GetFuncParam is the function's parameter of that name: the flow's params over the function's default_params; "" if
	// neither has it. GetFuncParamAll is a copy of all of them, GetFuncParamsAllFuncs of those of all functions, by id.
	GetFuncParam(key string) string
	GetFuncParamAll() FParam
	GetFuncParamsAllFuncs() map[string]FParam
	// GetCacheData and SetCacheData use the memory of this copy of the flow; nil: nothing kept. expire 0 keeps for ever.
	GetCacheData(key string) any
	SetCacheData(key string, value any, expire time.Duration)
	// GetMetaData and SetMetaData keep values with this copy of the flow; nil: nothing kept.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
	// Fork is the same flow anew: the functions, parameters and connectors, but none of the rows, cache and metadata.
	Fork(ctx context.Context) Flow
}

// Committer passes rows on.
type Committer interface {
	CommitRow(row any) error
	CommitRowBatch(rows any) error
}

// Action is what ActionFuncs ask for together.
type Action struct {
	// DataReuse passes the function's own rows on and drops what it committed.
	DataReuse bool
	// ForceEntryNext enters the next function even if no row was committed.
	ForceEntryNext bool
	// JumpFunc is the name of the function to go to; see Jump.
	JumpFunc string
	// Abort ends the flow for all rows; see Abort.
	Abort bool
}

// ActionFunc asks for an action.
type ActionFunc func(*Action)

// ActionAbort asks for Abort.
func ActionAbort(a *Action) { a.Abort = true }

// ActionDataReuse asks for DataReuse.
func ActionDataReuse(a *Action) { a.DataReuse = true }

// ActionForceEntryNext asks for ForceEntryNext.
func ActionForceEntryNext(a *Action) { a.ForceEntryNext = true }

// ActionJumpFunc asks to go to the function of that name.
func ActionJumpFunc(name string) ActionFunc { return func(a *Action) { a.JumpFunc = name } }

// LoadActions is what the functions ask for together.
func LoadActions(actions []ActionFunc) Action {
	var a Action
	for _, ask := range actions {
		if ask != nil {
			ask(&a)
		}
	}
	return a
}
