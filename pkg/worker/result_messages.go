package worker

import (
	"runtime/debug"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// resultMessagesSafely calls resultMessages. A panic there, which is a defect of KisGrid, makes the rows fail with code
// INTERNAL; the lane and the process go on.
func (s *server) resultMessagesSafely(part *heldPart, ended []flowexec.RunResult, last bool) (messages []*pb.Result) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		s.log.Error("defect: results panicked", "flow", part.flow.name, "panic", r, "stack", string(debug.Stack()))
		m := &pb.Result{Part: part.number, Last: last}
		fail := func(row uint32) {
			m.NotDone = append(m.NotDone, &pb.RowOutcome{
				Row: row, Outcome: pb.Outcome_OUTCOME_FAILED, Code: pb.Code_CODE_INTERNAL, Reason: "making the result panicked, which is a defect of the worker: its log has the stack",
			})
		}
		for _, run := range ended {
			for _, row := range run.Rows {
				fail(row)
			}
			if run.Rows == nil {
				for row := range uint32(part.size.rows) {
					fail(row)
				}
			}
		}
		messages = []*pb.Result{m}
	}()
	return s.resultMessages(part, ended, last)
}

// resultMessages makes messages of ended runs: one message, unless the output is large or its rows have different encodings.
// With last the final message ends every row of the part that no message names: such a row is done.
func (s *server) resultMessages(part *heldPart, ended []flowexec.RunResult, last bool) []*pb.Result {
	encoding := func(run flowexec.RunResult) string { return run.Output.Rows.Encoding }
	slices.SortStableFunc(ended, func(a, b flowexec.RunResult) int { return strings.Compare(encoding(a), encoding(b)) })
	var messages []*pb.Result
	limit := int64(min(s.config.ResultBytes, part.maxOutputPerRow))
	for i := 0; i < len(ended); {
		n, bytes := i+1, sizeOfRun(&ended[i])
		for n < len(ended) && encoding(ended[n]) == encoding(ended[i]) {
			if bytes += sizeOfRun(&ended[n]); bytes > limit {
				break // a result that needs several messages is not joined first, only to be split again
			}
			n++
		}
		messages = append(messages, s.resultMessage(part, ended[i:n], last && n == len(ended))...)
		i = n
	}
	return messages
}

// resultMessage makes one message of runs with the same encoding, or several messages where the result is too large for one.
func (s *server) resultMessage(part *heldPart, ended []flowexec.RunResult, last bool) []*pb.Result {
	var all batch.Result
	var dead []batch.DeadRow
	var returned []uint32
	outputs := make([]batch.Output, 0, len(ended))
	for _, run := range ended {
		all.NotDone = append(all.NotDone, run.NotDone...)
		dead = append(dead, run.Dead...)
		returned = append(returned, run.Returned...)
		outputs = append(outputs, run.Output)
	}
	all.Output = batch.Join(outputs) // the order of rows does not matter here: the client sorts the output of all workers
	slices.Sort(returned)
	m := &pb.Result{Part: part.number, Returned: wire.FromRanges(ranges.Of(returned)), Last: last}
	if sizeOfResult(all)+sizeOfDead(dead) > min(s.config.ResultBytes, part.maxOutputPerRow) || len(all.Output.Rows.Data) > part.maxOutputRow && longestRow(all.Output) > part.maxOutputRow {
		return s.splitResult(part, m, finishedRows(part, ended), all, dead)
	}
	if !last {
		m.Finished = wire.FromRanges(rangesOf(finishedRows(part, ended), 0, uint32(part.size.rows)))
	}
	m.NotDone, m.Output = wire.FromRowOutcomes(all.NotDone), wire.FromOutput(all.Output)
	m.Dead = wire.FromDeadRows(dead)
	return []*pb.Result{m}
}

// finishedRows returns the rows of these runs that have an outcome. Rows that were handed back have none.
func finishedRows(part *heldPart, ended []flowexec.RunResult) bitset.Set {
	n := uint32(part.size.rows)
	set := bitset.New(int(n))
	for _, run := range ended {
		if run.Rows == nil {
			for row := range n {
				set.Add(row)
			}
		}
		for _, row := range run.Rows {
			set.Add(row)
		}
	}
	for _, run := range ended {
		for _, row := range run.Returned {
			set.Remove(row)
		}
	}
	return set
}
