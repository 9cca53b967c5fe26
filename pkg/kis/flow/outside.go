package flow

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Input returns nil: it is for functions, which call it on the Flow that they get. A KisFlow is not inside a
// function.
func (f *KisFlow) Input() []any { return nil }

// GetFuncParam returns "": it is for functions, which call it on the Flow that they get. A KisFlow is not inside a
// function.
func (f *KisFlow) GetFuncParam(string) string { return "" }

// GetFuncParamAll returns nil: it is for functions, which call it on the Flow that they get. A KisFlow is not inside
// a function.
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

// Next returns an error: it is for functions, which call it on the Flow that they get. A KisFlow is not inside a
// function.
func (f *KisFlow) Next(...kis.ActionFunc) error { return f.outside() }

// GetConnector returns an error: it is for functions, which call it on the Flow that they get. A KisFlow is not
// inside a function.
func (f *KisFlow) GetConnector() (kis.Connector, error) { return nil, f.outside() }

// GetConnConf returns an error: it is for functions, which call it on the Flow that they get. A KisFlow is not
// inside a function.
func (f *KisFlow) GetConnConf() (*kis.ConnConfig, error) { return nil, f.outside() }

// From returns the flow itself, so that rows committed through it are rows for the next Run. Outside a function
// there are no input rows that they could come from.
func (f *KisFlow) From(int) kis.Committer { return f }

// outside returns the error of methods that only functions may call, on the Flow that they get.
func (f *KisFlow) outside() error {
	return fmt.Errorf("flow %s is in no function: functions ask the flow that they get", f.GetName())
}
