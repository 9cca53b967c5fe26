// Package kis is the package that functions of flows are written against.
//
// A flow is a chain of functions that rows go through; a YAML document describes it. A function is a plain Go function over plain
// structs. A constructor gives it its purpose, and infers its row types. A Registry gives it the name under which documents refer to it:
//
//	type Scores struct {
//		ID     int `json:"stu_id"`
//		Score1 int `json:"score_1"`
//		Score2 int `json:"score_2"`
//	}
//	type Average struct {
//		ID  int     `json:"stu_id"`
//		Avg float64 `json:"avg_score"`
//	}
//
//	func VerifyStu(_ context.Context, s Scores) error {
//		if s.ID < 0 {
//			return kis.Drop("stu_id %d is negative", s.ID) // the row ends here
//		}
//		return nil // the row passes on
//	}
//
//	func AvgStuScore(_ context.Context, s Scores) (Average, error) {
//		return Average{s.ID, float64(s.Score1+s.Score2) / 2}, nil
//	}
//
//	func Register(r *kis.Registry) {
//		r.Func("VerifyStu", kis.Verify(VerifyStu))
//		r.Func("AvgStuScore", kis.Calculate(AvgStuScore))
//	}
//
// The constructors are:
//
//	Verify     func(ctx, In) error                      looks at a row, which passes on unchanged
//	Calculate  func(ctx, In) (Out, error)               makes one row of each row
//	Expand     func(ctx, In, emit func(Out)) error      makes any number of rows of each row
//	Save       func(ctx, Writer, In) error              writes to the function's connector
//	Load       func(ctx, In, *V) (Out, error)           reads a saved value; the row waits until it is there
//	Batch      func(ctx, []In) ([]Out, error)           sees all rows of a run at once
//
// Registry.FaaS takes functions that were written for KisFlow, unchanged.
//
// # Rows
//
// A row type is a struct, a map, a pointer to one of these, or json.RawMessage for a row that the function takes or passes on as JSON. Rows
// are read and written as encoding/json does. The bytes of a json.RawMessage must not be changed, since the row may run again. They may
// be kept; but they keep the memory of their whole batch, so copy them before you keep them for long.
//
// # Concurrency
//
// A worker runs several copies of a flow side by side. One copy calls a function for one row after another, on one goroutine. Different
// copies call it at the same time, so package variables, clients and other things that calls share must be safe for concurrent use.
//
// # Errors, and rows that run again
//
// If a function returns an error or panics, the row is tried again as often as the function's document says, and then it is dead: it can
// be looked at, and run again later. Other rows go on; only in Batch and FaaS functions an error is that of all rows of the call. Drop,
// Abort and Jump are returned like errors and say something else.
//
// A row may run again at any time, because its worker died or its batch is submitted again. Effects through a Writer take place once all
// the same. For other effects Call.RowID is the idempotency key: it is the same each time.
//
// # Compatibility
//
// The names of KisFlow (github.com/aceld/kis-flow) are here too, and in the packages below this one, so that its programs compile with
// other import paths. KisFlowRegistry has the methods of KisFlow's pool. Code, Frame, Vector and the types around them are the seam
// between functions and the executor in package flowexec. Authors of functions need none of them; they may change in any release.
//
// The files, in reading order. The authors' API:
//
//   - registry.go: Registry, which gives functions their names.
//   - func.go: the constructors Verify, Calculate, Expand, Save, Load and Batch.
//   - call.go: Call, the facts of one call of a function.
//   - writer.go: Writer, which collects the effects of a Save.
//   - signal.go: Drop, Abort and Jump.
//
// KisFlow's names:
//
//   - kisflow_registry.go: the methods of KisFlow's pool.
//   - kisflow_faas.go: functions in KisFlow's shapes, called by reflection.
//   - kisflow_flowrun.go: the Flow that a function gets while it runs.
//   - kisflow_flow.go: the interface Flow, and actions.
//   - kisflow_chain.go: the functions of a flow with their configurations.
//   - kisflow_function.go: the interface Function, one entry of a chain.
//   - kisflow_connector.go: the interface Connector, whose client the program opens itself.
//   - kisflow_config.go: documents as structs that programs fill in.
//   - kisflow_serialize.go: row types that read and write themselves.
//
// The seam that executors use, and parts that all share:
//
//   - frame.go: Code and Frame: how an executor calls a function.
//   - lineage.go: which row given a row passed on comes from.
//   - vector.go: Vector, rows of one type in memory.
//   - cache.go: Cache, values with an expiry.
//   - id.go: random ids.
//   - metadata.go: values that programs keep with a flow, function or connector.
//   - registrations.go: the table behind a Registry.
package kis
