package worker

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Approximate sizes in a message, in bytes, without the texts and the rows themselves.
const (
	outputRowBytes = 8       // an output row takes so many bytes besides its text: its end and its origin
	outcomeBytes   = 24      // an outcome takes so many bytes besides its texts: tags, numbers and lengths
	deadRowBytes   = 48      // a dead row takes so many bytes besides its texts and data: tags, numbers and lengths
	limitSlack     = 8 << 10 // a message may be at least so many bytes larger than a batch
	reasonBytes    = 1 << 10 // a reason has at most so many bytes, because package wire cuts a longer one
)

// sizeOfOutcome returns about how many bytes an outcome takes in a message.
func sizeOfOutcome(o *batch.RowOutcome) int {
	return outcomeBytes + len(o.Function) + min(len(o.Reason), reasonBytes)
}

// sizeOfResult returns about how many bytes the output and the outcomes of a result take in a message.
func sizeOfResult(r batch.Result) int {
	n := len(r.Output.Rows.Data) + outputRowBytes*r.Output.Rows.Len()
	for i := range r.NotDone {
		n += sizeOfOutcome(&r.NotDone[i])
	}
	return n
}

// sizeOfDead returns about how many bytes dead rows take in a message.
func sizeOfDead(dead []batch.DeadRow) int {
	n := 0
	for i := range dead {
		d := &dead[i]
		n += deadRowBytes + len(d.Function) + len(d.Encoding) + min(len(d.Reason), reasonBytes) + len(d.Data)
	}
	return n
}

// splitResult spreads a large result over several messages. Each message is about consecutive rows of the part; the last of
// them is final.
//
// The output of a row is in the message that ends the row, because the coordinator drops output of rows that have ended
// before. Output of the whole batch is in the final message. A row whose output is too large for any message ends as dead.
func (s *server) splitResult(part *heldPart, final *pb.Result, ended bitset.Set, all batch.Result, dead []batch.DeadRow) []*pb.Result {
	all = refuseTooLarge(all, ended, part.maxOutputPerRow, part.maxOutputRow)
	all.Sort()
	slices.SortStableFunc(dead, func(a, b batch.DeadRow) int { return cmp.Compare(a.Row, b.Row) })
	// Compute how many bytes each input row takes in a message.
	costs := make([]int, part.size.rows)
	for i := range all.NotDone {
		costs[all.NotDone[i].Row] += sizeOfOutcome(&all.NotDone[i])
	}
	for i, origin := range all.Output.Origins {
		if origin != batch.WholeBatch {
			costs[origin] += len(all.Output.Rows.Row(i)) + outputRowBytes
		}
	}
	dead = keepSendable(&all, dead, costs, part.maxOutputPerRow)
	for i := range dead {
		costs[dead[i].Row] += sizeOfDead(dead[i : i+1])
	}
	var messages []*pb.Result
	limit := min(s.config.ResultBytes, part.maxOutputPerRow)
	// Fill one message after the other, with rows from first on; begin the next one when a row does not fit.
	first, bytes := uint32(0), 0
	for row, cost := range costs {
		if bytes > 0 && bytes+cost > limit {
			m := &pb.Result{Part: part.number}
			dead = fillMessage(m, ended, &all, dead, first, uint32(row))
			messages = append(messages, m)
			first, bytes = uint32(row), 0
		}
		bytes += cost
	}
	fillMessage(final, ended, &all, dead, first, batch.WholeBatch)
	return append(messages, final)
}

// keepSendable returns the dead rows that fit into a message of about limit bytes together with the rest of their input row.
// An input row whose dead rows do not fit keeps its outcome, which then says that the row was not kept because it is too
// large. dead is sorted by input row; costs has the bytes of each input row so far.
func keepSendable(all *batch.Result, dead []batch.DeadRow, costs []int, limit int) []batch.DeadRow {
	kept := dead[:0]
	for len(dead) > 0 {
		row, n := dead[0].Row, 1
		for n < len(dead) && dead[n].Row == row {
			n++
		}
		if costs[row]+sizeOfDead(dead[:n]) <= limit+limitSlack {
			kept = append(kept, dead[:n]...)
		} else if at, ok := slices.BinarySearchFunc(all.NotDone, row, byRow); ok {
			all.NotDone[at].NotKept = batch.TooLarge
		}
		dead = dead[n:]
	}
	return kept
}

// byRow compares an outcome with a row number, for a binary search.
func byRow(o batch.RowOutcome, row uint32) int { return cmp.Compare(o.Row, row) }

// fillMessage moves the outcomes, dead rows and output of the rows from first to end-1 into the message m; the end
// batch.WholeBatch means all rows that are left, with the output of the whole batch. The result and dead are sorted by row.
// fillMessage returns the dead rows that are left.
func fillMessage(m *pb.Result, ended bitset.Set, from *batch.Result, dead []batch.DeadRow, first, end uint32) []batch.DeadRow {
	if !m.GetLast() {
		m.Finished = wire.FromRanges(rangesOf(ended, first, min(end, uint32(len(ended)*64))))
	}
	n := 0
	for n < len(from.NotDone) && from.NotDone[n].Row < end {
		n++
	}
	m.NotDone = wire.FromRowOutcomes(from.NotDone[:n])
	from.NotDone = from.NotDone[n:]
	n = 0
	for n < len(dead) && dead[n].Row < end {
		n++
	}
	m.Dead = wire.FromDeadRows(dead[:n])

	origins := from.Output.Origins
	start, _ := slices.BinarySearch(origins, first)
	stop := len(origins)
	if end != batch.WholeBatch {
		stop, _ = slices.BinarySearch(origins, end)
	}
	if start < stop {
		m.Output = wire.FromOutput(selectOutput(from.Output, start, stop))
	}
	return dead[n:]
}

// selectOutput copies the output rows from start to stop-1.
func selectOutput(o batch.Output, start, stop int) batch.Output {
	rows := make([]uint32, stop-start)
	for i := range rows {
		rows[i] = uint32(start + i)
	}
	return batch.Output{Rows: o.Rows.Select(rows), Origins: o.Origins[start:stop]}
}

// longestRow returns the length of the longest output row in bytes.
func longestRow(o batch.Output) (most int) {
	start := uint32(0)
	for _, end := range o.Rows.Ends {
		most, start = max(most, int(end-start)), end
	}
	return most
}

// refuseTooLarge makes an input row dead and drops its output if the output is too large to be delivered: in total more than
// limit bytes, or with a single output row of more than longest bytes. ended are the input rows that have an outcome; only
// these become dead.
func refuseTooLarge(all batch.Result, ended bitset.Set, limit, longest int) batch.Result {
	type measure struct{ all, one int } // bytes of all output of one input row, and of the longest of its output rows
	bytes := map[uint32]measure{}
	for i, origin := range all.Output.Origins {
		n, m := len(all.Output.Rows.Row(i)), bytes[origin]
		bytes[origin] = measure{m.all + n + outputRowBytes, max(m.one, n)}
	}
	// refused returns the size and the limit that it exceeds, for an input row that must be refused; else zeros. Output of the whole
	// batch counts for every row.
	refused := func(row uint32) (n, over int) {
		for _, m := range []measure{bytes[batch.WholeBatch], bytes[row]} {
			switch {
			case m.all > limit:
				return m.all, limit
			case m.one > longest:
				return m.one, longest
			}
		}
		return 0, 0
	}
	// Drop the output of refused rows.
	var keep []uint32
	for i, origin := range all.Output.Origins {
		if n, _ := refused(origin); n == 0 {
			keep = append(keep, uint32(i))
		}
	}
	if len(keep) == len(all.Output.Origins) {
		return all
	}
	kept := batch.Output{Rows: all.Output.Rows.Select(keep), Origins: make([]uint32, len(keep))}
	for i, row := range keep {
		kept.Origins[i] = all.Output.Origins[row]
	}
	all.Output = kept
	// Give each refused row the outcome dead, unless it has an outcome other than done already.
	reported := make(bitset.Set, len(ended))
	for i := range all.NotDone {
		reported.Add(all.NotDone[i].Row)
	}
	all.NotDone = slices.Clip(all.NotDone)
	for row := range uint32(len(ended) * 64) {
		if n, over := refused(row); n > 0 && ended.Has(row) && !reported.Has(row) {
			all.NotDone = append(all.NotDone, batch.RowOutcome{
				Row: row, Outcome: batch.Dead, Code: batch.CodeRowTooLarge, NotKept: batch.NothingLeft,
				Reason: fmt.Sprintf("the output of the row has %d bytes, and the limit is %d bytes: pass on less, or raise --max-batch-bytes "+
					"of coordinators and workers", n, over),
			})
		}
	}
	return all
}

// sizeOfRun returns about how many bytes everything takes that a run ended with: output, outcomes and dead rows.
func sizeOfRun(run *flowexec.RunResult) int64 {
	bytes := len(run.Output.Rows.Data) + outputRowBytes*run.Output.Rows.Len() + sizeOfDead(run.Dead)
	for i := range run.NotDone {
		bytes += sizeOfOutcome(&run.NotDone[i])
	}
	return int64(bytes)
}

// rangesOf packs the row numbers that are in the set, from first to end-1, into ranges.
func rangesOf(s bitset.Set, first, end uint32) []batch.Range {
	var out []batch.Range
	for row := first; row < end; row++ {
		if row%64 == 0 && !s.HasAnyNear(row) {
			row += 63
			continue
		}
		if !s.Has(row) {
			continue
		}
		out = ranges.Append(out, row)
	}
	return out
}
