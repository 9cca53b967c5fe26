// Package function makes functions apart from a flow.
package function

import "github.com/kisgrid/kisgrid/pkg/kis"

// NewKisFunction is a function that belongs to a flow without being linked to it: Call calls what is registered with
// kis.Pool under its name. It is nil without a configuration.
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
