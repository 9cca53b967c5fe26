package client

import (
	"encoding/json"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// What travels is defined in package batch; these names save its import. The codes themselves are there.
type (
	// Batch is rows submitted together. It belongs to one goroutine at a time, and to the client from Submit or Send until
	// the answer.
	Batch = batch.Batch
	// Result says how each row of a batch ended.
	Result = batch.Result
	// RowOutcome says how a row that is not done ended.
	RowOutcome = batch.RowOutcome
	// Outcome is how a row ended.
	Outcome = batch.Outcome
	// Columns are rows packed one behind the other.
	Columns = batch.Columns
	// Error is an error with a stable code.
	Error = batch.Error
	// Code says why a row or a call ended as it did.
	Code = batch.Code
)

// The outcomes of a row.
const (
	Done     = batch.Done
	Filtered = batch.Filtered
	Aborted  = batch.Aborted
	Dead     = batch.Dead
	Failed   = batch.Failed
)

// Rows packs one row per value, encoded as JSON; a value that is a string, a []byte or a json.RawMessage is taken for a row
// that is encoded already. A value that can't be encoded makes the batch unusable: Submit and Send return that error.
func Rows[T any](rows ...T) *Batch { return batch.Rows(rows...) }

// Pack makes a batch of columns that are packed already. The batch keeps them: the caller must not change them any more.
// Columns that are not JSON need keys where the flow has a shard key.
func Pack(c Columns) *Batch { return batch.Pack(c) }

// Output decodes what the flow's last function passed on, one T per output row, in the order of the input rows. A T that is
// string, []byte or json.RawMessage gets the row as it is, without a copy for the latter two. The result has no output where
// NoOutput was asked for. The error, CodeRowUndecodable, names the first row that does not fit T.
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
				return nil, batch.Errorf(batch.CodeRowUndecodable, "the output of batch %s is encoded as %q, not as JSON: take it as []byte and decode it there", r.BatchID, rows.Encoding)
			}
			if err := json.Unmarshal(row, to); err != nil {
				return nil, batch.Errorf(batch.CodeRowUndecodable, "decode output row %d of batch %s into %T: %w", i, r.BatchID, out[i], err)
			}
		}
	}
	return out, nil
}
