package kisflow

import (
	"context"
	"reflect"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/conn"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
	"github.com/kisgrid/kisgrid/pkg/kis/function"
	"github.com/kisgrid/kisgrid/pkg/kis/id"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
	"github.com/kisgrid/kisgrid/pkg/kis/metrics"
	"github.com/kisgrid/kisgrid/pkg/kis/serialize"
)

// A program that only changes its imports finds KisFlow's names, with the types that it uses them as.
var _ func(string, kis.FaaS) (*kis.FaaSDesc, error) = kis.NewFaaSDesc
var _ kis.Serialize = new(serialize.DefaultSerialize)
var _ kis.Serialize = kis.FaaSDesc{}
var _ kis.ConnInit = func(kis.Connector) error { return nil }
var _ kis.CaaS = func(context.Context, kis.Connector, kis.Function, kis.Flow, any) (any, error) { return nil, nil }
var _ []kis.ActionFunc = []kis.ActionFunc{kis.ActionAbort, kis.ActionDataReuse, kis.ActionForceEntryNext, kis.ActionJumpFunc("")}
var _ func([]kis.ActionFunc) kis.Action = kis.LoadActions
var _ func(*config.KisFlowConfig) kis.Flow = flow.NewKisFlow
var _ func(kis.Flow, *config.KisFuncConfig) kis.Function = function.NewKisFunction
var _ func(string) error = file.ConfigImportYaml
var _ func(kis.Flow, string) error = file.ConfigExportYaml
var _ func(...string) string = id.KisID
var _ func(log.KisLogger) = log.SetLogger
var _ func() log.KisLogger = log.Logger
var _ func() = metrics.InitMetrics
var _ func() = metrics.RunMetrics
var _ func(string) error = metrics.RunMetricsService
var _ func(string, common.KisOnOff) *config.KisFlowConfig = config.NewFlowConfig
var _ func(string, common.KisMode, *config.KisSource, *config.KisFuncOption) *config.KisFuncConfig = config.NewFuncConfig
var _ func(string, string, common.KisConnType, string, config.FParam) *config.KisConnConfig = config.NewConnConfig
var _ = config.KisFlowFunctionParam{FuncName: "", Params: config.FParam{}}
var _ = config.KisFuncOption{CName: "", RetryTimes: 0, RetryDuration: 0, Params: config.FParam{}}
var _ = config.KisSource{Name: "", Must: []string{}}
var _ []common.KisMode = []common.KisMode{common.V, common.S, common.L, common.C, common.E}
var _ []common.KisConnType = []common.KisConnType{common.REDIS, common.MYSQL, common.KAFKA, common.TIDB, common.ES}
var _ []common.KisOnOff = []common.KisOnOff{common.FlowEnable, common.FlowDisable}
var _ common.KisDataMap = map[string]common.KisRowArr{"": {common.KisRow(1)}}
var _ []string = []string{common.FunctionIDFirstVirtual, common.FunctionIDLastVirtual, common.KisIDTypeFlow}
var _ interface{ Init() error } = conn.NewKisConnector(config.NewConnConfig("", "", common.REDIS, "", nil))

// The pool's methods have KisFlow's names.
func TestPoolHasKisFlowsMethods(t *testing.T) {
	pool := reflect.TypeOf(kis.Pool())
	for _, name := range []string{"AddFlow", "GetFlow", "GetFlows", "FaaS", "CallFunction", "CaaSInit", "CallConnInit", "CaaS", "CallConnector"} {
		if _, ok := pool.MethodByName(name); !ok {
			t.Errorf("kis.Pool() has no %s", name)
		}
	}
}
