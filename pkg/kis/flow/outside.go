package flow

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Input returns nil: a flow that a program made is in no function. Functions ask the flow that they get.
func (f *KisFlow) Input() []any { return nil }

// GetFuncParam returns "": a flow that a program made is in no function. Functions ask the flow that they get.
func (f *KisFlow) GetFuncParam(string) string { return "" }

// GetFuncParamAll returns nil: a flow that a program made is in no function. Functions ask the flow that they get.
func (f *KisFlow) GetFuncParamAll() kis.FParam { return nil }

// GetThisFunction returns the function that ran last, or nil if none has.
func (f *KisFlow) GetThisFunction() kis.Function { return f.chain.Function(int(f.last.Load()) - 1) }

// GetThisFuncConf returns the configuration of the function that ran last, or nil if none has.
func (f *KisFlow) GetThisFuncConf() *kis.FuncConfig {
	if function := f.GetThisFunction(); function != nil {
		return function.GetConfig()
	}
	return nil
}

// Next is an error: a flow that a program made is in no function. Functions ask the flow that they get.
func (f *KisFlow) Next(...kis.ActionFunc) error { return f.outside() }

// GetConnector is an error: a flow that a program made is in no function. Functions ask the flow that they get.
func (f *KisFlow) GetConnector() (kis.Connector, error) { return nil, f.outside() }

// GetConnConf is an error: a flow that a program made is in no function. Functions ask the flow that they get.
func (f *KisFlow) GetConnConf() (*kis.ConnConfig, error) { return nil, f.outside() }

// From returns the flow itself, which commits rows to its next Run: outside a function, rows come from no other row.
func (f *KisFlow) From(int) kis.Committer { return f }

// outside is the error of methods that only functions may call.
func (f *KisFlow) outside() error {
	return fmt.Errorf("flow %s is in no function: functions ask the flow that they get", f.GetName())
}
