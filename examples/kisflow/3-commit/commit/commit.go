// Package commit has functions that print how rows were committed, beside the rows that were read from them.
package commit

import (
	"context"
	"fmt"

	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Register registers the flow's functions with r.
func Register(r *kis.Registry) {
	r.FaaS("AvgStuScore", AvgStuScore)
	r.FaaS("PrintStuAvgScore", scores.PrintStuAvgScore)
}

// AvgStuScore prints the Go type in which each row was committed, and then commits the average of each
// student's scores.
func AvgStuScore(ctx context.Context, flow kis.Flow, rows []*scores.Score) error {
	for i, raw := range flow.Input() {
		fmt.Printf("stu_id: [%d], committed as: [%T]\n", rows[i].StuId, raw)
	}
	return scores.AvgStuScore(ctx, flow, rows)
}
