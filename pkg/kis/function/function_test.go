package function_test

import (
	"context"
	"regexp"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/conn"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
	"github.com/kisgrid/kisgrid/pkg/kis/function"
	"github.com/kisgrid/kisgrid/pkg/kis/id"
)

// A function that is in no flow.
func TestFunctionAlone(t *testing.T) {
	called := false
	kis.Pool().FaaS("alone", func(context.Context, kis.Flow) error { called = true; return nil })
	f := flow.NewKisFlow(config.NewFlowConfig("F", common.FlowEnable))
	c := config.NewFuncConfig("alone", common.C, nil, nil)
	fn := function.NewKisFunction(f, c)
	if fn.GetFlow() != f || fn.GetConfig() != c || fn.GetPrevId() != common.FunctionIDFirstVirtual || fn.GetNextId() != common.FunctionIDLastVirtual {
		t.Errorf("the function is %+v", fn)
	}
	before := fn.GetID()
	fn.CreateId()
	if fn.GetID() == before {
		t.Error("the function has its old id")
	}
	other := function.NewKisFunction(f, c)
	fn.SetN(other)
	other.SetP(fn)
	if fn.Next() != other || other.GetPrevId() != fn.GetID() {
		t.Error("the functions are not linked")
	}
	connector := conn.NewKisConnector(config.NewConnConfig("c", "localhost:1", common.REDIS, "", nil))
	if err := fn.AddConnector(connector); err != nil || fn.GetConnector() != connector {
		t.Errorf("the function's connector is %v (%v)", fn.GetConnector(), err)
	}
	if fn.SetConfig(nil) == nil || fn.SetFlow(nil) == nil || fn.AddConnector(nil) == nil {
		t.Error("the function takes nil")
	}
	if err := fn.Call(t.Context(), f); err != nil || !called {
		t.Errorf("Call returned %v; called: %v", err, called)
	}
	for what, got := range map[string]string{"flow-": f.GetID(), "func-": fn.GetID(), "conn-": connector.GetID(), "a-b-": id.KisID("a", "b")} {
		if !regexp.MustCompile("^" + what + "[0-9a-f]{32}$").MatchString(got) {
			t.Errorf("%s is no id that begins with %s", got, what)
		}
	}
	if function.NewKisFunction(f, nil) != nil {
		t.Error("a function without a configuration")
	}
}
