// Package scores has the functions that most KisFlow programs beside it use: they check, average and print students' scores. They
// are written as users of KisFlow write them, and run unchanged in these programs and on a cluster.
package scores

import (
	"context"
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/serialize"
)

// Score is an input row: the three scores of a student.
type Score struct {
	serialize.DefaultSerialize
	StuId  int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
	Score3 int `json:"score_3"`
}

// Average is a row with the average of a student's scores.
type Average struct {
	serialize.DefaultSerialize
	StuId    int     `json:"stu_id"`
	AvgScore float64 `json:"avg_score"`
}

// Register registers the functions of this package with r.
func Register(r *kis.Registry) {
	r.FaaS("VerifyStu", VerifyStu)
	r.FaaS("AvgStuScore", AvgStuScore)
	r.FaaS("PrintStuAvgScore", PrintStuAvgScore)
}

// VerifyStu prints two of its parameters, and passes on the rows with a student's id from 0 to 999. It drops the others.
func VerifyStu(_ context.Context, flow kis.Flow, rows []*Score) error {
	fmt.Println("verify: school =", flow.GetFuncParam("school"), "country =", flow.GetFuncParam("country"))
	for _, row := range rows {
		if row.StuId < 0 || row.StuId > 999 {
			continue
		}
		if err := flow.CommitRow(row); err != nil {
			return err
		}
	}
	return nil
}

// AvgStuScore commits the average of the three scores in each row.
func AvgStuScore(_ context.Context, flow kis.Flow, rows []*Score) error {
	for _, row := range rows {
		out := Average{StuId: row.StuId, AvgScore: float64(row.Score1+row.Score2+row.Score3) / 3}
		if err := flow.CommitRow(out); err != nil {
			return err
		}
	}
	return nil
}

// PrintStuAvgScore prints the average in each row, and passes the rows on. On a cluster they are the flow's output.
func PrintStuAvgScore(_ context.Context, flow kis.Flow, rows []*Average) error {
	for _, row := range rows {
		fmt.Printf("stu_id: [%d], avg score: [%.2f]\n", row.StuId, row.AvgScore)
	}
	return flow.CommitRowBatch(rows)
}
