// Package kis is what the functions of a flow are written against. A function is a plain Go function over plain structs;
// a constructor (Verify, Calculate, Expand, Save, Load, Batch) says what it is for and infers its row types, and a Registry
// gives it the name under which flows refer to it:
//
//	func Register(r *kis.Registry) {
//		r.Func("VerifyStu", kis.Verify(VerifyStu))
//		r.Func("AvgStuScore", kis.Calculate(AvgStuScore))
//	}
//
// A function is called for one row after another by one goroutine for each copy of the flow. Several copies run at the same
// time, so what functions share outside a row (package variables, clients) must be safe for concurrent use. An error makes
// its row dead, once its retries are used up; Drop, Abort and Jump are returned like errors and say otherwise. A function
// may run again for the same row: effects through a Writer happen once all the same, for others RowID is the idempotency
// key.
//
// A row type is a struct, a map, a pointer to one, or json.RawMessage for a row that is taken or passed on as its JSON. The
// bytes of a json.RawMessage are the row's own: they stay as they are for as long as somebody keeps them (and the batch with
// them, so copy what is kept for long), and must not be changed, since the row may run again.
//
// Registry.FaaS takes KisFlow's own functions unchanged.
package kis
