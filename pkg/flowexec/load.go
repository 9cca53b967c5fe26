package flowexec

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// runLoad takes rows through a Load: their keys are read together, rows whose key is not there wait for it, then the
// function gets each row with its value.
func (r *run) runLoad(s *step, rs *rowset) {
	f := &r.x.frame
	f.Keys = f.Keys[:0]
	if s.code == nil {
		r.now = rs
		if !r.reading(r.writesOwnCode(rs), rs, func() { r.declaredKeys(s, rs) }) {
			return
		}
	} else if !r.through(rs, s.code.Keys) {
		return
	}
	// Keys has an entry only for the rows that are left.
	rs = r.advance(rs)
	keys := f.Keys
	if rs.len() == 0 {
		return
	}
	values, err := r.loadKeys(s, rs, keys)
	if err != nil || r.returned {
		r.storeAway(s, rs, err)
		return
	}
	if rs, values = r.missing(s, rs, keys, values); rs.len() == 0 || r.halted {
		return
	}
	if s.code == nil {
		r.loadDeclared(s, rs, values)
		return
	}
	if !r.reading(r.plan.types.hasOwnCode(s.code.Saved()), rs, func() { rs, _ = r.readSaved(s, rs, values) }) {
		return
	}
	out := r.x.vectors.lend(s.outKind, s.code.NewOut)
	out.Reset(rs.len())
	f.Out = out
	if r.through(rs, s.code.Call) {
		r.refuseNil(s, rs, out)
		r.pass(r.x.next(rs, out, r.x.gone, s.index+1), s.index+1)
		r.leave(rs)
	}
}

// advance drops the rows that are gone and goes on with the others.
func (r *run) advance(rs *rowset) *rowset {
	if len(r.x.gone) == 0 {
		return rs
	}
	r.leave(rs)
	kept := r.x.keep(rs, r.x.gone)
	r.x.gone, r.x.jumps = r.x.gone[:0], r.x.jumps[:0]
	if r.step.code != nil {
		view, _ := r.view(r.step, kept, 0)
		r.x.frame.In = append(r.x.frame.In[:0], view)
	}
	r.x.frame.Rows, r.now = kept.len(), kept
	return kept
}

// loadKeys reads the keys of all rows, each key once. A run that parks as a whole waits for those that are missing, as long
// as the step says.
func (r *run) loadKeys(s *step, rs *rowset, keys []string) ([]connector.Value, error) {
	found := make(map[string]connector.Value, len(keys))
	var ask []string
	for _, key := range keys {
		if _, twice := found[key]; !twice {
			found[key] = connector.Value{}
			ask = append(ask, key)
		}
	}
	began := time.Now()
	err := r.persist(s, func(ctx context.Context, c connector.Connection) error { return loadInto(ctx, c, ask, found) })
	if err != nil {
		return nil, err
	}
	if s.onMissing == definition.OnMissingWait && !r.keyed {
		wait := s.wait
		for i := range rs.len() {
			wait = min(wait, r.left(i))
		}
		if err := r.waitFor(s, ask, found, wait); err != nil {
			return nil, err
		}
		began = began.Add(max(0, time.Since(began)-wait)) // what it waited for its lane counts for nothing
	}
	took := time.Since(began)
	for i := range rs.len() {
		r.spend(i, took)
	}
	values := make([]connector.Value, len(keys))
	for i, key := range keys {
		values[i] = found[key]
	}
	return values, nil
}

func loadInto(ctx context.Context, c connector.Connection, keys []string, found map[string]connector.Value) error {
	values, err := c.Load(ctx, keys)
	if err != nil {
		return err
	}
	for i, key := range keys {
		found[key] = values[i]
	}
	return nil
}

// waitFor waits until all keys are there, or the time is over.
func (r *run) waitFor(s *step, keys []string, found map[string]connector.Value, wait time.Duration) error {
	for until := time.Now().Add(wait); ; {
		keys = slices.DeleteFunc(keys, func(key string) bool { return !found[key].Missing() })
		left := time.Until(until)
		if len(keys) == 0 || left <= 0 {
			return nil
		}
		if !r.rest(left, s.connector, keys) {
			return context.Cause(r.x.ctx)
		}
		if err := r.persist(s, func(ctx context.Context, c connector.Connection) error { return loadInto(ctx, c, keys, found) }); err != nil {
			return err
		}
	}
}

// missing ends the rows whose key is not there, if the step does not take that, or can't be read.
func (r *run) missing(s *step, rs *rowset, keys []string, values []connector.Value) (*rowset, []connector.Value) {
	now := r.x.lane.lanes.now()
	r.spendWaits(rs, now)
	for i, v := range values {
		switch h := rs.holdOf(i); {
		case r.behind(rs, i):
			h = r.loadHold(s, i, h, now, v.Missing())
			h.since = notSpent
			r.setAside(i, h)
		case r.keyed && v.Missing() && s.onMissing == definition.OnMissingWait && (!h.load || now < h.due):
			h = r.loadHold(s, i, h, now, true)
			h.since = now
			r.park(i, h).want = keys[i]
		case v.Err != nil:
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1,
				Reason: trimmed(fmt.Sprintf("connector %s can't read key %q: %v", s.connector.Name, s.connector.Key+keys[i], v.Err))})
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

// notSpent is the since of a row that waited behind another: that costs it nothing.
const notSpent = -1

// spendWaits takes the time for which rows waited for their Load off what they have left.
func (r *run) spendWaits(rs *rowset, now time.Duration) {
	for i, h := range rs.holds {
		if h.load && h.since != notSpent {
			r.spend(i, min(now, h.due)-h.since)
		}
	}
}

// advanceWith is advance for rows that have values beside them.
func (r *run) advanceWith(rs *rowset, values []connector.Value) (*rowset, []connector.Value) {
	if len(r.x.gone) > 0 {
		rows := r.x.without(rs.len(), r.x.gone)
		kept := make([]connector.Value, len(rows))
		for i, row := range rows {
			kept[i] = values[row]
		}
		values = kept
	}
	return r.advance(rs), values
}

// readSaved reads the values into the type that the function takes.
func (r *run) readSaved(s *step, rs *rowset, values []connector.Value) (*rowset, []connector.Value) {
	f := &r.x.frame
	f.Saved, f.Found = s.code.NewSaved(), f.Found[:0]
	f.Saved.Reset(rs.len())
	reader := savedReader{row: f.Saved.Type(), types: r.plan.types}
	for i, v := range values {
		f.Found = append(f.Found, !v.Missing())
		if v.Missing() {
			continue
		}
		if !r.x.asks(i) {
			break
		}
		into := unsafe.Add(f.Saved.Pointer(), uintptr(i)*reader.row.Size())
		if err := reader.read(into, v.Fields); err != nil {
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeConversionFailed, Attempts: 1,
				Reason: trimmed(fmt.Sprintf("what connector %s has does not fit %v: %v", s.connector.Name, f.Saved.Type(), err))})
		}
	}
	if len(r.x.gone) == 0 {
		return rs, values
	}
	rs, values = r.advanceWith(rs, values)
	return r.readSaved(s, rs, values)
}

// savedReader reads saved fields into values of one type: map[string]string, or a struct by its fields' JSON names.
type savedReader struct {
	row   reflect.Type
	types *types
	known map[string]savedField // that came before, by name
	raw   []byte                // used again for each value
}

// savedField is what a field is read into, and its name as JSON.
type savedField struct {
	kind reflect.Kind
	name []byte
}

func (r *savedReader) read(into unsafe.Pointer, fields []connector.Field) error {
	if r.row.Kind() == reflect.Map {
		all := make(map[string]string, len(fields))
		for _, f := range fields {
			all[f.Name] = f.Value
		}
		reflect.NewAt(r.row, into).Elem().Set(reflect.ValueOf(all))
		return nil
	}
	// Names that differ in case only may mean one field: which of them counts must not depend on the store.
	byName := func(a, b connector.Field) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(fields, byName) {
		fields = slices.SortedFunc(slices.Values(fields), byName)
	}
	r.raw = append(r.raw[:0], '{')
	for i, f := range fields {
		field, ok := r.known[f.Name]
		if !ok {
			if r.known == nil {
				r.known = make(map[string]savedField)
			}
			field = savedField{kindOfField(r.row, f.Name), jsonOf(f.Name, reflect.String)}
			r.known[f.Name] = field
		}
		if i > 0 {
			r.raw = append(r.raw, ',')
		}
		r.raw = append(append(r.raw, field.name...), ':')
		start := len(r.raw)
		if r.raw = append(r.raw, f.Value...); field.kind == reflect.String || !json.Valid(r.raw[start:]) {
			r.raw = append(r.raw[:start], jsonOf(f.Value, reflect.String)...)
		}
	}
	r.raw = append(r.raw, '}')
	return r.types.codec(r.row).Decode(r.raw, into)
}

// kindOfField is the kind of the field that encoding/json reads a name into; Invalid if there is none.
func kindOfField(t reflect.Type, name string) reflect.Kind {
	fields, _ := fieldsOf(t)
	found, ok := rowjson.Find(fields, name)
	if !ok {
		return reflect.Invalid
	}
	f := found.Type
	for f.Kind() == reflect.Pointer {
		f = f.Elem()
	}
	if reflect.PointerTo(f).Implements(textUnmarshalerType) {
		return reflect.String
	}
	return f.Kind()
}

// jsonOf is a stored text as JSON: for a string field a string, else the JSON that it is, or a string if it is none.
func jsonOf(text string, kind reflect.Kind) json.RawMessage {
	if kind != reflect.String && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can always be written
	}
	return quoted
}

// declaredKeys are the keys that the function's document says.
func (r *run) declaredKeys(s *step, rs *rowset) {
	for i := range rs.len() {
		if !r.x.asks(i) {
			return
		}
		fields, err := r.object(rs, i)
		if err != nil {
			r.lose(i, undecodable(s, err))
			continue
		}
		key, err := keyOf(s.load.Key, fields)
		if err != nil {
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeMissingField, Attempts: 1, Reason: trimmed(err.Error())})
			continue
		}
		r.x.frame.Keys = append(r.x.frame.Keys, key)
	}
}

// loadDeclared sets the rows' fields as the function's document says.
func (r *run) loadDeclared(s *step, rs *rowset, values []connector.Value) {
	out := new(kis.Vec[json.RawMessage])
	var reader reflect.Type // what reads the rows next tells strings from numbers
	if next := s.index + 1; next < len(r.plan.steps) && len(r.plan.steps[next].in) > 0 {
		reader = r.plan.steps[next].in[0]
	}
	if !r.reading(r.writesOwnCode(rs), rs, func() {
		for i := range rs.len() {
			if !r.x.asks(i) {
				return
			}
			row, err := r.withFields(s, rs, i, values[i], reader)
			if err != nil {
				r.lose(i, undecodable(s, err))
			}
			out.Rows = append(out.Rows, row)
		}
	}) {
		return
	}
	r.pass(r.x.next(rs, out, r.x.gone, s.index+1), s.index+1)
}

func (r *run) withFields(s *step, rs *rowset, i int, value connector.Value, reader reflect.Type) (json.RawMessage, error) {
	row, err := r.object(rs, i)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, errors.New("it is null")
	}
	fields := row.byName()
	for _, name := range slices.Sorted(maps.Keys(s.load.Fields)) {
		fields[name] = json.RawMessage("null")
		for _, f := range value.Fields {
			if f.Name == s.load.Fields[name] {
				kind := reflect.Invalid
				if reader != nil {
					kind = kindOfField(reader, name)
				}
				fields[name] = jsonOf(f.Value, kind)
			}
		}
	}
	return json.Marshal(fields)
}
