// The program gives the functions of a flow parameters that only this flow has, and runs the flow and a fork of it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
)

func init() { scores.Register(kis.Pool()) }

func main() {
	ctx := context.Background()
	params := config.FParam{"school": "Tsinghua", "country": "China"}

	flow1 := flow.NewKisFlow(config.NewFlowConfig("CalStuAvgScore", common.FlowEnable))
	_ = flow1.Link(config.NewFuncConfig("VerifyStu", common.V, nil, nil), params)
	_ = flow1.Link(config.NewFuncConfig("AvgStuScore", common.C, nil, nil), params)
	_ = flow1.Link(config.NewFuncConfig("PrintStuAvgScore", common.E, nil, nil), params)
	_ = flow1.CommitRow(`{"stu_id":101, "score_1":100, "score_2":90, "score_3":80}`)
	run(ctx, flow1)

	flowClone1 := flow1.Fork(ctx)
	_ = flowClone1.CommitRow(`{"stu_id":102, "score_1":100, "score_2":70, "score_3":60}`)
	run(ctx, flowClone1)
}

func run(ctx context.Context, flow kis.Flow) {
	if err := flow.Run(ctx); err != nil {
		fmt.Println("err:", err)
		os.Exit(1)
	}
}
