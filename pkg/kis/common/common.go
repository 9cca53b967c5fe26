// Package common has the names that KisFlow's packages share.
package common

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// These are KisFlow's names for a row, for a list of rows, and for lists of rows by a name. A row may be any value.
type (
	KisRow     = any
	KisRowArr  = []any
	KisDataMap = map[string]KisRowArr
)

// The prefixes of random ids, which are the kinds of documents, and the character between a prefix and the rest of the id.
const (
	KisIDTypeFlow      = string(definition.KindFlow)
	KisIDTypeConnector = string(definition.KindConn)
	KisIDTypeFunction  = string(definition.KindFunc)
	KisIDTypeGlobal    = string(definition.KindGlobal)
	KisIDJoinChar      = "-"
)

// FunctionIDFirstVirtual stands for the id of a function before a flow's first one, FunctionIDLastVirtual for that of a function after
// the last one.
const (
	FunctionIDFirstVirtual = kis.FirstVirtual
	FunctionIDLastVirtual  = kis.LastVirtual
)

// KisMode is the purpose of a function, such as S for Save.
type KisMode = kis.Mode

// The modes of functions: Verify, Save, Load, Calculate and Expand.
const (
	V = KisMode(definition.ModeVerify)
	S = KisMode(definition.ModeSave)
	L = KisMode(definition.ModeLoad)
	C = KisMode(definition.ModeCalculate)
	E = KisMode(definition.ModeExpand)
)

// KisOnOff is the status of a flow: FlowEnable or FlowDisable.
type KisOnOff int

// FlowEnable turns a flow on, FlowDisable turns it off: a flow that is off refuses rows and runs.
const (
	FlowEnable  KisOnOff = 1
	FlowDisable KisOnOff = 0
)

// KisConnType is the kind of store behind a connector.
type KisConnType = kis.ConnType

// The kinds of stores. KisGrid itself opens connectors of the kind redis; for the others, register your own code with CaaSInit.
const (
	REDIS KisConnType = "redis"
	MYSQL KisConnType = "mysql"
	KAFKA KisConnType = "kafka"
	TIDB  KisConnType = "tidb"
	ES    KisConnType = "es"
)

// DeFaultFlowCacheCleanUp is the time, in minutes, between two sweeps in which a flow's cache drops the values that have expired.
// DefaultExpiration is the expire of Flow.SetCacheData with which a value is kept for ever.
const (
	DeFaultFlowCacheCleanUp               = 5
	DefaultExpiration       time.Duration = 0
)

// The route of the metrics, their labels, and the name and help text of each metric.
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
