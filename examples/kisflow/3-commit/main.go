// The program commits rows as texts, structs and pointers, one by one and in batches.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kisgrid/kisgrid/examples/kisflow/3-commit/commit"
	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
)

func init() { commit.Register(kis.Pool()) }

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
	_ = flow1.CommitRowBatch([]string{
		`{"stu_id":103, "score_1":100, "score_2":90, "score_3":80}`,
		`{"stu_id":104, "score_1":100, "score_2":70, "score_3":60}`,
	})
	_ = flow1.CommitRow(scores.Score{StuId: 106, Score1: 80, Score2: 81, Score3: 82})
	_ = flow1.CommitRow(&scores.Score{StuId: 107, Score1: 82, Score2: 83, Score3: 84})
	_ = flow1.CommitRowBatch([]scores.Score{{StuId: 108, Score1: 82, Score2: 83, Score3: 84}})
	_ = flow1.CommitRowBatch([]*scores.Score{{StuId: 110, Score1: 82, Score2: 83, Score3: 84}})
	return flow1.Run(ctx)
}
