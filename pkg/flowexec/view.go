package flowexec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var (
	rawType = reflect.TypeFor[json.RawMessage]()
	anyType = reflect.TypeFor[any]()
)

// prepare makes the rows readable as the types that the step's function reads, in the frame's In. Rows that can't be read so
// end, each for itself.
func (r *run) prepare(s *step, rs *rows.Set) *rows.Set {
	r.now = rs
	if !r.readsOwnCode(s, rs) {
		return r.makeReadable(s, rs)
	}
	var readable *rows.Set
	r.reading(true, rs, func() { readable = r.makeReadable(s, rs) })
	return readable
}

// reading reads or writes rows of rs, under the watchdog if that may call methods of the user's types. False: the run is
// over.
func (r *run) reading(ownCode bool, rs *rows.Set, read func()) bool {
	if !ownCode {
		read()
		return true
	}
	if f := r.x.reading(0, rs.Len(), read); f != nil {
		panic(f) // panics of types are errors of their rows: it is our own
	}
	r.renewAfterTimeout()
	o := r.x.stopped()
	if o != nil && !r.halted {
		r.halt(*o)
	}
	return o == nil
}

// writesOwnCode reports whether writing rows may call methods of the user's types.
func (r *run) writesOwnCode(rs *rows.Set) bool {
	return rs.Vec != nil && r.plan.types.hasOwnCode(rs.Vec.Type())
}

// makeReadable is prepare. It calls methods of row types.
func (r *run) makeReadable(s *step, rs *rows.Set) *rows.Set {
	x := r.x
	if rs.Vec == nil {
		rs = r.readEncoded(s, rs)
	}
	if !r.mustWhenRead(s, rs) {
		rs = r.requireFields(s, rs)
	}
	x.frame.In = x.frame.In[:0]
	for i := 0; i < len(s.in); i++ {
		view, bad := r.view(s, rs, i)
		if len(bad) > 0 {
			// The rows that are left are read again, as each type.
			rs = x.mem.Keep(rs, bad)
			r.now = rs
			x.frame.In, i = x.frame.In[:0], -1
			continue
		}
		x.frame.In = append(x.frame.In, view)
	}
	if s.changes && rs.Vec != nil {
		r.keepCame(s, rs)
	}
	x.frame.Rows = rs.Len()
	r.now = rs
	return rs
}

// view is the rows as the i-th type that the function reads, and the rows that can't be.
func (r *run) view(s *step, rs *rows.Set, i int) (kis.Vector, []uint32) {
	if s.serializers != nil && s.serializers[i] != nil {
		return r.unmarshal(s, rs, i)
	}
	kind := s.inKinds[i]
	if s.again && s.changes {
		if rs.View != nil && int(rs.ViewedFor) != s.index {
			rs.ForgetView()
		}
	}
	switch {
	case rs.Vec != nil && rows.KindOf(rs.Vec) == kind, rs.Vec != nil && s.form == kis.FormFaaS && rs.Vec.Type() == kind.Row:
		return rs.Vec, nil
	case rs.View != nil && rows.KindOf(rs.View) == kind:
		return rs.View, nil
	}
	if rs.Vec == nil && rs.Wide != nil && rows.KindOf(rs.Wide) == kind {
		rs.View = rs.Wide
	} else {
		rs.View = r.newView(s, i)
		rs.View.Reset(rs.Len())
	}
	rs.ViewedFor = int32(s.index)
	return rs.View, r.read(s, rs, rs.View)
}

// newView is an empty vector for what the step reads.
func (r *run) newView(s *step, i int) kis.Vector {
	return r.x.mem.Lend(s.inKinds[i], func() kis.Vector { return s.code.NewIn(i) })
}

// read fills a vector of zero rows with rs; it returns the rows that ended because they don't fit.
func (r *run) read(s *step, rs *rows.Set, view kis.Vector) (bad []uint32) {
	fail := func(i int, code batch.Code, err error) {
		if rs.Born == r.part.Start {
			code = batch.CodeRowUndecodable // no function has made it
		}
		r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: code, Attempts: 1,
			Reason: trimmed(fmt.Sprintf("the row does not fit %v, which %s reads: %v", view.Type(), s.name, err))})
		bad = append(bad, uint32(i))
	}
	if rs.Vec == nil {
		lacking := r.decode(s, rs, view, fail)
		r.ownRaw(s, view)
		if len(lacking) > 0 {
			bad = append(bad, r.lackFields(s, rs, lacking)...)
			slices.Sort(bad)
		}
		return bad
	}
	if takeSame(view, rs.Vec) {
		return nil
	}
	row, base := slab(view)
	size := row.Size()
	switch {
	case row == anyType:
		rows := unsafe.Slice((*any)(base), rs.Len())
		for i := range rows {
			rows[i] = rs.Vec.At(i)
		}
	case rs.Vec.Type() == rawType:
		codec := r.plan.types.reader(s, row)
		for i, raw := range rawRows(rs.Vec) {
			if !r.x.asks(i) {
				return bad
			}
			if err := codec.Decode(raw, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	case rs.Vec.Type().Kind() == reflect.Interface || r.plan.types.marshaler(rs.Vec.Type()) != nil:
		codec := r.plan.types.reader(s, row)
		if rowjson.IsText(row) && (rs.Born != r.part.Start || r.work.in.values != nil) {
			codec = r.plan.types.text(row) // a string of the process may look like any JSON
		}
		for i := range rs.Len() {
			if !r.x.asks(i) {
				return bad
			}
			if err := r.plan.types.convertAny(rs.Vec.At(i), codec, row, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	default:
		r.convert(rs.Vec, row, base, size, fail)
	}
	return bad
}

// decode reads rows as they came; it returns those that may lack a field which source.must names.
func (r *run) decode(s *step, rs *rows.Set, view kis.Vector, fail func(int, batch.Code, error)) (lacking []uint32) {
	switch {
	case view == rs.Wide:
		return r.finishWide(s, rs, fail)
	case s.wide != nil:
		return r.takeWide(s, rs, view, fail)
	}
	row, base := slab(view)
	size, codec := row.Size(), s.codec
	if codec == nil {
		codec = r.plan.types.reader(s, row)
	}
	watched := r.x.inCall
	for i := range rs.Origins {
		if watched && !r.x.at(i) {
			return nil
		}
		into := unsafe.Add(base, uintptr(i)*size)
		if seen, ok := codec.Try(r.source(rs, i), into); ok {
			if !s.mustSeen.Has(seen) {
				lacking = append(lacking, uint32(i))
			}
		} else if err := codec.Slow(r.source(rs, i), into); err != nil {
			fail(i, batch.CodeRowUndecodable, err)
		} else if s.mustSeen != 0 {
			lacking = append(lacking, uint32(i))
		}
	}
	return lacking
}

// takeSame fills a vector with rows of its own type: those of another kind of vector, or the pointers that a vector of any
// holds, if it holds no other rows.
func takeSame(view, rows kis.Vector) bool {
	if view.Type() == rows.Type() {
		reflect.Copy(view.Slice(), rows.Slice())
		return true
	}
	vec, ok := rows.(*kis.Vec[any])
	want := view.Type()
	if !ok || want.Kind() != reflect.Pointer {
		return false
	}
	pointers := unsafe.Slice((*unsafe.Pointer)(view.Pointer()), view.Len())
	for i, row := range vec.Rows {
		if reflect.TypeOf(row) != want || reflect.ValueOf(row).IsNil() {
			clear(pointers)
			return false
		}
		pointers[i] = reflect.ValueOf(row).UnsafePointer()
	}
	return true
}

// convert turns the rows of a vector into rows of another type.
func (r *run) convert(vec kis.Vector, row reflect.Type, base unsafe.Pointer, size uintptr, fail func(int, batch.Code, error)) {
	from := vec.Type()
	source, step := vec.Pointer(), from.Size()
	at := func(i int) unsafe.Pointer { return unsafe.Add(source, uintptr(i)*step) }
	if from.Kind() == reflect.Pointer {
		from = from.Elem()
		at = func(i int) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Add(source, uintptr(i)*step)) }
	}
	convert := r.plan.types.converter(from, row).Convert
	watched := r.x.inCall
	for i := range vec.Len() {
		if watched && !r.x.at(i) {
			return
		}
		if err := convert(unsafe.Add(base, uintptr(i)*size), at(i)); err != nil {
			fail(i, batch.CodeConversionFailed, err)
		}
	}
}

// object reads a row's fields.
func (r *run) object(rs *rows.Set, i int) (object, error) {
	var raw []byte
	if rs.Vec == nil {
		raw = r.source(rs, i)
	} else {
		var err error
		if m, ok := rs.Vec.At(i).(proto.Message); ok {
			raw, err = jsonOfMessage(m)
		} else {
			raw, err = r.plan.types.appendJSON(nil, rs.Vec.At(i))
		}
		if err != nil {
			return nil, err
		}
	}
	var fields object
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

// mustWhenRead reports whether the fields that source.must names are looked for when the rows are read, or were by Compile.
func (r *run) mustWhenRead(s *step, rs *rows.Set) bool {
	if len(s.must) == 0 || rs.Vec != nil && rs.Born > 0 && known(rs.Vec.Type()) {
		return true
	}
	if rs.Vec != nil || len(s.inKinds) == 0 || rs.View != nil && rows.KindOf(rs.View) == s.inKinds[0] {
		return false
	}
	return s.mustSeen != 0 || s.wide != nil
}

// requireFields leaves out the rows that lack a field which source.must names.
func (r *run) requireFields(s *step, rs *rows.Set) *rows.Set {
	return r.x.mem.Keep(rs, r.lackFields(s, rs, rows.Range[uint32](0, rs.Len())))
}

// lackFields ends those of the rows that lack a field which source.must names.
func (r *run) lackFields(s *step, rs *rows.Set, rows []uint32) (bad []uint32) {
	for _, i := range rows {
		if !r.x.asks(int(i)) {
			return bad
		}
		o := batch.RowOutcome{Outcome: batch.Dead, Attempts: 1}
		fields, err := r.object(rs, int(i))
		if err != nil {
			o.Code, o.Reason = batch.CodeRowUndecodable, trimmed(fmt.Sprintf("the row is no JSON object: %v", err))
		} else if lacks := slices.DeleteFunc(slices.Clone(s.must), func(name string) bool {
			_, ok := fields.field(name)
			return ok
		}); len(lacks) > 0 {
			o.Code = batch.CodeMissingField
			o.Reason = fmt.Sprintf("the row lacks %s, which source.must of %s asks for", strings.Join(lacks, ", "), s.name)
		}
		if o.Code != 0 {
			r.end(rs, i, o)
			bad = append(bad, i)
		}
	}
	return bad
}
