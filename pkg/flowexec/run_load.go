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

// loading takes rows through a Load. The keys of all rows are read in one call, a row whose key is missing may wait for it, and
// the function is called for each row with its value.
type loading struct {
	st  *stepRun
	run *run
	x   *executor
}

// load takes the rows of rs through the Load step s.
func (ld *loading) load(s *step, rs *rows.Set) {
	f := &ld.x.frame
	f.Keys = f.Keys[:0]
	if s.code == nil {
		ld.st.rs = rs
		if !ld.st.reading(ld.x.reader.RunsOwnCodeToWrite(rs), rs, func() { ld.declaredKeys(s, rs) }) {
			return
		}
	} else if !ld.st.callEach(rs, s.code.Keys, true) {
		return
	}
	// Keys has an element only for the rows that are left.
	rs = ld.advance(rs)
	keys := f.Keys
	if rs.Len() == 0 {
		return
	}
	var values []connector.Value
	if ld.run.keyed {
		rs, keys, values = ld.keyed(s, rs, keys)
	} else {
		rs, keys, values = ld.whole(s, rs, keys)
	}
	if rs.Len() == 0 || ld.run.halted {
		return
	}
	if rs, values = ld.missing(s, rs, keys, values); rs.Len() == 0 || ld.run.halted {
		return
	}
	if s.code == nil {
		ld.declared(s, rs, values)
		return
	}
	if !ld.st.reading(ld.run.plan.types.HasOwnCode(s.code.Saved()), rs, func() { rs, values = ld.readSaved(s, rs, values) }) {
		return
	}
	out := ld.x.mem.Lend(s.outKind, s.code.NewOut)
	out.Reset(rs.Len())
	f.Out = out
	if s.CalledAgain {
		ld.st.reload = func(i int) { ld.readSavedRow(i, values[i]) }
	}
	if ld.st.callEach(rs, s.code.Call, false) {
		ld.st.refuseNil(s, rs, out)
		ld.st.send(rs, ld.x.mem.Next(rs, out, ld.st.gone, s.Index+1))
	}
	ld.st.reload = nil
}

// advance sends the rows that do not go on (verdicts.gone) to where they go, and returns the others, for which the step goes on.
func (ld *loading) advance(rs *rows.Set) *rows.Set {
	if len(ld.st.gone) == 0 {
		return rs
	}
	ld.st.send(rs, nil)
	kept := ld.x.mem.Keep(rs, ld.st.gone)
	ld.st.gone, ld.st.jumps = ld.st.gone[:0], ld.st.jumps[:0]
	if ld.st.step.code != nil {
		view, _ := ld.x.reader.View(&ld.st.step.Input, kept, 0)
		ld.x.frame.In = append(ld.x.frame.In[:0], view)
	}
	ld.x.frame.Rows, ld.st.rs = kept.Len(), kept
	return kept
}

// call returns the function that reads keys from a connector, each key once, for asking.ask.
func (ld *loading) call(keys []string) func(context.Context, connector.Connection) (asked, error) {
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

// keyed reads the keys of rows in a run with keys. Rows whose answer came while they were parked have their value already; rows whose
// answer does not come within patience park. It returns the rows that go on, with their keys and values.
func (ld *loading) keyed(s *step, rs *rows.Set, keys []string) (*rows.Set, []string, []connector.Value) {
	var wanted []string
	for i, key := range keys {
		if !keptOf(rs, i).answered() {
			wanted = append(wanted, key)
		}
	}
	var a *ask
	began, answered := ld.x.lane.lanes.clock.now(), true
	if len(wanted) > 0 {
		a = ld.st.asking.ask(s, ld.run.budgets.most(), ld.call(wanted))
		began, answered = ld.st.asking.soon(a, began)
	}
	if o := ld.x.stopped(); o != nil {
		if a != nil {
			a.cancel()
		}
		ld.st.halt(*o)
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
		case ld.run.parking.behind(rs, i), k.ask == a && !answered:
			ld.st.asking.parkAsking(i, *k)
		case k.ask.asked.err != nil:
			ld.st.asking.askAgain(i, *k, k.ask.asked.err)
		default:
			values[i] = k.ask.asked.values[key]
			if a := alongOf(rs); a != nil && a.keeps != nil {
				a.keeps[i] = nil
			}
		}
	}
	return ld.advanceKeyed(rs, keys, values)
}

// advanceKeyed does the same as advance, and takes the keys and values of rows that have ended out of keys and values, lists with one
// for each row.
func (ld *loading) advanceKeyed(rs *rows.Set, keys []string, values []connector.Value) (*rows.Set, []string, []connector.Value) {
	if len(ld.st.gone) > 0 {
		keys = rows.Pick(keys, ld.x.mem.Without(rs.Len(), ld.st.gone))
	}
	rs, values = ld.advanceWith(rs, values)
	return rs, keys, values
}

// whole reads the connector's keys for the rows of a run without shard keys. While keys are missing and option.on_missing is wait,
// the run rests, for as long as option.wait says and the rows have time left. Rows whose connector could not be asked in time end. It
// returns the rows that go on, with their keys and values.
func (ld *loading) whole(s *step, rs *rows.Set, keys []string) (*rows.Set, []string, []connector.Value) {
	answer, over, ok := ld.st.asking.persist(s, ld.call(keys))
	found := answer.values
	began := ld.x.lane.lanes.clock.now()
	until := make([]time.Duration, len(keys))
	for i := range until {
		until[i] = began + min(s.wait, ld.run.budgets.left(i))
	}
	for ok && s.onMissing == definition.OnMissingWait {
		// Only the rows whose key is missing wait, and are charged.
		now, first := ld.x.lane.lanes.clock.now(), never
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
		if ok = ld.run.rest(first-now, s.connector, missing, nil); !ok {
			break
		}
		ld.run.budgets.chargeWait(idle, ld.run.woke-now)
		var late []bool
		if answer, late, ok = ld.st.asking.persist(s, ld.call(missing)); ok {
			maps.Copy(found, answer.values)
		}
		for i := range over {
			over[i] = over[i] || late[i] && until[i] > ld.run.woke
		}
	}
	if !ok {
		ld.st.asking.storeAway(answer.err)
		return ld.x.mem.Keep(rs, rows.Range[uint32](0, rs.Len())), nil, nil
	}
	values := make([]connector.Value, len(keys))
	for i, key := range keys {
		if values[i] = found[key]; over[i] {
			ld.st.lose(i, ld.st.asking.unasked(nil))
		}
	}
	return ld.advanceKeyed(rs, keys, values)
}

// missing decides about rows whose key is not in the connector, as option.on_missing says: they wait for it, end, or go on without
// a value. Rows whose value can't be read end. It returns the rows that go on, with their values.
func (ld *loading) missing(s *step, rs *rows.Set, keys []string, values []connector.Value) (*rows.Set, []connector.Value) {
	now := ld.x.lane.lanes.clock.now()
	ld.spendWaits(rs, now)
	for i, v := range values {
		switch h := holdOf(rs, i); {
		case ld.run.parking.behind(rs, i):
			h = ld.holdFor(s, i, h, now, v.Missing())
			h.since = notSpent
			ld.st.parkBehind(i, h)
		case ld.run.keyed && v.Missing() && s.onMissing == definition.OnMissingWait && (!h.load || now < h.due):
			h = ld.holdFor(s, i, h, now, true)
			h.since = now
			ld.st.park(i, h).wantedKey = keys[i]
		case v.Err != nil:
			ld.st.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1,
				Reason: decode.Trimmed(fmt.Sprintf("connector %s can't read key %q: %v", s.connector.Name, s.connector.Key+keys[i], v.Err))})
		case !v.Missing() || s.onMissing == definition.OnMissingNull:
		case s.onMissing == definition.OnMissingDead:
			ld.st.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLoadMissing, Attempts: 1,
				Reason: fmt.Sprintf("connector %s has no key %q", s.connector.Name, s.connector.Key+keys[i])})
		default:
			pointWaitRanOut.Hit()
			ld.st.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLoadTimeout, Attempts: 1,
				Reason: fmt.Sprintf("connector %s had no key %q within %v: save it first, or raise option.wait",
					s.connector.Name, s.connector.Key+keys[i], s.wait)})
		}
	}
	return ld.advanceWith(rs, values)
}

// holdFor returns the hold for row i, which parks to wait for its key or behind another row. h is its hold so far, and missing says
// that its key is not in the connector. The time to wait (option.wait) counts from when the key was first found missing.
func (ld *loading) holdFor(s *step, i int, h hold, now time.Duration, missing bool) hold {
	if missing && !h.load && s.onMissing == definition.OnMissingWait {
		h.load, h.since, h.due = true, now, now+min(s.wait, ld.run.budgets.left(i))
	}
	return h
}

// spendWaits charges rows that were parked for the time for which they have waited for their key to be saved.
func (ld *loading) spendWaits(rs *rows.Set, now time.Duration) {
	if rs.Along == nil {
		return
	}
	for i, h := range alongOf(rs).holds {
		if h.load && h.since != notSpent {
			ld.run.budgets.spend(i, min(now, h.due)-h.since)
		}
	}
}

// advanceWith does the same as advance, and takes the values of rows that have ended out of values, a list with one for each row.
func (ld *loading) advanceWith(rs *rows.Set, values []connector.Value) (*rows.Set, []connector.Value) {
	if len(ld.st.gone) > 0 {
		rows := ld.x.mem.Without(rs.Len(), ld.st.gone)
		kept := make([]connector.Value, len(rows))
		for i, row := range rows {
			kept[i] = values[row]
		}
		values = kept
	}
	return ld.advance(rs), values
}

// readSaved reads the stored values as the type that the function takes. Rows whose value does not fit end. It returns the rows
// that go on, with their values.
func (ld *loading) readSaved(s *step, rs *rows.Set, values []connector.Value) (*rows.Set, []connector.Value) {
	f := &ld.x.frame
	f.Saved, f.Found = s.code.NewSaved(), f.Found[:0]
	f.Saved.Reset(rs.Len())
	reader := decode.StoredReader{Row: f.Saved.Type(), Types: ld.run.plan.types}
	for i, v := range values {
		f.Found = append(f.Found, !v.Missing())
		if v.Missing() {
			continue
		}
		if !ld.x.asks(i) {
			break
		}
		into := unsafe.Add(f.Saved.Pointer(), uintptr(i)*reader.Row.Size())
		if err := reader.Read(into, v.Fields); err != nil {
			ld.st.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1,
				Reason: decode.Trimmed(fmt.Sprintf("what connector %s has does not fit %s: %v", s.connector.Name, s.Name, err))})
		}
	}
	if len(ld.st.gone) == 0 {
		return rs, values
	}
	rs, values = ld.advanceWith(rs, values)
	return ld.readSaved(s, rs, values)
}

// readSavedRow reads the stored value of row i once more, before another attempt: the function may have changed it.
func (ld *loading) readSavedRow(i int, v connector.Value) {
	f := &ld.x.frame
	row := f.Saved.Type()
	into := unsafe.Add(f.Saved.Pointer(), uintptr(i)*row.Size())
	f.Saved.Slice().Index(i).SetZero()
	if !v.Missing() {
		reader := decode.StoredReader{Row: row, Types: ld.run.plan.types}
		ld.st.reading(ld.run.plan.types.HasOwnCode(row), ld.st.rs, func() { _ = reader.Read(into, v.Fields) }) // no error: it was read before
	}
}

// declaredKeys appends the key of each row to the frame's Keys, for a Load without Go code: it makes the key of the template in the
// function's document. Rows for which that fails end.
func (ld *loading) declaredKeys(s *step, rs *rows.Set) {
	for i := range rs.Len() {
		if !ld.x.asks(i) {
			return
		}
		if ld.st.asking.stillWaits(rs, i) || ld.st.saysAgain(i) {
			continue
		}
		row, err := ld.st.effectRow(s, rs, i, s.effects == nil)
		if err != nil {
			row.done()
			ld.st.lose(i, unreadable(s, err, rs.Born != ld.run.part.Start))
			continue
		}
		key, err := row.key(s.load.Key)
		row.done()
		if err != nil {
			ld.st.lose(i, effectOutcome(err))
			continue
		}
		ld.x.frame.Keys = append(ld.x.frame.Keys, key)
	}
}

// declared does the work of a Load without Go code: it sets those fields of the rows that the function's document names to the loaded
// values, and sends the rows on.
func (ld *loading) declared(s *step, rs *rows.Set, values []connector.Value) {
	out := new(kis.Vec[json.RawMessage])
	if !ld.st.reading(s.sets.OwnCode || ld.x.reader.RunsOwnCodeToWrite(rs), rs, func() {
		for i := range rs.Len() {
			if !ld.x.asks(i) {
				return
			}
			row, err := ld.x.reader.WithFields(rs, i, &s.sets, values[i])
			if _, unfit := errors.AsType[*decode.UnfitError](err); unfit {
				ld.st.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1, Reason: decode.Trimmed(err.Error())})
			} else if err != nil {
				ld.st.lose(i, undecodable(s, err))
			}
			out.Rows = append(out.Rows, row)
		}
	}) {
		return
	}
	ld.st.send(rs, ld.x.mem.Next(rs, out, ld.st.gone, s.Index+1))
}
