// The program runs a flow and a fork of the flow at the same time.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

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
	flowClone1 := flow1.Fork(ctx)
	_ = flow1.CommitRow(`{"stu_id":101, "score_1":100, "score_2":90, "score_3":80}`)
	_ = flow1.CommitRow(`{"stu_id":1001, "score_1":100, "score_2":70, "score_3":60}`)
	_ = flowClone1.CommitRow(`{"stu_id":201, "score_1":100, "score_2":90, "score_3":80}`)
	_ = flowClone1.CommitRow(`{"stu_id":2001, "score_1":100, "score_2":70, "score_3":60}`)

	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, f := range []kis.Flow{flow1, flowClone1} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = f.Run(ctx)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}
