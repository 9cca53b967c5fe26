package submission

import (
	"fmt"
	"io"
)

// lineState says what is known about a line.
type lineState uint8

// The states of lines.
const (
	answered lineState = iota // its row has an outcome
	unknown                   // its row was sent and has no answer
	refused                   // its row was refused together with its batch, and did not run
)

// lineRange is consecutive lines with the same state.
type lineRange struct {
	From  int `json:"from"`
	To    int `json:"to"`
	state lineState
}

// ledger notes which lines are answered. It belongs to one goroutine at a time: to gather, then to submit.
type ledger struct {
	unit   string // what a line is called: line, or row in a JSON array
	ranges []lineRange
	next   int // the first line that was not sent; 0 means that all were
}

// note notes the state of the lines from first to last. Lines are noted in their order.
func (l *ledger) note(first, last int, state lineState) {
	if n := len(l.ranges); n > 0 && l.ranges[n-1].state == state {
		l.ranges[n-1].To = last
		return
	}
	l.ranges = append(l.ranges, lineRange{first, last, state})
}

// ofState returns the ranges with a state.
func (l *ledger) ofState(state lineState) (ranges []lineRange) {
	for _, r := range l.ranges {
		if r.state == state {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// tell prints which lines are answered, unknown and not sent, and how to go on.
func (l *ledger) tell(to io.Writer) {
	for i, r := range l.ranges {
		if i == maxListed {
			fmt.Fprintf(to, "… and %d more ranges of %ss\n", len(l.ranges)-i, l.unit)
			break
		}
		switch r.state {
		case answered:
			fmt.Fprintf(to, "%ss %d to %d are answered\n", l.unit, r.From, r.To)
		case unknown:
			fmt.Fprintf(to, "%ss %d to %d were sent and have no answer: they may have taken effect, and sending them again may take effect twice; "+
				"look at the stored data before you send them again\n", l.unit, r.From, r.To)
		case refused:
			fmt.Fprintf(to, "%ss %d to %d were refused: nothing of them ran\n", l.unit, r.From, r.To)
		}
	}
	if l.next > 0 {
		fmt.Fprintf(to, "%ss from %d on were not sent: to go on, give the same command --from-line %d\n", l.unit, l.next, l.next)
	}
}
