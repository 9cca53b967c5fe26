package oracle

import (
	"cmp"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
)

// Limits of the overdrafts that the docs name.
const (
	partRows        = 1024      // by which the credit of one coordinator and flow may be overdrawn
	partBytes       = 64 << 10  // the same, in bytes, where a row is not larger
	defaultBatch    = 8 << 20   // the default of --max-batch-bytes
	defaultRowLimit = 1 << 20   // the default of --max-row-bytes
	leastRunBytes   = 256 << 10 // output that a run may hold before its further rows wait, however small the budget is
	runShares       = 32        // in a larger budget, a run may hold this part of it
)

// MemoryBounded checks the budgets that processes export.
//
// The promise: the rows and bytes that a worker holds or has granted stay within its budget, and by no more than one part of each coordinator
// and flow above it; output can't be refused, but no run begins while half of the budget is output. The bytes that a coordinator may still
// grant are below zero by no more than one batch, the answers that workers may make meanwhile (half of the budget), and one message of each
// stream. Three things have no bound, as DESIGN.md says, and one of them is the rows that come of one row. So a worker may hold more by the
// output of one run in each lane, each of which ends with a row that grows as much as any, and by that of one batch without keys: this is
// counted as excused.
func MemoryBounded(l *Life) {
	grows := l.grown()
	for _, life := range l.Lives {
		for _, s := range life.Snaps {
			switch life.Kind {
			case history.Worker:
				l.workerBounded(life, s, grows)
			case history.Coordinator:
				l.coordinatorBounded(life, s)
			}
		}
	}
}

// growth says how much output there may be beyond the budget of a worker.
type growth struct {
	row     int // by how many bytes the outputs of a row may be larger than the row
	whole   int // the same of a batch without keys
	lanes   int // lanes of a worker, each with a run under way
	largest int // bytes of the largest row
}

// grown looks for the rows of which most output comes.
func (l *Life) grown() (g growth) {
	for _, b := range l.Batches {
		sum := 0
		for _, row := range b.Rows {
			most := 0
			for _, a := range forms.ParseActions(row.Do) {
				switch a.Kind {
				case "grow":
					most = max(most, a.N*(row.Bytes+64))
				case "wide":
					most = max(most, a.N)
				}
			}
			sum += most
			g.largest = max(g.largest, row.Bytes)
			g.row = max(g.row, most)
		}
		if f := l.flows[b.Flow]; f != nil && !f.form.Sharded {
			g.whole = max(g.whole, sum)
		}
	}
	for name, f := range l.flows {
		copies := cmp.Or(f.Copies, 1)
		for _, c := range l.Changes {
			if c.Kind == "copies" && c.Flow == name {
				copies = max(copies, c.N)
			}
		}
		g.lanes += copies
	}
	return g
}

// workerBounded checks a worker's budget at one moment.
func (l *Life) workerBounded(life *history.Life, s history.Snap, grows growth) {
	budgetRows, ok := s.Value("kisgrid_worker_budget_rows")
	if !ok {
		return
	}
	l.checked(1)
	budgetBytes, _ := s.Value("kisgrid_worker_budget_bytes")
	heldRows, _ := s.Value("kisgrid_worker_rows_held")
	heldBytes, _ := s.Value("kisgrid_worker_bytes_held")
	grantedRows, _ := s.Value("kisgrid_worker_rows_granted")
	grantedBytes, _ := s.Value("kisgrid_worker_bytes_granted")
	accounts := float64(l.lives(history.Coordinator) * (len(l.flows) + 1))
	if rows := heldRows + grantedRows; rows > budgetRows+accounts*partRows {
		l.breach(Subject{Process: life.Process}, "at %s the worker holds %g rows and has granted %g, with a budget of %g rows and at most %g accounts", s.At, heldRows, grantedRows, budgetRows, accounts)
	}
	bound := budgetBytes*3/2 + accounts*float64(partBytes+grows.largest)
	runs := float64(grows.lanes)*(max(budgetBytes/runShares, leastRunBytes)+float64(grows.row)) + float64(grows.whole)
	switch held := heldBytes + grantedBytes; {
	case held <= bound:
	case held <= bound+runs && grows.row > 0:
		l.excused("output of runs under way, in flows whose rows grow")
	default:
		l.breach(Subject{Process: life.Process}, "at %s the worker holds %g bytes and has granted %g, with a budget of %g bytes and at most %g accounts", s.At, heldBytes, grantedBytes, budgetBytes, accounts)
	}
}

// coordinatorBounded checks a coordinator's budget at one moment.
func (l *Life) coordinatorBounded(life *history.Life, s history.Snap) {
	left, ok := s.Value("kisgrid_coordinator_budget_left_bytes")
	if !ok {
		return
	}
	l.checked(1)
	batchBytes := float64(defaultBatch)
	if n := life.Settings.BatchBytes; n > 0 {
		batchBytes = float64(n)
	}
	streams, _ := s.Value("kisgrid_coordinator_streams")
	budget := float64(life.Settings.Budget)
	if budget == 0 {
		budget = defaultCoordinatorBudget
	}
	if left < -(budget/2 + (streams+2)*batchBytes) {
		l.breach(Subject{Process: life.Process}, "at %s the coordinator's budget of %g bytes is overdrawn by %g, with %g streams", s.At, budget, -left, streams)
	}
	if left > budget {
		l.breach(Subject{Process: life.Process}, "at %s the coordinator may grant %g bytes, more than its budget of %g", s.At, left, budget)
	}
}

// defaultCoordinatorBudget is the default of a coordinator's --budget-bytes.
const defaultCoordinatorBudget = 96 << 20

// lives returns how many lives of a kind there were.
func (l *Life) lives(kind history.Kind) int {
	n := 0
	for _, life := range l.Lives {
		if life.Kind == kind {
			n++
		}
	}
	return n
}
