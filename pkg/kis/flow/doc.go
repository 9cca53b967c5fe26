// Package flow makes and runs flows in KisFlow's manner, in the program's own process. Rows are committed to a flow; Run takes
// them through the flow's functions, and returns when all of them have ended:
//
//	f := flow.NewKisFlow(config.NewFlowConfig("CalStuAvgScore", common.FlowEnable))
//	f.Link(avgStuScore, nil) // a *config.KisFuncConfig
//	f.CommitRow(`{"stu_id":101,"score":100}`)
//	err := f.Run(ctx)
//
// The files, in reading order:
//
//   - flow.go: KisFlow, its rows and its runs.
//   - compile.go: the plan that a flow's configurations are compiled to.
//   - must.go: the fields that rows must have, which programs do not check.
//   - outside.go: the methods that only make sense in a function.
package flow
