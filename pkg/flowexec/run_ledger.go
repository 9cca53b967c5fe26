package flowexec

import (
	"cmp"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// ledger keeps how the rows of a run ended, the worst that happened to each.
type ledger struct {
	n       int
	places  []uint32 // for each row 1 + its place in notDone; nil while all are done
	notDone []batch.RowOutcome
	first   *batch.RowOutcome // that is dead or failed; behind it may stand no row at all. Nil: none is
}

// end records an outcome of a row, or of all with batch.WholeBatch.
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

// list is the outcomes by row, with the rows counted within the part.
func (l *ledger) list(w *work) []batch.RowOutcome {
	slices.SortFunc(l.notDone, func(a, b batch.RowOutcome) int { return cmp.Compare(a.Row, b.Row) })
	for i := range l.notDone {
		l.notDone[i].Row = uint32(w.row(rows.RunRow(l.notDone[i].Row)))
	}
	return l.notDone
}
