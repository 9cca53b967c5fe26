// The program runs a flow whose first function drops wrong rows by not committing them.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
)

func init() { scores.Register(kis.Pool()) }

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
	_ = flow1.CommitRow(`{"stu_id":1001, "score_1":100, "score_2":70, "score_3":60}`)
	return flow1.Run(ctx)
}
