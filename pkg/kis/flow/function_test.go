package flow_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
)

// Any order of parameters, several slices, and zero values for whatever else.
func TestShapes(t *testing.T) {
	k := newKit(t)
	k.link("shape", func(texts []string, n int, f kis.Flow, s *in, ctx context.Context) error {
		k.seen = append(k.seen, fmt.Sprint(texts, n, s, ctx != nil, f.GetName()))
		return nil
	})
	k.commit("plain", `"quoted"`)
	k.run()
	k.saw("[plain quoted] 0 <nil> trueF")
}

// Strings that look like JSON come as they went, from the program and from a function; a function that is called by hand and a
// row type's serializer read them so too.
func TestTexts(t *testing.T) {
	k := newKit(t)
	texts := []string{"123", "true", "null", "1e3", `{"a":1}`, "[1, 2]", " 7 ", "plain", "<"}
	look := func(_ context.Context, f kis.Flow, rows []string) error {
		k.seen = append(k.seen, strings.Join(rows, "|"))
		return f.CommitRowBatch(rows)
	}
	k.link("first", look)
	k.link("second", look)
	rows := make([]any, len(texts))
	for i, text := range texts {
		rows[i] = text
	}
	k.commit(rows...)
	k.run()
	all := strings.Join(texts, "|")
	k.saw(all, all)
	read, err := new(kis.DefaultSerialize).UnMarshal(rows, reflect.TypeFor[[]string]())
	if got := read.Interface(); err != nil || fmt.Sprint(got) != fmt.Sprint(texts) {
		t.Errorf("the serializer reads %q as %q, %v", texts, got, err)
	}
}

func TestParams(t *testing.T) {
	k := newKit(t)
	k.registry.FaaS("f", func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, f.GetFuncParam("school"), f.GetFuncParam("city"), f.GetFuncParam("none"), fmt.Sprint(f.GetFuncParamAll()),
			fmt.Sprint(f.GetFuncParamsAllFuncs()[f.GetThisFunction().GetID()]))
		return nil
	})
	c := config.NewFuncConfig("f", common.C, nil, &config.KisFuncOption{Params: config.FParam{"school": "default", "city": "Beijing"}})
	if err := k.flow.Link(c, config.FParam{"school": "own"}); err != nil {
		t.Fatal(err)
	}
	k.run()
	k.saw("own", "Beijing", "", "map[city:Beijing school:own]", "map[city:Beijing school:own]")
}

// What a function looks up of its flow.
func TestFunctionInterface(t *testing.T) {
	k := newKit(t)
	look := func(_ context.Context, f kis.Flow) error {
		this := f.GetThisFunction()
		prev, next := "", ""
		if p := this.Prev(); p != nil {
			prev = p.GetConfig().FName
		}
		if n := this.Next(); n != nil {
			next = n.GetConfig().FName
		}
		k.seen = append(k.seen, fmt.Sprint(prev, "<", f.GetThisFuncConf().FName, ">", next,
			this.GetPrevId() == common.FunctionIDFirstVirtual, this.GetNextId() == common.FunctionIDLastVirtual, this.GetFlow() == f,
			strings.HasPrefix(this.GetID(), "func-"), strings.HasPrefix(f.GetID(), "flow-"), len(f.GetID())))
		this.SetMetaData("a", 1)
		if f.GetFuncConfigByName("b") == nil || f.GetFuncConfigByName("none") != nil || len(f.GetConfig().Flows) != 2 {
			t.Error("the flow's configurations are not those linked")
		}
		if err := f.Run(context.Background()); err == nil {
			t.Error("a function ran the flow it is in")
		}
		return f.Next(kis.ActionForceEntryNext)
	}
	k.link("a", look)
	k.link("b", look)
	if k.flow.GetThisFunction() != nil {
		t.Error("a function runs before Run")
	}
	k.run()
	k.saw("<a>btrue false true true true 37", "a<b>false true true true true 37")
	if k.flow.GetThisFunction().GetMetaData("a") != 1 {
		t.Error("the function's metadata is gone after the run")
	}
}

func TestCallFunction(t *testing.T) {
	k := newKit(t)
	k.registry.FaaS("other", func(_ context.Context, f kis.Flow, rows []in) error { return f.CommitRowBatch(rows) })
	k.link("caller", func(ctx context.Context, f kis.Flow) error { return k.registry.CallFunction(ctx, "other", f) })
	k.record("end")
	k.commit(`{"id":1}`)
	k.run()
	k.saw("end[{1}]")
	if err := k.registry.CallFunction(context.Background(), "none", k.flow); batch.CodeOf(err) != batch.CodeUnknownFunction {
		t.Errorf("CallFunction returned %v", err)
	}
}
