// Package common has KisFlow's shared names.
package common

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A row is any value, and rows are many.
type (
	KisRow     = any
	KisRowArr  = []any
	KisDataMap = map[string]KisRowArr
)

// Kinds of documents, and the beginnings of random ids.
const (
	KisIDTypeFlow      = string(definition.KindFlow)
	KisIDTypeConnector = string(definition.KindConn)
	KisIDTypeFunction  = string(definition.KindFunc)
	KisIDTypeGlobal    = string(definition.KindGlobal)
	KisIDJoinChar      = "-"
)

// The ids beside those of a flow's first and last functions.
const (
	FunctionIDFirstVirtual = kis.FirstVirtual
	FunctionIDLastVirtual  = kis.LastVirtual
)

// KisMode is what a function is for.
type KisMode = kis.Mode

// The modes.
const (
	V = KisMode(definition.ModeVerify)
	S = KisMode(definition.ModeSave)
	L = KisMode(definition.ModeLoad)
	C = KisMode(definition.ModeCalculate)
	E = KisMode(definition.ModeExpand)
)

// KisOnOff is whether a flow runs.
type KisOnOff int

// A flow that is disabled refuses rows and runs.
const (
	FlowEnable  KisOnOff = 1
	FlowDisable KisOnOff = 0
)

// KisConnType is the kind of store behind a connector.
type KisConnType = kis.ConnType

// The kinds of stores.
const (
	REDIS KisConnType = "redis"
	MYSQL KisConnType = "mysql"
	KAFKA KisConnType = "kafka"
	TIDB  KisConnType = "tidb"
	ES    KisConnType = "es"
)

// How long a flow's cache keeps values, and how often, in minutes, it looks for those that expired.
const (
	DeFaultFlowCacheCleanUp               = 5
	DefaultExpiration       time.Duration = 0
)

// Metrics: the route, the labels, and each one's name and what it counts.
const (
	MetricsRoute = "/metrics"

	LabelFlowName     = "flow_name"
	LabelFlowID       = "flow_id"
	LabelFunctionName = "func_name"
	LabelFunctionMode = "func_mode"

	CounterKisflowDataTotalName = "kisflow_data_total"
	CounterKisflowDataTotalHelp = "Rows that all flows were run for."

	GamgeFlowDataTotalName = "flow_data_total"
	GamgeFlowDataTotalHelp = "Rows that the flow was run for."

	GangeFlowScheCntsName = "flow_schedule_cnts"
	GangeFlowScheCntsHelp = "Runs of the flow."

	GangeFuncScheCntsName = "func_schedule_cnts"
	GangeFuncScheCntsHelp = "Runs of the function."

	HistogramFunctionDurationName = "func_run_duration"
	HistogramFunctionDurationHelp = "How long the function took for a run's rows, in milliseconds."

	HistogramFlowDurationName = "flow_run_duration"
	HistogramFlowDurationHelp = "How long the flow took for a run's rows, in milliseconds."
)
