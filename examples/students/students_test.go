package students_test

import (
	"context"
	"fmt"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// Both flows run in this process. The flow that loads the averages is given its rows first: they wait for the other one.
func Example() {
	local, err := flowexec.NewLocalFS(students.Conf, students.Register)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer local.Close()
	ctx := context.Background()

	thirds, err := local.Stream(ctx, "CalStuAvgScore3")
	if err != nil {
		fmt.Println(err)
		return
	}
	waiting, err := thirds.Send(ctx, batch.Rows(students.Scores3{ID: 101, Score3: 80}, students.Scores3{ID: 102, Score3: 70}))
	if err != nil {
		fmt.Println(err)
		return
	}
	first, err := local.Submit(ctx, "CalStuAvgScore12", batch.Rows(
		students.Scores12{ID: 101, Score1: 100, Score2: 90},
		students.Scores12{ID: 102, Score1: 100, Score2: 80},
		students.Scores12{ID: 1000},
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	second, err := waiting.Wait(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, result := range []*batch.Result{first, second} {
		for i := range result.Output.Rows.Len() {
			fmt.Printf("%s\n", result.Output.Rows.Row(i))
		}
		for _, o := range result.NotDone {
			fmt.Println(o.Row, o.Outcome, o.Function, o.Code, o.Reason)
		}
	}
	// Output:
	// {"stu_id":101,"avg_score":95}
	// {"stu_id":102,"avg_score":90}
	// 2 filtered VerifyStu DROPPED stu_id 1000 is outside 0..999
	// {"stu_id":101,"avg_score":90}
	// {"stu_id":102,"avg_score":83.33333333333333}
}
