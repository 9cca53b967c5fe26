package kis

import (
	"context"
	"time"
)

// Flow is KisFlow's view of a flow. There are two kinds.
//
// A FaaS function gets a Flow for the run that it is called for. The function may use it until it returns, on one goroutine. With
// it the function asks for its parameters and its connector, commits rows to the next function, and asks for actions.
//
// A program makes a Flow with flow.NewKisFlow or file.ConfigImportYaml, commits rows to it and calls Run. Such a Flow is safe for
// concurrent use. Its methods about "the function" are for functions: they return nothing or an error, except that GetThisFunction
// and GetThisFuncConf return the function that ran last.
type Flow interface {
	// Run runs the flow for the rows that were committed to it since the last Run. A function can't run the flow that it is in.
	Run(ctx context.Context) error
	// Link adds a function to the end of the flow and of the flow's configuration; params are the flow's parameters for it.
	// AppendNewFunction adds it to the flow only. A function can't change the flow that it is in.
	Link(function *FuncConfig, params FParam) error
	AppendNewFunction(function *FuncConfig, params FParam) error
	// GetName returns the flow's name, GetID a random id of this copy of the flow.
	GetName() string
	GetID() string
	// Input returns the function's rows as they came: rows of a client as JSON in strings, other rows as the values that the
	// function before passed on. It returns nil once the function has returned.
	Input() []any
	// CommitRow passes a row on: a struct, a pointer to one, JSON as a string or []byte, or any other value that JSON can hold. A
	// nil row is an error.
	CommitRow(row any) error
	// CommitRowBatch passes on each element of a slice as a row.
	CommitRowBatch(rows any) error
	// From says where rows come from: the rows that are committed through the Committer come from the row given, a number from 0.
	// A function calls it for all of its rows or for none.
	//
	// Without it KisGrid finds out where rows come from: if all rows committed are pointers that the function was given, each comes
	// from the row with the same pointer; otherwise, if as many rows are committed as were given, each comes from the row in its
	// place. In any other case every row given counts as an origin of every row committed; in a flow with a shard_key the rows are
	// then dead, with LINEAGE_LOST.
	From(given int) Committer
	// Next names the actions after the function, in place of passing on the rows that it committed: return
	// flow.Next(kis.ActionDataReuse).
	Next(actions ...ActionFunc) error
	// GetThisFunction returns the function, GetThisFuncConf its configuration. They return nil outside a function.
	GetThisFunction() Function
	GetThisFuncConf() *FuncConfig
	// GetConnector returns the function's connector, and opens it if it is not open. It is an error once the function has
	// returned. GetConnConf returns the connector's configuration.
	GetConnector() (Connector, error)
	GetConnConf() (*ConnConfig, error)
	// GetConfig returns the flow's configuration. GetFuncConfigByName returns that of one of its functions, or nil if it has none
	// of the name.
	GetConfig() *FlowConfig
	GetFuncConfigByName(name string) *FuncConfig
	// GetFuncParam returns a parameter of the function: the value from the flow's params, or else from the function's
	// default_params, or "". GetFuncParamAll returns a copy of all of them. GetFuncParamsAllFuncs returns those of all functions,
	// by the function's id.
	GetFuncParam(key string) string
	GetFuncParamAll() FParam
	GetFuncParamsAllFuncs() map[string]FParam
	// GetCacheData returns a value that SetCacheData keeps in the memory of this copy of the flow, or nil. With expire 0 a value
	// is kept for ever.
	GetCacheData(key string) any
	SetCacheData(key string, value any, expire time.Duration)
	// GetMetaData returns a value that SetMetaData keeps with this copy of the flow, or nil.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
	// Fork makes the same flow anew: with the same functions, parameters and connectors, but without rows, cache and metadata.
	Fork(ctx context.Context) Flow
}

// Committer passes rows on to the next function, as the methods of Flow with the same names do. Flow.From returns one for the rows
// that come from one input row.
type Committer interface {
	CommitRow(row any) error
	CommitRowBatch(rows any) error
}

// Action says which actions a function asked for with one call of Flow.Next.
type Action struct {
	// DataReuse passes on the rows that the function was given, and drops the rows that it committed.
	DataReuse bool
	// ForceEntryNext enters the next function even if no row was committed.
	ForceEntryNext bool
	// JumpFunc is the name of the function to go to next, as with Jump. "" means none.
	JumpFunc string
	// Abort ends the flow for all rows, as the error does that the function kis.Abort returns.
	Abort bool
}

// ActionFunc is an argument of Flow.Next. It asks for an action by setting a field of the Action.
type ActionFunc func(*Action)

// ActionAbort asks to end the flow for all rows: return flow.Next(kis.ActionAbort).
func ActionAbort(a *Action) { a.Abort = true }

// ActionDataReuse asks to pass on the rows that the function was given, and to drop the rows that it committed.
func ActionDataReuse(a *Action) { a.DataReuse = true }

// ActionForceEntryNext asks to enter the next function even if no row was committed.
func ActionForceEntryNext(a *Action) { a.ForceEntryNext = true }

// ActionJumpFunc asks to go to the function of this name next.
func ActionJumpFunc(name string) ActionFunc { return func(a *Action) { a.JumpFunc = name } }

// LoadActions calls all actions, and returns the Action that they ask for together. A nil ActionFunc is left out.
func LoadActions(actions []ActionFunc) Action {
	var a Action
	for _, ask := range actions {
		if ask != nil {
			ask(&a)
		}
	}
	return a
}
