package flowexec

import (
	"cmp"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// ledger keeps the outcomes of a run's rows. Several rows that come from one input row may end in different ways: the worst
// outcome counts.
type ledger struct {
	n       int
	places  []uint32 // for each row 1 + its place in notDone, or 0 if it is done; nil while all rows are done
	notDone []batch.RowOutcome
	first   *batch.RowOutcome // the first outcome that is dead or failed, also in a run without rows; nil if there is none
}

// end records an outcome of an input row. The origin rows.WholeBatch stands for all input rows of the run.
func (l *ledger) end(origin rows.RunRow, o batch.RowOutcome) {
	if l.first == nil && (o.Outcome == batch.Dead || o.Outcome == batch.Failed) {
		first := o
		l.first = &first
	}
	if origin == rows.WholeBatch {
		for i := range rows.RunRow(l.n) {
			l.end(i, o)
		}
		return
	}
	if l.places == nil {
		l.places = make([]uint32, l.n)
	}
	o.Row = uint32(origin)
	switch place := l.places[origin]; {
	case place == 0:
		l.notDone = append(l.notDone, o)
		l.places[origin] = uint32(len(l.notDone))
	case l.notDone[place-1].Outcome < o.Outcome:
		l.notDone[place-1] = o
	case l.notDone[place-1].Outcome == o.Outcome && l.notDone[place-1].NotKept == 0:
		l.notDone[place-1].NotKept = o.NotKept
	}
}

// list returns the outcomes of rows that are not done, in the order of the rows. It changes their row numbers from places
// in the run to places in the part of w, so that it may be called only once.
func (l *ledger) list(w *work) []batch.RowOutcome {
	slices.SortFunc(l.notDone, func(a, b batch.RowOutcome) int { return cmp.Compare(a.Row, b.Row) })
	for i := range l.notDone {
		l.notDone[i].Row = uint32(w.row(rows.RunRow(l.notDone[i].Row)))
	}
	return l.notDone
}
