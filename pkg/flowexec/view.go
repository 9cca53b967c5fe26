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
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var (
	rawType = reflect.TypeFor[json.RawMessage]()
	anyType = reflect.TypeFor[any]()
)

// prepare makes the rows readable as the types that the step's function reads, in the frame's In. Rows that can't be read so
// end, each for itself.
func (r *run) prepare(s *step, rs *rowset) *rowset {
	r.now = rs
	if !r.readsOwnCode(s, rs) {
		return r.makeReadable(s, rs)
	}
	var readable *rowset
	r.reading(true, rs, func() { readable = r.makeReadable(s, rs) })
	return readable
}

// reading reads or writes rows of rs, under the watchdog if that may call methods of the user's types. False: the run is
// over.
func (r *run) reading(ownCode bool, rs *rowset, read func()) bool {
	if !ownCode {
		read()
		return true
	}
	if f := r.x.reading(0, rs.len(), read); f != nil {
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
func (r *run) writesOwnCode(rs *rowset) bool {
	return rs.vec != nil && r.plan.types.hasOwnCode(rs.vec.Type())
}

// makeReadable is prepare. It calls methods of row types.
func (r *run) makeReadable(s *step, rs *rowset) *rowset {
	x := r.x
	if rs.vec == nil {
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
			rs = x.keep(rs, bad)
			r.now = rs
			x.frame.In, i = x.frame.In[:0], -1
			continue
		}
		x.frame.In = append(x.frame.In, view)
	}
	if s.changes && rs.vec != nil {
		r.keepCame(s, rs)
	}
	x.frame.Rows = rs.len()
	r.now = rs
	return rs
}

// view is the rows as the i-th type that the function reads, and the rows that can't be.
func (r *run) view(s *step, rs *rowset, i int) (kis.Vector, []uint32) {
	if s.serializers != nil && s.serializers[i] != nil {
		return r.unmarshal(s, rs, i)
	}
	kind := s.inKinds[i]
	if s.again && s.changes {
		rs.forgetView(s)
	}
	switch {
	case rs.vec != nil && kindOf(rs.vec) == kind, rs.vec != nil && s.form == kis.FormFaaS && rs.vec.Type() == kind.row:
		return rs.vec, nil
	case rs.view != nil && kindOf(rs.view) == kind:
		return rs.view, nil
	}
	if rs.vec == nil && rs.wide != nil && kindOf(rs.wide) == kind {
		rs.view = rs.wide
	} else {
		rs.view = r.newView(s, i)
		rs.view.Reset(rs.len())
	}
	rs.viewed = int32(s.index)
	return rs.view, r.read(s, rs, rs.view)
}

// newView is an empty vector for what the step reads.
func (r *run) newView(s *step, i int) kis.Vector {
	return r.x.vectors.lend(s.inKinds[i], func() kis.Vector { return s.code.NewIn(i) })
}

// read fills a vector of zero rows with rs; it returns the rows that ended because they don't fit.
func (r *run) read(s *step, rs *rowset, view kis.Vector) (bad []uint32) {
	fail := func(i int, code batch.Code, err error) {
		if rs.born == r.part.Start {
			code = batch.CodeRowUndecodable // no function has made it
		}
		r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: code, Attempts: 1,
			Reason: trimmed(fmt.Sprintf("the row does not fit %v, which %s reads: %v", view.Type(), s.name, err))})
		bad = append(bad, uint32(i))
	}
	if rs.vec == nil {
		lacking := r.decode(s, rs, view, fail)
		r.ownRaw(s, view)
		if len(lacking) > 0 {
			bad = append(bad, r.lackFields(s, rs, lacking)...)
			slices.Sort(bad)
		}
		return bad
	}
	if takeSame(view, rs.vec) {
		return nil
	}
	row, base := slab(view)
	size := row.Size()
	switch {
	case row == anyType:
		rows := unsafe.Slice((*any)(base), rs.len())
		for i := range rows {
			rows[i] = rs.vec.At(i)
		}
	case rs.vec.Type() == rawType:
		codec := r.plan.types.reader(s, row)
		for i, raw := range rawRows(rs.vec) {
			if !r.x.asks(i) {
				return bad
			}
			if err := codec.Decode(raw, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	case rs.vec.Type().Kind() == reflect.Interface || r.plan.types.marshaler(rs.vec.Type()) != nil:
		codec := r.plan.types.reader(s, row)
		if rowjson.IsText(row) && (rs.born != r.part.Start || r.work.in.values != nil) {
			codec = r.plan.types.text(row) // a string of the process may look like any JSON
		}
		for i := range rs.len() {
			if !r.x.asks(i) {
				return bad
			}
			if err := r.plan.types.convertAny(rs.vec.At(i), codec, row, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	default:
		r.convert(rs.vec, row, base, size, fail)
	}
	return bad
}

// decode reads rows as they came; it returns those that may lack a field which source.must names.
func (r *run) decode(s *step, rs *rowset, view kis.Vector, fail func(int, batch.Code, error)) (lacking []uint32) {
	switch {
	case view == rs.wide:
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
	for i := range rs.origin {
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
func (r *run) object(rs *rowset, i int) (object, error) {
	var raw []byte
	if rs.vec == nil {
		raw = r.source(rs, i)
	} else {
		var err error
		if m, ok := rs.vec.At(i).(proto.Message); ok {
			raw, err = jsonOfMessage(m)
		} else {
			raw, err = r.plan.types.appendJSON(nil, rs.vec.At(i))
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
func (r *run) mustWhenRead(s *step, rs *rowset) bool {
	if len(s.must) == 0 || rs.vec != nil && rs.born > 0 && known(rs.vec.Type()) {
		return true
	}
	if rs.vec != nil || len(s.inKinds) == 0 || rs.view != nil && kindOf(rs.view) == s.inKinds[0] {
		return false
	}
	return s.mustSeen != 0 || s.wide != nil
}

// requireFields leaves out the rows that lack a field which source.must names.
func (r *run) requireFields(s *step, rs *rowset) *rowset {
	return r.x.keep(rs, r.lackFields(s, rs, span(0, rs.len())))
}

// lackFields ends those of the rows that lack a field which source.must names.
func (r *run) lackFields(s *step, rs *rowset, rows []uint32) (bad []uint32) {
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
