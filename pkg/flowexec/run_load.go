package flowexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// runLoad takes rows through a Load: their keys are read together, rows whose key is not there wait for it, then the
// function gets each row with its value.
func (r *run) runLoad(s *step, rs *rows.Set) {
	f := &r.x.frame
	f.Keys = f.Keys[:0]
	if s.code == nil {
		r.now = rs
		if !r.reading(r.x.reader.RunsOwnCodeToWrite(rs), rs, func() { r.declaredKeys(s, rs) }) {
			return
		}
	} else if !r.through(rs, s.code.Keys, true) {
		return
	}
	// Keys has an entry only for the rows that are left.
	rs = r.advance(rs)
	keys := f.Keys
	if rs.Len() == 0 {
		return
	}
	var values []connector.Value
	if r.keyed {
		rs, keys, values = r.loadKeyed(s, rs, keys)
	} else {
		rs, keys, values = r.loadWhole(s, rs, keys)
	}
	if rs.Len() == 0 || r.halted {
		return
	}
	if rs, values = r.missing(s, rs, keys, values); rs.Len() == 0 || r.halted {
		return
	}
	if s.code == nil {
		r.loadDeclared(s, rs, values)
		return
	}
	if !r.reading(r.plan.types.HasOwnCode(s.code.Saved()), rs, func() { rs, values = r.readSaved(s, rs, values) }) {
		return
	}
	out := r.x.mem.Lend(s.outKind, s.code.NewOut)
	out.Reset(rs.Len())
	f.Out = out
	if s.CalledAgain {
		r.reload = func(i int) { r.readSavedRow(i, values[i]) }
	}
	if r.through(rs, s.code.Call, false) {
		r.refuseNil(s, rs, out)
		r.pass(r.x.mem.Next(rs, out, r.x.gone, s.Index+1), s.Index+1)
		r.leave(rs)
	}
	r.reload = nil
}

// advance drops the rows that are gone and goes on with the others.
func (r *run) advance(rs *rows.Set) *rows.Set {
	if len(r.x.gone) == 0 {
		return rs
	}
	r.leave(rs)
	kept := r.x.mem.Keep(rs, r.x.gone)
	r.x.gone, r.x.jumps = r.x.gone[:0], r.x.jumps[:0]
	if r.step.code != nil {
		view, _ := r.x.reader.View(&r.step.Input, kept, 0)
		r.x.frame.In = append(r.x.frame.In[:0], view)
	}
	r.x.frame.Rows, r.now = kept.Len(), kept
	return kept
}

// load is the call that reads keys, each once.
func (r *run) load(keys []string) func(context.Context, connector.Connection) (asked, error) {
	once := make([]string, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			once = append(once, key)
		}
	}
	return func(ctx context.Context, c connector.Connection) (asked, error) {
		values, err := c.Load(ctx, once)
		if err != nil {
			return asked{}, err
		}
		found := make(map[string]connector.Value, len(once))
		for i, key := range once {
			found[key] = values[i]
		}
		return asked{values: found}, nil
	}
}

// loadKeyed reads the keys of the rows under way together. Those that were answered while they were parked are not read again,
// and those that are not answered soon park. It returns the rows that go on, with their keys and values.
func (r *run) loadKeyed(s *step, rs *rows.Set, keys []string) (*rows.Set, []string, []connector.Value) {
	var wanted []string
	for i, key := range keys {
		if !keptOf(rs, i).answered() {
			wanted = append(wanted, key)
		}
	}
	var a *ask
	began, answered := r.x.lane.lanes.clock.now(), true
	if len(wanted) > 0 {
		a = r.ask(s, r.mostLeft(), r.load(wanted))
		began, answered = r.soon(a, began)
	}
	if o := r.x.stopped(); o != nil {
		if a != nil {
			a.cancel()
		}
		r.halt(*o)
		return rs, nil, nil
	}
	values := make([]connector.Value, len(keys))
	for i, key := range keys {
		k := keptOf(rs, i)
		switch {
		case k.answered():
		case k == nil:
			k = &kept{said: said{key: key}, ask: a, since: began}
		default:
			again := *k
			again.ask, again.since = a, began
			k = &again
		}
		switch {
		case r.behind(rs, i), k.ask == a && !answered:
			r.parkAsking(i, *k)
		case k.ask.asked.err != nil:
			r.askAgain(i, *k, k.ask.asked.err)
		default:
			values[i] = k.ask.asked.values[key]
			if a := alongOf(rs); a != nil && a.keeps != nil {
				a.keeps[i] = nil
			}
		}
	}
	return r.advanceKeyed(rs, keys, values)
}

// advanceKeyed is advance for rows that have keys and values beside them.
func (r *run) advanceKeyed(rs *rows.Set, keys []string, values []connector.Value) (*rows.Set, []string, []connector.Value) {
	if len(r.x.gone) > 0 {
		keys = rows.Pick(keys, r.x.mem.Without(rs.Len(), r.x.gone))
	}
	rs, values = r.advanceWith(rs, values)
	return rs, keys, values
}

// loadWhole reads the keys of a run without keys, and waits for those that are missing, as long as the step says and their
// rows have time. Rows whose connector could not be asked in time end.
func (r *run) loadWhole(s *step, rs *rows.Set, keys []string) (*rows.Set, []string, []connector.Value) {
	answer, over, ok := r.persist(s, r.load(keys))
	found := answer.values
	began := r.x.lane.lanes.clock.now()
	until := make([]time.Duration, len(keys))
	for i := range until {
		until[i] = began + min(s.wait, r.left(i))
	}
	for ok && s.onMissing == definition.OnMissingWait {
		// The rows that wait are those whose key is missing: they alone are charged.
		now, first := r.x.lane.lanes.clock.now(), never
		idle := slices.Clone(over)
		var missing []string
		for i, key := range keys {
			if idle[i] = over[i] || !found[key].Missing() || until[i] <= now; !idle[i] {
				missing, first = append(missing, key), min(first, until[i])
			}
		}
		if len(missing) == 0 {
			break
		}
		slices.Sort(missing)
		missing = slices.Compact(missing)
		if ok = r.rest(first-now, s.connector, missing, nil); !ok {
			break
		}
		r.chargeAll(idle, r.woke-now)
		var late []bool
		if answer, late, ok = r.persist(s, r.load(missing)); ok {
			maps.Copy(found, answer.values)
		}
		for i := range over {
			over[i] = over[i] || late[i] && until[i] > r.woke
		}
	}
	if !ok {
		r.storeAway(answer.err)
		return r.x.mem.Keep(rs, rows.Range[uint32](0, rs.Len())), nil, nil
	}
	values := make([]connector.Value, len(keys))
	for i, key := range keys {
		if values[i] = found[key]; over[i] {
			r.lose(i, r.unasked(nil))
		}
	}
	return r.advanceKeyed(rs, keys, values)
}

// missing ends the rows whose key is not there, if the step does not take that, or can't be read.
func (r *run) missing(s *step, rs *rows.Set, keys []string, values []connector.Value) (*rows.Set, []connector.Value) {
	now := r.x.lane.lanes.clock.now()
	r.spendWaits(rs, now)
	for i, v := range values {
		switch h := holdOf(rs, i); {
		case r.behind(rs, i):
			h = r.loadHold(s, i, h, now, v.Missing())
			h.since = notSpent
			r.setAside(i, h)
		case r.keyed && v.Missing() && s.onMissing == definition.OnMissingWait && (!h.load || now < h.due):
			h = r.loadHold(s, i, h, now, true)
			h.since = now
			r.park(i, h).wantedKey = keys[i]
		case v.Err != nil:
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1,
				Reason: decode.Trimmed(fmt.Sprintf("connector %s can't read key %q: %v", s.connector.Name, s.connector.Key+keys[i], v.Err))})
		case !v.Missing() || s.onMissing == definition.OnMissingNull:
		case s.onMissing == definition.OnMissingDead:
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLoadMissing, Attempts: 1,
				Reason: fmt.Sprintf("connector %s has no key %q", s.connector.Name, s.connector.Key+keys[i])})
		default:
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLoadTimeout, Attempts: 1,
				Reason: fmt.Sprintf("connector %s had no key %q within %v: save it first, or raise option.wait",
					s.connector.Name, s.connector.Key+keys[i], s.wait)})
		}
	}
	return r.advanceWith(rs, values)
}

// loadHold is what a row takes along that waits for its Load, or for another row of its key: the time to wait is counted from
// the first look.
func (r *run) loadHold(s *step, i int, h hold, now time.Duration, missing bool) hold {
	if missing && !h.load && s.onMissing == definition.OnMissingWait {
		h.load, h.since, h.due = true, now, now+min(s.wait, r.left(i))
	}
	return h
}

// spendWaits takes the time for which rows waited for their Load off what they have left.
func (r *run) spendWaits(rs *rows.Set, now time.Duration) {
	if rs.Along == nil {
		return
	}
	for i, h := range alongOf(rs).holds {
		if h.load && h.since != notSpent {
			r.spend(i, min(now, h.due)-h.since)
		}
	}
}

// advanceWith is advance for rows that have values beside them.
func (r *run) advanceWith(rs *rows.Set, values []connector.Value) (*rows.Set, []connector.Value) {
	if len(r.x.gone) > 0 {
		rows := r.x.mem.Without(rs.Len(), r.x.gone)
		kept := make([]connector.Value, len(rows))
		for i, row := range rows {
			kept[i] = values[row]
		}
		values = kept
	}
	return r.advance(rs), values
}

// readSaved reads the values into the type that the function takes.
func (r *run) readSaved(s *step, rs *rows.Set, values []connector.Value) (*rows.Set, []connector.Value) {
	f := &r.x.frame
	f.Saved, f.Found = s.code.NewSaved(), f.Found[:0]
	f.Saved.Reset(rs.Len())
	reader := decode.StoredReader{Row: f.Saved.Type(), Types: r.plan.types}
	for i, v := range values {
		f.Found = append(f.Found, !v.Missing())
		if v.Missing() {
			continue
		}
		if !r.x.asks(i) {
			break
		}
		into := unsafe.Add(f.Saved.Pointer(), uintptr(i)*reader.Row.Size())
		if err := reader.Read(into, v.Fields); err != nil {
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1,
				Reason: decode.Trimmed(fmt.Sprintf("what connector %s has does not fit %v: %v", s.connector.Name, f.Saved.Type(), err))})
		}
	}
	if len(r.x.gone) == 0 {
		return rs, values
	}
	rs, values = r.advanceWith(rs, values)
	return r.readSaved(s, rs, values)
}

// readSavedRow reads the value of one row again, which was read before.
func (r *run) readSavedRow(i int, v connector.Value) {
	f := &r.x.frame
	row := f.Saved.Type()
	into := unsafe.Add(f.Saved.Pointer(), uintptr(i)*row.Size())
	f.Saved.Slice().Index(i).SetZero()
	if !v.Missing() {
		reader := decode.StoredReader{Row: row, Types: r.plan.types}
		r.reading(r.plan.types.HasOwnCode(row), r.now, func() { _ = reader.Read(into, v.Fields) }) // it could be read before
	}
}

// declaredKeys are the keys that the function's document says.
func (r *run) declaredKeys(s *step, rs *rows.Set) {
	for i := range rs.Len() {
		if !r.x.asks(i) {
			return
		}
		if r.stillWaits(rs, i) || r.saysAgain(i) {
			continue
		}
		fields, err := r.x.reader.Object(rs, i)
		if err != nil {
			r.lose(i, undecodable(s, err))
			continue
		}
		key, err := keyOf(s.load.Key, fields)
		if err != nil {
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeMissingField, Attempts: 1, Reason: decode.Trimmed(err.Error())})
			continue
		}
		r.x.frame.Keys = append(r.x.frame.Keys, key)
	}
}

// loadDeclared sets the rows' fields as the function's document says.
func (r *run) loadDeclared(s *step, rs *rows.Set, values []connector.Value) {
	out := new(kis.Vec[json.RawMessage])
	if !r.reading(s.sets.OwnCode || r.x.reader.RunsOwnCodeToWrite(rs), rs, func() {
		for i := range rs.Len() {
			if !r.x.asks(i) {
				return
			}
			row, err := r.x.reader.WithFields(rs, i, &s.sets, values[i])
			if _, unfit := errors.AsType[*decode.UnfitError](err); unfit {
				r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1, Reason: decode.Trimmed(err.Error())})
			} else if err != nil {
				r.lose(i, undecodable(s, err))
			}
			out.Rows = append(out.Rows, row)
		}
	}) {
		return
	}
	r.pass(r.x.mem.Next(rs, out, r.x.gone, s.Index+1), s.Index+1)
}
