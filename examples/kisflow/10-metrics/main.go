// The program runs a row each second, and serves Prometheus metrics at /metrics. Its argument, if there is one, is the number of
// rows.
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

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
	rows := math.MaxInt
	if len(os.Args) > 1 {
		var err error
		if rows, err = strconv.Atoi(os.Args[1]); err != nil {
			return err
		}
	}
	for i := range rows {
		_ = flow1.CommitRow(fmt.Sprintf(`{"stu_id":%d, "score_1":100, "score_2":90, "score_3":80}`, 100+i))
		if err := flow1.Run(ctx); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	return nil
}
