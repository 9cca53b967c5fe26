// Package config makes KisFlow's configurations in code: of flows, functions, connectors and the process.
package config

import (
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
)

// KisFlow's names of the configurations.
type (
	FParam               = kis.FParam
	KisFlowConfig        = kis.FlowConfig
	KisFlowFunctionParam = kis.FlowFunctionParam
	KisFuncConfig        = kis.FuncConfig
	KisFuncOption        = kis.FuncOption
	KisSource            = kis.Source
	KisConnConfig        = kis.ConnConfig
)

// NewFlowConfig is a flow without functions: link them to the flow that flow.NewKisFlow makes of it.
func NewFlowConfig(name string, enable common.KisOnOff) *KisFlowConfig {
	return &KisFlowConfig{KisType: string(definition.KindFlow), FlowName: name, Status: int(enable)}
}

// NewFuncConfig is a function. Without a source it is called unNamedSource, and no field is a must; option may be nil.
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

// NewConnConfig is a connector to the store at these addresses, separated by commas. param may be nil.
func NewConnConfig(name, addr string, t common.KisConnType, key string, param FParam) *KisConnConfig {
	return &KisConnConfig{KisType: string(definition.KindConn), CName: name, AddrString: addr, Type: t, Key: key, Params: param}
}

// KisGlobalConfig is a process's settings.
type KisGlobalConfig struct {
	KisType string `yaml:"kistype"`
	// EnableProm counts what flows do, PrometheusListen serves the counts at PrometheusServe, a host:port.
	EnableProm       bool   `yaml:"prometheus_enable"`
	PrometheusListen bool   `yaml:"prometheus_listen"`
	PrometheusServe  string `yaml:"prometheus_serve"`
}

// GlobalConfig is the process's settings: everything is off until a program or an import sets it, before flows run.
var GlobalConfig = new(KisGlobalConfig)
