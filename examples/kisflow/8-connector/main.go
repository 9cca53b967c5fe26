// The program runs two flows at the same time. One of them loads the values that the other one saves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/kisgrid/kisgrid/examples/kisflow/8-connector/connector"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
)

func init() { connector.Register(kis.Pool()) }

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
	rows := map[string][]string{
		"CalStuAvgScore12": {`{"stu_id":101, "score_1":100, "score_2":90}`, `{"stu_id":102, "score_1":100, "score_2":80}`},
		"CalStuAvgScore3":  {`{"stu_id":101, "score_3":80}`, `{"stu_id":102, "score_3":70}`},
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, name := range []string{"CalStuAvgScore3", "CalStuAvgScore12"} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			flow := kis.Pool().GetFlow(name)
			_ = flow.CommitRowBatch(rows[name])
			errs[i] = flow.Run(ctx)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}
