package flowexec

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// outputs is the output of a run: the rows that its last function passes on. A run without keys whose output is large has it in pieces
// (LanesConfig.PieceBytes), and writes them while its last function runs (run_growth.go).
type outputs struct {
	run    *run
	pieces []batch.Output // the pieces that are full
	open   batch.Output   // the piece that is being written
	told   bool           // says that Part.Grow was called for the run
}

// last writes the rows that have left the last step as output, and returns all output that is not in pieces, in the order of the input
// rows.
func (o *outputs) last() batch.Output {
	r := o.run
	last := len(r.plan.steps)
	sets := r.inOrder(last)
	r.st.step = r.plan.steps[last-1]
	out := o.open
	n := 0
	for _, rs := range sets {
		n += rs.Len()
	}
	if n == 0 {
		return out
	}
	if len(o.pieces) > 0 || out.Rows.Len() > 0 {
		o.write(sets, &out)
		return out
	}
	if size := len(r.work.in.columns.Data); size > 0 {
		// Mostly rows are about as long when they leave as when they came.
		out.Rows.Data = make([]byte, 0, int(int64(size)*int64(r.n)/int64(r.work.in.len()))*9/8)
	}
	out.Rows.Ends, out.Origins = make([]uint32, 0, n), make([]uint32, 0, n)
	o.write(sets, &out)
	return out
}

// write appends rows to out. If they are to be in another encoding than the rows in out, it first appends out to pieces and empties
// it.
func (o *outputs) write(sets []*rows.Set, out *batch.Output) {
	x := o.run.x
	if encoding := x.reader.Encoding(sets); out.Rows.Len() == 0 || encoding == out.Rows.Encoding {
		out.Rows.Encoding = encoding
	} else {
		o.pieces = append(o.pieces, *out)
		*out = batch.Output{}
		out.Rows.Encoding = encoding
	}
	st := o.run.st
	x.frame.Call.Function, x.frame.Call.Attempt = st.step.Name, 1
	for _, rs := range sets {
		st.rs = rs
		if !x.reader.RunsOwnCodeToWrite(rs) {
			o.encode(rs, out)
			continue
		}
		if f := x.reading(0, rs.Len(), func() { o.encode(rs, out) }); f != nil {
			panic(f) // panics of types are errors of their rows: this one is our own
		}
		x.renewAfterTimeout()
	}
}

// encode appends the rows of one set to out, in out's encoding. A row that can't be written ends as dead.
func (o *outputs) encode(rs *rows.Set, out *batch.Output) {
	r, x := o.run, o.run.x
	write := x.reader.Writer(rs, out.Rows.Encoding)
	watched, cuts := x.inCall, x.lane.lanes.config.PieceBytes > 0 && !r.keyed
	for i, origin := range rs.Origins {
		if cuts && (i == 0 || origin != rs.Origins[i-1]) {
			o.cutPiece(out)
		}
		if watched && !x.at(i) {
			if stopped := x.stopped(); stopped != nil {
				r.st.end(rs, uint32(i), *stopped)
			}
			continue
		}
		data, err := write(out.Rows.Data, i)
		if err != nil {
			r.st.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUnencodable, Attempts: 1,
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

// cutPiece appends out to pieces and empties it, if it has LanesConfig.PieceBytes or more.
func (o *outputs) cutPiece(out *batch.Output) {
	limit := o.run.x.lane.lanes.config.PieceBytes
	if len(out.Rows.Data)+8*len(out.Origins) < limit {
		return
	}
	o.pieces = append(o.pieces, *out)
	bytes, n := len(out.Rows.Data), len(out.Origins) // the next piece is much the same
	*out = batch.Output{
		Rows:    batch.Columns{Data: make([]byte, 0, bytes+bytes/16), Ends: make([]uint32, 0, n+n/16), Encoding: out.Rows.Encoding},
		Origins: make([]uint32, 0, n+n/16),
	}
}
