package figures

import (
	"maps"
	"slices"
	"time"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The counts of a coordinator only grow while it lives, and nobody else changes them. So to merge them means to take the larger ones, and it
// does not matter who told them, how often, or in which order. A coordinator tells the others its own counts, and those of coordinators that
// have ended: a coordinator that starts later hears of their rows, too.

// others are the other coordinators. The Book's lock guards it.
type others struct {
	by   map[string]*other // by id
	mark uint64            // grows with each change of a count, so that answers need only have what has changed
	// folded are coordinators whose counts are in flow.before: they are not taken from others any more. The first one is forgotten first.
	folded []string
}

// other is another coordinator.
type other struct {
	after    uint64    // the mark of its last answer
	answered bool      // it has answered since it was missed last
	why      string    // why its counts are missing or not up to date; empty means that they are
	gone     time.Time // when it was found not to be registered; zero means that it is
}

const (
	// maxGone is how many coordinators that have ended the Book knows apart. Beyond, those that ended first are put together.
	maxGone = 64
	// maxFolded is how many of those are remembered by their ids.
	maxFolded = 1024
)

// next returns the mark of a new change.
func (o *others) next() uint64 {
	o.mark++
	return o.mark
}

// answers reports whether another coordinator answered when it was asked last, and is registered.
func (o *others) answers(id string) bool {
	c := o.by[id]
	return c != nil && c.answered && c.gone.IsZero()
}

// of returns the other coordinator with an id. One that is not known yet is made, and counts as one that has ended.
func (o *others) of(id string, now time.Time) *other {
	c := o.by[id]
	if c == nil {
		c = &other{gone: now}
		o.by[id] = c
	}
	return c
}

// Registered is called with the ids of the coordinators that are registered in etcd. Those that are not there have ended.
func (b *Book) Registered(now time.Time, ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	there := map[string]bool{}
	for _, id := range ids {
		if there[id] = true; id != b.id {
			if c := b.others.of(id, now); !c.gone.IsZero() {
				c.gone, c.answered, c.why = time.Time{}, false, "it has not answered yet"
			}
		}
	}
	var gone []string
	for id, c := range b.others.by {
		if there[id] {
			continue
		}
		if c.gone.IsZero() {
			c.gone = now
			for _, f := range b.flows { // from now on the others are told these counts: they are news
				if counted := f.by[id]; counted != nil {
					counted.mark = b.others.next()
				}
			}
		}
		gone = append(gone, id)
	}
	if len(gone) > maxGone {
		slices.SortFunc(gone, func(a, c string) int { return b.others.by[a].gone.Compare(b.others.by[c].gone) })
		for _, id := range gone[:len(gone)-maxGone] {
			b.fold(id)
		}
	}
}

// fold puts the counts of a coordinator that has ended to those of others like it. The caller holds mu.
func (b *Book) fold(id string) {
	for _, f := range b.flows {
		if c := f.by[id]; c != nil {
			f.before.add(&c.counts)
			delete(f.by, id)
		}
	}
	delete(b.others.by, id)
	b.others.folded = append(b.others.folded, id)
	if n := len(b.others.folded) - maxFolded; n > 0 {
		b.others.folded = slices.Delete(b.others.folded, 0, n)
	}
}

// After returns the mark of a coordinator's last answer, which the next question to it has to name.
func (b *Book) After(id string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.others.by[id]; c != nil {
		return c.after
	}
	return 0
}

// Missed notes why a coordinator could not be asked. Its counts stay in totals, and its next answer counts in no rate.
func (b *Book) Missed(id, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.others.by[id]; c != nil {
		c.answered, c.why = false, why
	}
}

// Answered takes the answer of the coordinator with the id.
func (b *Book) Answered(now time.Time, id string, m *pb.ShareFiguresResponse) {
	if m.GetCoordinator() != id {
		b.Missed(id, "another coordinator answers at its address: "+m.GetCoordinator())
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.others.of(id, now)
	seen := c.answered // so that all growth is since a moment ago
	for _, s := range m.GetCounts() {
		by := s.GetCoordinator()
		if by == "" {
			by = id
		}
		f := b.flow(s.GetFlow())
		if by == b.id || f == nil || slices.Contains(b.others.folded, by) {
			continue
		}
		if by != id {
			b.others.of(by, now)
		}
		own := by == id
		if b.merge(f, by, countsOf(s.GetRows()), own && seen) {
			f.changed = now
		}
		if own {
			f.of(by).oldest = time.Time{}
			if age := s.GetOldestMilliseconds(); age > 0 {
				f.of(by).oldest = now.Add(-time.Duration(min(age, 1<<40)) * time.Millisecond)
			}
		}
	}
	c.after, c.answered, c.why = m.GetMark(), true, ""
}

// merge takes counts of a coordinator, if they are larger than those that are known, and reports whether any was. rated says that the growth
// belongs to the last moments. The caller holds mu.
func (b *Book) merge(f *flow, by string, counts Counts, rated bool) bool {
	c := f.of(by)
	var grown Counts
	for i, n := range counts {
		grown[i] = max(n, c.counts[i]) - c.counts[i]
	}
	if grown == (Counts{}) {
		return false
	}
	c.counts.add(&grown)
	c.mark = b.others.next()
	if rated {
		b.grew(f, &grown)
	}
	return true
}

// Share returns the counts of this coordinator, and of those that have ended, that have changed since the mark. The counts of flows with rows
// in flight are always there, because these rows grow older.
func (b *Book) Share(now time.Time, after uint64) *pb.ShareFiguresResponse {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := &pb.ShareFiguresResponse{Coordinator: b.id, Mark: b.others.mark}
	if after > b.others.mark {
		after = 0 // the mark is not this coordinator's
	}
	for _, name := range slices.Sorted(maps.Keys(b.flows)) {
		for id, c := range b.flows[name].by {
			s := &pb.SharedCount{Flow: name, Rows: c.counts.message()}
			switch {
			case id == b.id:
				if !c.oldest.IsZero() {
					s.OldestMilliseconds = uint64(max(1, now.Sub(c.oldest).Milliseconds()))
				} else if c.mark <= after {
					continue
				}
			case c.mark <= after || b.others.by[id] == nil || b.others.by[id].gone.IsZero():
				continue
			default:
				s.Coordinator = id
			}
			m.Counts = append(m.Counts, s)
		}
	}
	return m
}
