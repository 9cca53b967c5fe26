// Package action has a function that asks for actions.
package action

import (
	"context"
	"fmt"

	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Register registers the flow's functions with r.
func Register(r *kis.Registry) {
	r.FaaS("VerifyStu", VerifyStu)
	r.FaaS("AvgStuScore", scores.AvgStuScore)
	r.FaaS("PrintStuAvgScore", scores.PrintStuAvgScore)
}

// VerifyStu aborts all rows if one has a student's id outside 0 to 999. Otherwise it passes its
// rows on unchanged.
func VerifyStu(_ context.Context, flow kis.Flow, rows []*scores.Score) error {
	for _, row := range rows {
		if row.StuId < 0 || row.StuId > 999 {
			fmt.Printf("stu_id: [%d] aborts %d rows\n", row.StuId, len(rows))
			return flow.Next(kis.ActionAbort)
		}
	}
	return flow.Next(kis.ActionDataReuse)
}
