// The program makes a flow in code and runs it for two rows.
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

func init() {
	kis.Pool().FaaS("AvgStuScore", scores.AvgStuScore)
	kis.Pool().FaaS("PrintStuAvgScore", scores.PrintStuAvgScore)
}

func main() {
	flow1 := flow.NewKisFlow(config.NewFlowConfig("CalStuAvgScore", common.FlowEnable))
	_ = flow1.Link(config.NewFuncConfig("AvgStuScore", common.C, nil, nil), nil)
	_ = flow1.Link(config.NewFuncConfig("PrintStuAvgScore", common.E, nil, nil), nil)

	_ = flow1.CommitRow(`{"stu_id":101, "score_1":100, "score_2":90, "score_3":80}`)
	_ = flow1.CommitRow(`{"stu_id":102, "score_1":100, "score_2":70, "score_3":60}`)
	if err := flow1.Run(context.Background()); err != nil {
		fmt.Println("err:", err)
		os.Exit(1)
	}
}
