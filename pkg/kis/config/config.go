// Package config makes KisFlow's configurations in code: of flows, functions, connectors and the process. They are the structs of
// package kis under KisFlow's names.
package config

import (
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
)

// KisFlow's names of the configurations in package kis.
type (
	FParam               = kis.FParam
	KisFlowConfig        = kis.FlowConfig
	KisFlowFunctionParam = kis.FlowFunctionParam
	KisFuncConfig        = kis.FuncConfig
	KisFuncOption        = kis.FuncOption
	KisSource            = kis.Source
	KisConnConfig        = kis.ConnConfig
)

// NewFlowConfig makes the configuration of a flow without functions. Link functions to the flow that flow.NewKisFlow makes of it.
func NewFlowConfig(name string, enable common.KisOnOff) *KisFlowConfig {
	return &KisFlowConfig{KisType: string(definition.KindFlow), FlowName: name, Status: int(enable)}
}

// NewFuncConfig makes the configuration of a function. A nil source stands for one that is called unNamedSource and needs no
// fields. option may be nil.
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

// NewConnConfig makes the configuration of a connector. addr has the addresses of the store, separated by commas. param may be
// nil.
func NewConnConfig(name, addr string, t common.KisConnType, key string, param FParam) *KisConnConfig {
	return &KisConnConfig{KisType: string(definition.KindConn), CName: name, AddrString: addr, Type: t, Key: key, Params: param}
}

// KisGlobalConfig is the settings of a process.
type KisGlobalConfig struct {
	KisType string `yaml:"kistype"`
	// EnableProm turns the metrics of flows on. PrometheusListen serves them at the address PrometheusServe, which is a
	// host:port.
	EnableProm       bool   `yaml:"prometheus_enable"`
	PrometheusListen bool   `yaml:"prometheus_listen"`
	PrometheusServe  string `yaml:"prometheus_serve"`
}

// GlobalConfig is the settings of this process. Everything is off until the program, or an import of documents, sets it. Set it
// before flows run.
var GlobalConfig = new(KisGlobalConfig)
