package flow

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// These are for the flow that a function gets: a flow that a program made is in no function.

// Input is empty: functions ask the flow that they get.
func (f *KisFlow) Input() []any { return nil }

// GetFuncParam is "": functions ask the flow that they get.
func (f *KisFlow) GetFuncParam(string) string { return "" }

// GetFuncParamAll is nil: functions ask the flow that they get.
func (f *KisFlow) GetFuncParamAll() kis.FParam { return nil }

// GetThisFunction is the function that ran last; nil: none has.
func (f *KisFlow) GetThisFunction() kis.Function { return f.chain.Function(int(f.last.Load()) - 1) }

// GetThisFuncConf is the configuration of the function that ran last; nil: none has.
func (f *KisFlow) GetThisFuncConf() *kis.FuncConfig {
	if function := f.GetThisFunction(); function != nil {
		return function.GetConfig()
	}
	return nil
}

// Next is an error: functions ask the flow that they get.
func (f *KisFlow) Next(...kis.ActionFunc) error { return f.outside() }

// GetConnector is an error: functions ask the flow that they get.
func (f *KisFlow) GetConnector() (kis.Connector, error) { return nil, f.outside() }

// GetConnConf is an error: functions ask the flow that they get.
func (f *KisFlow) GetConnConf() (*kis.ConnConfig, error) { return nil, f.outside() }

// From commits to the next Run, whose rows come from nowhere else.
func (f *KisFlow) From(int) kis.Committer { return f }

func (f *KisFlow) outside() error {
	return fmt.Errorf("flow %s is in no function: functions ask the flow that they get", f.GetName())
}
