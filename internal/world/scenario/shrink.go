package scenario

import (
	"reflect"
	"slices"
	"time"
)

// Shrink makes a scenario smaller as long as breaks says that it still goes wrong in the same way: it takes elements away, first many at
// once and then one by one, then settings, and then it makes numbers and times smaller. It ends when nothing more can be taken away, or
// when breaks returns an error, such as that the time for shrinking is over. It returns the smallest scenario that went wrong.
func Shrink(s *Scenario, breaks func(*Scenario) (bool, error)) *Scenario {
	h := &shrinker{best: s.clone(), breaks: breaks, tried: map[string]bool{s.String(): true}}
	for before := ""; h.err == nil && before != h.best.String(); {
		before = h.best.String()
		for _, lists := range [][]string{{"fault", "change"}, {"client"}, {"flow"}, {"worker"}, {"coordinator"}} {
			h.elements(lists)
		}
		h.settings()
		h.sizes()
	}
	return h.best
}

// shrinker is the state of Shrink.
type shrinker struct {
	best   *Scenario
	breaks func(*Scenario) (bool, error)
	err    error           // the error with which breaks ended the work
	tried  map[string]bool // scripts that need not be tried again
}

// try makes a smaller scenario the best one, if it can be carried out and goes wrong too.
func (h *shrinker) try(smaller *Scenario) bool {
	if h.err != nil || smaller == nil || smaller.Check() != nil {
		return false
	}
	smaller.sort()
	script := smaller.String()
	if h.tried[script] {
		return false
	}
	h.tried[script] = true
	broken, err := h.breaks(smaller)
	if err != nil {
		h.err = err
		return false
	}
	if broken {
		h.best = smaller
	}
	return broken
}

// elements takes elements of some lists away: all of them, then each half, each quarter, and so on to single ones.
func (h *shrinker) elements(lists []string) {
	count := func() int {
		n := 0
		for _, l := range h.best.lines() {
			if slices.Contains(lists, l.list) {
				n++
			}
		}
		return n
	}
	for size := count(); size > 0 && h.err == nil; size /= 2 {
		for from := 0; from < count(); {
			if !h.try(h.best.without(lists, from, from+size)) {
				from += size
			}
		}
	}
}

// settings takes settings away, so that their default holds: first all of a line, then one by one.
func (h *shrinker) settings() {
	for i := 0; i < len(h.best.lines()); i++ {
		h.try(h.best.changed(i, func(f field) { f.value.SetZero() }))
		for j := range fieldsOf(h.best.lines()[i]) {
			h.try(h.best.changedField(i, j, func(f field) { f.value.SetZero() }))
		}
	}
}

// sizes makes numbers and times smaller: to 1, and to a half again and again. Times become whole seconds where they can.
func (h *shrinker) sizes() {
	for h.best.Lasts > 2*time.Second && h.try(h.best.lasting(2)) { // until it fails
	}
	for i := 0; i < len(h.best.lines()); i++ {
		l := h.best.lines()[i]
		if l.word == "lasts" {
			continue
		}
		if l.word == "at" {
			h.try(h.best.atSecond(i))
		}
		if l.word == "seed" || l.word == "calm" {
			continue
		}
		for j, f := range fieldsOf(l) {
			if !f.value.CanInt() {
				continue
			}
			small := int64(1)
			if _, is := f.value.Interface().(time.Duration); is {
				small = int64(time.Second)
			}
			if f.value.Int() > small {
				h.try(h.best.changedField(i, j, func(f field) { f.value.SetInt(small) }))
			}
			for fieldsOf(h.best.lines()[i])[j].value.Int() > small {
				if !h.try(h.best.changedField(i, j, func(f field) { f.value.SetInt(rounded(f.value.Int()/2, small)) })) {
					break
				}
			}
		}
	}
}

// rounded returns n without its smallest digits, if it is a time: in whole seconds above one second, else in whole milliseconds.
func rounded(n, second int64) int64 {
	if second == 1 {
		return n
	}
	if n > second {
		return n / second * second
	}
	return n / int64(time.Millisecond) * int64(time.Millisecond)
}

// clone returns a copy that shares nothing with s.
func (s *Scenario) clone() *Scenario {
	c := *s
	c.Coordinators, c.Workers, c.Flows = slices.Clone(s.Coordinators), slices.Clone(s.Workers), slices.Clone(s.Flows)
	c.Clients, c.Changes, c.Faults = slices.Clone(s.Clients), slices.Clone(s.Changes), slices.Clone(s.Faults)
	return &c
}

// without returns s without the elements of some lists that stand at from to to-1 among them, and without the elements that can't be
// without those, such as the clients of a flow. It returns nil when this can't be.
func (s *Scenario) without(lists []string, from, to int) *Scenario {
	c := s.clone()
	n := 0
	gone := map[string][]int{}
	for _, l := range s.lines() {
		if slices.Contains(lists, l.list) {
			if n >= from && n < to {
				gone[l.list] = append(gone[l.list], l.index)
			}
			n++
		}
	}
	for list, indexes := range gone {
		c.remove(list, indexes)
	}
	for range 10 {
		gone := map[string][]int{}
		for _, p := range c.problems() {
			if p.List == "" {
				return nil
			}
			gone[p.List] = append(gone[p.List], p.Index)
		}
		if len(gone) == 0 {
			return c
		}
		for list, indexes := range gone {
			c.remove(list, indexes)
		}
	}
	return nil
}

// remove takes elements out of a list.
func (s *Scenario) remove(list string, indexes []int) {
	top := reflect.ValueOf(s).Elem()
	for i := range top.NumField() {
		if all := top.Field(i); all.Kind() == reflect.Slice && listName(top.Type().Field(i).Name) == list {
			kept := reflect.MakeSlice(all.Type(), 0, all.Len())
			for j := range all.Len() {
				if !slices.Contains(indexes, j) {
					kept = reflect.Append(kept, all.Index(j))
				}
			}
			if kept.Len() == 0 {
				kept = reflect.Zero(all.Type())
			}
			all.Set(kept)
		}
	}
}

// fieldsOf returns the settings of a line: the fields that do not stand at its beginning, and how long a fault lasts.
func fieldsOf(l line) []field {
	if l.value.Kind() != reflect.Struct {
		return []field{{word: l.word, value: l.value}}
	}
	var all []field
	for _, f := range fields(l.value) {
		if !f.lead {
			all = append(all, f)
		}
	}
	if l.list == "fault" {
		all = append(all, field{word: "for", value: l.value.FieldByName("For")})
	}
	return all
}

// changed returns s with all settings of one line changed that have a value.
func (s *Scenario) changed(at int, change func(field)) *Scenario {
	c := s.clone()
	lines := c.lines()
	if lines[at].value.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range fieldsOf(lines[at]) {
		if !needed[f.word] && !f.value.IsZero() {
			change(f)
		}
	}
	return c
}

// needed are settings without which most lines make no sense.
var needed = map[string]bool{"on": true, "of": true, "rows": true, "batch": true, "for": true, "from": true, "by": true, "n": true, "seed": true}

// changedField returns s with one setting of one line changed, or nil when it has no value.
func (s *Scenario) changedField(at, which int, change func(field)) *Scenario {
	c := s.clone()
	lines := c.lines()
	if at >= len(lines) {
		return nil
	}
	all := fieldsOf(lines[at])
	if which >= len(all) || all[which].value.IsZero() || lines[at].word == "seed" {
		return nil
	}
	change(all[which])
	return c
}

// atSecond returns s with the time of an event rounded down to whole seconds.
func (s *Scenario) atSecond(at int) *Scenario {
	c := s.clone()
	when := c.lines()[at].value.FieldByName("At")
	when.SetInt(rounded(when.Int(), int64(time.Second)))
	return c
}

// lasting returns s with all times divided by a number: its duration, and when changes and faults come.
func (s *Scenario) lasting(part time.Duration) *Scenario {
	c := s.clone()
	divide := func(d *time.Duration) { *d = (*d / part).Truncate(time.Millisecond) }
	divide(&c.Lasts)
	for i := range c.Changes {
		divide(&c.Changes[i].At)
	}
	for i := range c.Faults {
		divide(&c.Faults[i].At)
		divide(&c.Faults[i].For)
	}
	for i := range c.Clients {
		divide(&c.Clients[i].Start)
		divide(&c.Clients[i].Every)
	}
	return c
}
