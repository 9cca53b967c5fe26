// The program runs a flow whose first function passes its rows on unchanged, or aborts all of them if one is wrong.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kisgrid/kisgrid/examples/kisflow/7-flow_action/action"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
)

func init() { action.Register(kis.Pool()) }

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Println("err:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := file.ConfigImportYaml("conf/"); err != nil {
		return err
	}
	flow1 := kis.Pool().GetFlow("CalStuAvgScore")
	_ = flow1.CommitRow(`{"stu_id":101, "score_1":100, "score_2":90, "score_3":80}`)
	_ = flow1.CommitRow(`{"stu_id":102, "score_1":100, "score_2":90, "score_3":70}`)
	if err := flow1.Run(ctx); err != nil {
		return err
	}
	_ = flow1.CommitRow(`{"stu_id":103, "score_1":100, "score_2":90, "score_3":80}`)
	_ = flow1.CommitRow(`{"stu_id":1003, "score_1":100, "score_2":90, "score_3":70}`)
	return flow1.Run(ctx)
}
