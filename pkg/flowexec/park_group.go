package flowexec

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// group is the parked rows of one key in one parcel: they wait together, and go on together. There may be as many groups as rows, so
// that each byte counts.
//
//	         the wait is over, and the group        a lane takes it        its run has ended (rows that
//	         is the first one of its key            (takeReady)            park again are a new group)
//	parked ---------------------------------> ready ------------> running -------------------------------> gone
//	  |        (happened, resumeDue)            |                                                           ^
//	  |                                         |                                                           |
//	  +-----------------------------------------+------------- Release, Stop: given back ------------------+
//
// When its part's deadline passes, a group is ready at once, even if other groups of its key are before it: its rows fail then.
type group struct {
	parcel *parcel
	// due is when the group's wait is over at the latest, by the clock of the lanes; never means that there is no such time. Guarded by
	// lane.mu, as all fields below are once the lane has the parcel, except for those that say otherwise.
	due time.Duration
	// wantedKey is the key that the group waits for, in the connector of its step; "" means that it waits for no key. It does not change.
	wantedKey string
	// next is the group behind this one in the queue of its key; nil means none.
	next *group
	// nextWaiting is another group that waits for the same wantedKey; nil means none. Guarded by keyWatch.mu.
	nextWaiting *group
	// The group's rows are the n ones of parcel.byKey from first on. These do not change.
	first, n uint32
	// timerIndex is the group's place in the heap parkedRows.timers, from 1; 0 means that the group is not there.
	timerIndex int32
	// waiting says that the group's wait is not over. Once it is false, the group waits only for earlier groups of its key, and for the
	// lane.
	waiting bool
	state   groupState
	// step is the step that the rows have parked in. It does not change.
	step uint16
}

// rows returns the group's rows, ascending. The caller must not change the slice.
func (g *group) rows() []rows.ParcelRow { return g.parcel.byKey[g.first : g.first+g.n] }

// key returns the hash of the shard key of the group's rows.
func (g *group) key() uint64 { return g.parcel.part.Columns.Keys[g.parcel.byKey[g.first]] }

// connector returns the connector of the group's step, in which wantedKey is; nil means that the step has none.
func (g *group) connector() *definition.Connector { return g.parcel.part.Plan.steps[g.step].connector }

// saveWait says how a group waits for any Save through its connector. A Load in KisFlow's shape waits so, because it names no key.
type saveWait struct {
	// saves is the number that Saves.count returned before the row was tried. A Save after that ends the wait.
	saves uint64
	// early is the earliest time at which a Save may end the wait.
	early time.Duration
}

// groupState is the state of a group. The type group shows when it changes.
type groupState uint8

const (
	// groupParked means that the group waits: for the end of its wait, or for groups of its key that are before it.
	groupParked groupState = iota
	// groupReady means that the group may go on, as soon as its lane takes it.
	groupReady
	// groupRunning means that the rows are in a run.
	groupRunning
	// groupGone means that the run has ended, or that the rows were given back.
	groupGone
)

// parcel is the memory of the rows that one run has parked, copied out of their part. It does not change, except for fields that lane.mu
// guards.
type parcel struct {
	// home has the parked rows of the lane that the parcel belongs to.
	home *parkedRows
	// part is a part of the parked rows alone, with columns and rows of its own.
	part *Part
	// rows has, for each row of the parcel, the row of the part that Enqueue was given.
	rows []rows.PartRow
	// sets are the rows, by the step that they enter next.
	sets   [][]packedSet
	groups []group
	// saveWaits says how those groups wait that wait for any Save through the connector of their step.
	saveWaits map[*group]saveWait
	// asks has the call to a connector for each group that waits for one.
	asks map[*group]*ask
	// byKey has the rows of each group, one group behind the other.
	byKey []rows.ParcelRow
	// since is when the rows parked, by the clock of the lanes.
	since time.Duration

	// notDone, dead and output are the results of other rows that come from the same input rows and ended before: Done gets them with the
	// results of the parked rows. spent is how much of the flow's timeout the rows have used up.
	notDone []batch.RowOutcome
	dead    []batch.DeadRow
	output  batch.Output
	spent   map[rows.ParcelRow]time.Duration

	// heldUpBefore is lane.heldUpTotal when the rows parked.
	heldUpBefore int64
	// left is how many groups are not gone; guarded by lane.mu.
	left int
	// ready are the groups in state groupReady, and some that are gone since; guarded by lane.mu.
	ready []*group
}

// packedSet is parked rows that enter the same step next, in memory of their own, in the order of their input rows.
type packedSet struct {
	set     *rows.Set // the rows; its list Origins is empty, because origins has them
	origins []rows.ParcelRow
}

// wakeAt returns when the watchdog has to look at the group: when its wait ends at the latest, or when its part's deadline passes if
// that is earlier. It returns never if there is no such time.
func (g *group) wakeAt() time.Duration {
	if !g.waiting {
		return g.parcel.deadline()
	}
	return min(g.due, g.parcel.deadline())
}

// deadline returns when the part's rows must have ended, by the clock of the lanes; never means that there is no deadline.
func (p *parcel) deadline() time.Duration {
	if p.part.Deadline.IsZero() {
		return never
	}
	return p.home.sources.clock.since(p.part.Deadline)
}

// isReleasedBy reports whether the request c of a Release asks for the group's rows.
func (g *group) isReleasedBy(c releaseRequest) bool {
	return c.includesKey(g.key()) && c.includesPart(g.parcel.part)
}

// hold returns the hold of the group's first row. keeps says that the row's function has run already, so that only its connector is to
// be asked.
func (g *group) hold() (h hold, keeps bool) {
	first := g.rows()[0]
	for _, packed := range g.parcel.sets[g.step] {
		if i, ok := slices.BinarySearch(packed.origins, first); ok {
			return holdOf(packed.set, i), keptOf(packed.set, i) != nil
		}
	}
	return hold{}, false
}
