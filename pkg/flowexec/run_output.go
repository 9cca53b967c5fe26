package flowexec

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// output is what the last function passed on, in the order of the input rows.
func (r *run) output() batch.Output {
	last := len(r.plan.steps)
	sets := r.inOrder(last)
	r.step = r.plan.steps[last-1]
	out := r.open
	rows := 0
	for _, rs := range sets {
		rows += rs.Len()
	}
	if rows == 0 {
		return out
	}
	if len(r.pieces) > 0 || out.Rows.Len() > 0 {
		r.write(sets, &out)
		return out
	}
	if size := len(r.work.in.columns.Data); size > 0 {
		// Mostly rows are about as long when they leave as when they came.
		out.Rows.Data = make([]byte, 0, int(int64(size)*int64(r.n)/int64(r.work.in.len()))*9/8)
	}
	out.Rows.Ends, out.Origins = make([]uint32, 0, rows), make([]uint32, 0, rows)
	r.write(sets, &out)
	return out
}

// write appends rows to the output.
func (r *run) write(sets []*rows.Set, out *batch.Output) {
	if encoding := r.x.reader.Encoding(sets); out.Rows.Len() == 0 || encoding == out.Rows.Encoding {
		out.Rows.Encoding = encoding
	} else {
		r.pieces = append(r.pieces, *out)
		*out = batch.Output{}
		out.Rows.Encoding = encoding
	}
	r.x.frame.Call.Function, r.x.frame.Call.Attempt = r.step.Name, 1
	for _, rs := range sets {
		r.now = rs
		if !r.x.reader.RunsOwnCodeToWrite(rs) {
			r.encode(rs, out)
			continue
		}
		if f := r.x.reading(0, rs.Len(), func() { r.encode(rs, out) }); f != nil {
			panic(f) // panics of types are errors of their rows: it is our own
		}
		r.renewAfterTimeout()
	}
}

// encode appends rows to the output. A row that can't be written ends as dead.
func (r *run) encode(rs *rows.Set, out *batch.Output) {
	write := r.x.reader.Writer(rs, out.Rows.Encoding)
	watched, cuts := r.x.inCall, r.x.lane.lanes.config.PieceBytes > 0 && !r.keyed
	for i, origin := range rs.Origins {
		if cuts && (i == 0 || origin != rs.Origins[i-1]) {
			r.cutPiece(out)
		}
		if watched && !r.x.at(i) {
			if o := r.x.stopped(); o != nil {
				r.end(rs, uint32(i), *o)
			}
			continue
		}
		data, err := write(out.Rows.Data, i)
		if err != nil {
			r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUnencodable, Attempts: 1,
				Reason: decode.Trimmed(fmt.Sprintf("the row that the flow passed on can't be written: %v", err))})
			continue
		}
		out.Rows.Data = data
		out.Rows.Ends = append(out.Rows.Ends, uint32(len(data)))
		row := batch.WholeBatch
		if origin != rows.WholeBatch {
			row = uint32(r.work.row(origin))
		}
		out.Origins = append(out.Origins, row)
	}
}
