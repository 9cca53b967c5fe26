// Package function has a function that reads its own configuration, parameters and metadata.
package function

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

// AvgStuScore prints its configuration, two of its parameters, and how often it was called. It keeps that number as metadata of the function
// (SetMetaData), and commits no rows.
func AvgStuScore(_ context.Context, flow kis.Flow, _ []*scores.Score) error {
	this := flow.GetThisFunction()
	fmt.Printf("function: %s, mode: %s, source: %s\n", this.GetConfig().FName, this.GetConfig().FMode, this.GetConfig().Source.Name)
	fmt.Printf("school: %s, country: %s\n", flow.GetFuncParam("school"), flow.GetFuncParam("country"))
	calls, _ := this.GetMetaData("calls").(int)
	this.SetMetaData("calls", calls+1)
	fmt.Printf("call: %d\n", calls+1)
	return nil
}
