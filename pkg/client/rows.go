package client

import (
	"encoding/json"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Rows, results and errors are types of package batch. These names save a program the import of that package, unless it names codes.
type (
	// Batch is a list of rows that are submitted together. One goroutine at a time may use it. From Submit or Send until its answer,
	// the batch belongs to the client.
	Batch = batch.Batch
	// Result says how each row of a batch ended.
	Result = batch.Result
	// RowOutcome says how a row ended that is not done: its outcome, code, reason and function.
	RowOutcome = batch.RowOutcome
	// Outcome is how a row ended: Done, Filtered, Aborted, Dead or Failed.
	Outcome = batch.Outcome
	// Columns are encoded rows in one piece of memory, one behind the other, with the place where each ends.
	Columns = batch.Columns
	// Error is an error with a stable code.
	Error = batch.Error
	// Code says why a row or a call ended as it did, such as batch.CodeDeadline.
	Code = batch.Code
)

// The outcomes of a row.
const (
	Done     = batch.Done
	Filtered = batch.Filtered
	Aborted  = batch.Aborted
	Dead     = batch.Dead   // the row itself is at fault
	Failed   = batch.Failed // the cluster is at fault: the batch may be submitted again
)

// Rows makes a batch with one row for each value, encoded as JSON. A string, a []byte or a json.RawMessage is taken as a row that is
// encoded already. A value that can't be encoded makes the batch unusable: Submit and Send then return the error of the encoding.
func Rows[T any](rows ...T) *Batch { return batch.Rows(rows...) }

// Pack makes a batch of rows that are packed already. It does not copy them: the caller must not change them afterwards. Rows
// in another encoding than JSON need Columns.Keys if the flow has a shard key.
func Pack(c Columns) *Batch { return batch.Pack(c) }

// Output decodes the result's output: the rows that the flow's last function passed on, one T for each row, in the order of the input
// rows. If T is string, []byte or json.RawMessage, it gets the row without decoding, and the latter two also without a copy. With
// NoOutput a result has no output rows. The error has CodeRowUndecodable, and names the first row that does not fit T.
func Output[T any](r *Result) ([]T, error) {
	rows := &r.Output.Rows
	out := make([]T, rows.Len())
	for i := range out {
		row := rows.Row(i)
		switch to := any(&out[i]).(type) {
		case *string:
			*to = string(row)
		case *[]byte:
			*to = row
		case *json.RawMessage:
			*to = row
		default:
			if rows.Encoding != "" && rows.Encoding != batch.JSON {
				return nil, batch.Errorf(batch.CodeRowUndecodable, "the output of batch %s is encoded as %q, not as JSON: use Output[[]byte] and decode the rows yourself", r.BatchID, rows.Encoding)
			}
			if err := json.Unmarshal(row, to); err != nil {
				return nil, batch.Errorf(batch.CodeRowUndecodable, "decode output row %d of batch %s into %T: %w", i, r.BatchID, out[i], err)
			}
		}
	}
	return out, nil
}
