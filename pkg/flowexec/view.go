package flowexec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var (
	rawType = reflect.TypeFor[json.RawMessage]()
	anyType = reflect.TypeFor[any]()
)

// prepare makes the rows readable as the types that the step's function reads, in the frame's In. Rows that can't be read so
// end, each for itself.
func (r *run) prepare(s *step, rs *rowset) *rowset {
	x := r.x
	r.now = rs
	if !r.mustWhenRead(s, rs) {
		rs = r.requireFields(s, rs)
	}
	x.frame.In = x.frame.In[:0]
	for i := 0; i < len(s.in); i++ {
		view, bad := r.view(s, rs, i)
		if len(bad) > 0 {
			// The rows that are left are read again, as each type.
			rs = x.keep(rs, bad)
			x.frame.In, i = x.frame.In[:0], -1
			continue
		}
		x.frame.In = append(x.frame.In, view)
	}
	x.frame.Rows = rs.len()
	r.now = rs
	return rs
}

// view is the rows as the i-th type that the function reads, and the rows that can't be.
func (r *run) view(s *step, rs *rowset, i int) (kis.Vector, []uint32) {
	kind := s.inKinds[i]
	switch {
	case rs.vec != nil && kindOf(rs.vec) == kind, rs.vec != nil && s.form == kis.FormFaaS && rs.vec.Type() == kind.row:
		return rs.vec, nil
	case rs.view != nil && kindOf(rs.view) == kind:
		return rs.view, nil
	}
	view := r.x.vectors.lend(kind, func() kis.Vector { return s.code.NewIn(i) })
	view.Reset(rs.len())
	bad := r.read(s, rs, view)
	rs.view = view
	return view, bad
}

// read fills a vector of zero rows with rs; it returns the rows that ended because they don't fit.
func (r *run) read(s *step, rs *rowset, view kis.Vector) (bad []uint32) {
	row := view.Type()
	base, size := view.Pointer(), row.Size()
	if row.Kind() == reflect.Pointer {
		if rs.vec != nil && takePointers(view, rs.vec) {
			return nil
		}
		// The rows that the pointers lead to are the function's to keep: they are not used again.
		n := rs.len()
		slab := reflect.MakeSlice(reflect.SliceOf(row.Elem()), n, n)
		row = row.Elem()
		pointers := unsafe.Slice((*unsafe.Pointer)(base), n)
		base, size = slab.UnsafePointer(), row.Size()
		for i := range pointers {
			pointers[i] = unsafe.Add(base, uintptr(i)*size)
		}
	}
	fail := func(i int, code batch.Code, err error) {
		r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: code, Attempts: 1,
			Reason: trimmed(fmt.Sprintf("the row does not fit %v, which %s reads: %v", view.Type(), s.name, err))})
		bad = append(bad, uint32(i))
	}
	switch {
	case rs.vec == nil && s.mustSeen != 0:
		codec := r.plan.types.codec(row)
		var lacking []uint32
		for i := range rs.origin {
			has, err := codec.DecodeMust(r.source(rs, i), unsafe.Add(base, uintptr(i)*size), s.mustSeen)
			if err != nil {
				fail(i, batch.CodeRowUndecodable, err)
			} else if !has {
				lacking = append(lacking, uint32(i))
			}
		}
		if len(lacking) > 0 {
			bad = append(bad, r.lackFields(s, rs, lacking)...)
			slices.Sort(bad)
		}
	case rs.vec == nil:
		codec := r.plan.types.codec(row)
		for i := range rs.origin {
			if err := codec.Decode(r.source(rs, i), unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeRowUndecodable, err)
			}
		}
	case row == anyType:
		rows := unsafe.Slice((*any)(base), rs.len())
		for i := range rows {
			rows[i] = rs.vec.At(i)
		}
	case rs.vec.Type().Kind() == reflect.Interface || rs.vec.Type() == rawType:
		for i := range rs.len() {
			if err := r.plan.types.convertAny(rs.vec.At(i), row, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	default:
		r.convert(rs.vec, row, base, size, fail)
	}
	return bad
}

// takePointers fills a vector of pointers with those that a vector of any holds, if it holds no other rows.
func takePointers(view, rows kis.Vector) bool {
	vec, ok := rows.(*kis.Vec[any])
	if !ok {
		return false
	}
	pointers := unsafe.Slice((*unsafe.Pointer)(view.Pointer()), view.Len())
	for i, row := range vec.Rows {
		if reflect.TypeOf(row) != view.Type() {
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
	for i := range vec.Len() {
		if err := convert(unsafe.Add(base, uintptr(i)*size), at(i)); err != nil {
			fail(i, batch.CodeConversionFailed, err)
		}
	}
}

// fields are a row's, by their JSON names.
func (r *run) fields(rs *rowset, i int) (map[string]json.RawMessage, error) {
	raw := []byte(nil)
	if rs.vec == nil {
		raw = r.source(rs, i)
	} else {
		var err error
		if raw, err = appendJSON(nil, rs.vec.At(i)); err != nil {
			return nil, err
		}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

// field finds a row's field as encoding/json does: by its name, else without regard to case. null is no value.
func field(fields map[string]json.RawMessage, name string) (json.RawMessage, bool) {
	value, ok := fields[name]
	if !ok {
		for other, v := range fields {
			if strings.EqualFold(other, name) {
				value, ok = v, true
				break
			}
		}
	}
	return value, ok && string(value) != "null"
}

// mustWhenRead reports whether the fields that source.must names are looked for when the rows are read, or were by Compile.
func (r *run) mustWhenRead(s *step, rs *rowset) bool {
	if len(s.must) == 0 || rs.vec != nil && known(rs.vec.Type()) {
		return true
	}
	return rs.vec == nil && s.mustSeen != 0 && (rs.view == nil || kindOf(rs.view) != s.inKinds[0])
}

// requireFields leaves out the rows that lack a field which source.must names.
func (r *run) requireFields(s *step, rs *rowset) *rowset {
	return r.x.keep(rs, r.lackFields(s, rs, span(0, rs.len())))
}

// lackFields ends those of the rows that lack a field which source.must names.
func (r *run) lackFields(s *step, rs *rowset, rows []uint32) (bad []uint32) {
	for _, i := range rows {
		o := batch.RowOutcome{Outcome: batch.Dead, Attempts: 1}
		fields, err := r.fields(rs, int(i))
		if err != nil {
			o.Code, o.Reason = batch.CodeRowUndecodable, trimmed(fmt.Sprintf("the row is no JSON object: %v", err))
		} else if lacks := slices.DeleteFunc(slices.Clone(s.must), func(name string) bool {
			_, ok := field(fields, name)
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
