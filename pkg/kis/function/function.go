// Package function makes functions that are not linked to a flow.
package function

import "github.com/kisgrid/kisgrid/pkg/kis"

// NewKisFunction makes a function whose GetFlow returns flow, without linking it to that flow. flow may be nil. The
// function's Call calls the Go function that is registered with kis.Pool under its name. For a nil configuration it
// returns nil.
func NewKisFunction(flow kis.Flow, config *kis.FuncConfig) kis.Function {
	if config == nil {
		return nil
	}
	f := kis.NewFunction(kis.Pool(), config)
	if flow != nil {
		_ = f.SetFlow(flow) // refuses nil only
	}
	return f
}
