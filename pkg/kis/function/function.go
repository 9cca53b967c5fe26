// Package function makes functions that are not linked to a flow.
package function

import "github.com/kisgrid/kisgrid/pkg/kis"

// NewKisFunction makes a function that belongs to a flow without being linked to it. Its Call calls the function that is
// registered with kis.Pool under its name. For a nil configuration it returns nil.
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
