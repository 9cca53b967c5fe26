// Package config makes KisFlow's configurations in code: of flows, functions, connectors and the process. They are the structs of
// package kis under KisFlow's names.
package config

import (
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
)

// These are KisFlow's names for the configurations in package kis.
type (
	FParam               = kis.FParam
	KisFlowConfig        = kis.FlowConfig
	KisFlowFunctionParam = kis.FlowFunctionParam
	KisFuncConfig        = kis.FuncConfig
	KisFuncOption        = kis.FuncOption
	KisSource            = kis.Source
	KisConnConfig        = kis.ConnConfig
)

// NewFlowConfig makes the configuration of a flow that has no functions yet. flow.NewKisFlow makes a flow of it, to which
// functions are added with Link.
func NewFlowConfig(name string, enable common.KisOnOff) *KisFlowConfig {
	return &KisFlowConfig{KisType: string(definition.KindFlow), FlowName: name, Status: int(enable)}
}

// NewFuncConfig makes the configuration of a function. A nil source stands for a source that is called unNamedSource and asks for
// no fields. A nil option stands for one whose values are all zero.
func NewFuncConfig(name string, mode common.KisMode, source *KisSource, option *KisFuncOption) *KisFuncConfig {
	c := &KisFuncConfig{KisType: string(definition.KindFunc), FName: name, FMode: string(mode), Source: KisSource{Name: "unNamedSource"}}
	if source != nil {
		c.Source = *source
	}
	if option != nil {
		c.Option = *option
	}
	return c
}

// NewConnConfig makes the configuration of a connector. addr has the addresses of the store, separated by commas. key is the
// beginning of the keys in the store. param has the parameters by name; it may be nil.
func NewConnConfig(name, addr string, t common.KisConnType, key string, param FParam) *KisConnConfig {
	return &KisConnConfig{KisType: string(definition.KindConn), CName: name, AddrString: addr, Type: t, Key: key, Params: param}
}

// KisGlobalConfig has the settings of a process: whether its flows have metrics, and where these are served.
type KisGlobalConfig struct {
	KisType string `yaml:"kistype"`
	// EnableProm turns the metrics of flows on. PrometheusListen serves them at the address PrometheusServe, which is a
	// host:port.
	EnableProm       bool   `yaml:"prometheus_enable"`
	PrometheusListen bool   `yaml:"prometheus_listen"`
	PrometheusServe  string `yaml:"prometheus_serve"`
}

// GlobalConfig has the settings of this process. All are off until the program, or an import of documents, sets them. Set them
// before flows run.
var GlobalConfig = new(KisGlobalConfig)
