package flowexec

import (
	"cmp"
	"slices"
)

// Waiting says how many rows of a flow wait in its lanes for something.
type Waiting struct {
	// Rows are parked, or their run rests. Keys is how many shard keys the parked ones have.
	Rows, Keys int
	// Most has the keys with the most parked rows, the one with the most first. A lane with very many parked rows looks only at some of
	// them, at others each time.
	Most []KeyRows
}

// KeyRows is a shard key, by its hash, and how many parked rows it has.
type KeyRows struct {
	Key  uint64
	Rows int
}

// looksAt is at how many groups of parked rows of one lane Waiting looks, so that it holds the lane's lock only for a moment.
const looksAt = 256

// Waiting returns how many rows wait, and at most that many keys of them. It may be called at any time.
func (l *Lanes) Waiting(keys int) Waiting {
	w := Waiting{Rows: int(l.metrics.waiting.Load())}
	if w.Rows <= 0 {
		return Waiting{}
	}
	var seen []KeyRows
	for _, ln := range l.all() {
		var n int
		seen, n = ln.parkedKeys(seen)
		w.Keys += n
	}
	slices.SortFunc(seen, func(a, b KeyRows) int { return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Key, b.Key)) })
	w.Most = seen[:min(len(seen), keys)]
	return w
}

// parkedKeys appends the keys of the lane that have parked rows to seen, for at most looksAt groups. n is how many such keys there are.
func (ln *lane) parkedKeys(seen []KeyRows) (_ []KeyRows, n int) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	looked := 0
	for key, g := range ln.parked.keys {
		if looked >= looksAt {
			break
		}
		at := KeyRows{Key: key}
		for ; g != nil && looked < looksAt; g = g.next {
			looked++
			if g.state == groupParked || g.state == groupReady {
				at.Rows += int(g.n)
			}
		}
		if at.Rows > 0 {
			seen = append(seen, at)
		}
	}
	return seen, len(ln.parked.keys)
}
