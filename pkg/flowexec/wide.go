package flowexec

import (
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// wide says that rows which are still as they came need not be decoded for a step: a later step reads them too, as a type
// that has all the fields of this step's. They are decoded once, for that step, and this one's fields are taken from there.
type wide struct {
	reader  *step // the later step
	project *rowjson.Projection
	must    rowjson.Must // what this step's source.must names, of the later step's type
}

// findWide looks for steps whose rows a later step decodes anyway.
func (p *Plan) findWide() {
	last := 0
	for last < len(p.steps)-1 && p.steps[last].passesOn() {
		last++
	}
	reader := p.steps[last]
	if len(reader.in) != 1 {
		return
	}
	codec := reader.codec
	for _, s := range p.steps[:last] {
		if len(s.in) != 1 || s.in[0] == reader.in[0] {
			continue
		}
		project, ok := rowjson.Project(s.codec, codec)
		must, known := codec.Must(s.must)
		if ok && known {
			s.wide = &wide{reader, project, must}
		}
	}
}

// passesOn reports whether rows go on as they came; in KisFlow's shape a Verify is supposed to do so, with ActionDataReuse.
func (s *step) passesOn() bool {
	return s.code != nil && (s.out == nil || s.form == kis.FormFaaS && s.mode == definition.ModeVerify)
}

// decodeWide decodes rows as a later step's type. Rows in doubt stay zero.
func (r *run) decodeWide(reader *step, rs *rows.Set) {
	rs.Wide, rs.Seen = r.newView(reader, 0), r.x.mem.Numbers(rs.Len())
	rs.Wide.Reset(rs.Len())
	row, base := slab(rs.Wide)
	size, codec := row.Size(), reader.codec
	watched := r.x.inCall
	for i := range rs.Origins {
		if watched && !r.x.at(i) {
			return
		}
		into := unsafe.Add(base, uintptr(i)*size)
		if seen, ok := codec.Try(r.source(rs, i), into); ok {
			rs.Seen[i] = rows.DecodedBit | uint32(seen)
		} else {
			reflect.NewAt(row, into).Elem().SetZero()
		}
	}
}

// takeWide fills a view with the fields of rows that are decoded as a later step's type; those in doubt are decoded alone.
func (r *run) takeWide(s *step, rs *rows.Set, view kis.Vector, fail func(int, batch.Code, error)) (lacking []uint32) {
	if rs.Wide == nil {
		r.decodeWide(s.wide.reader, rs)
	}
	row, base := slab(view)
	size, codec := row.Size(), s.codec
	from := rs.Wide.Pointer()
	step := rs.Wide.Type().Size()
	pointers := rs.Wide.Type().Kind() == reflect.Pointer
	for i, seen := range rs.Seen {
		into := unsafe.Add(base, uintptr(i)*size)
		if seen == 0 {
			if !r.x.asks(i) {
				return nil
			}
			if err := codec.Decode(r.source(rs, i), into); err != nil {
				fail(i, batch.CodeRowUndecodable, err)
			} else if len(s.must) > 0 {
				lacking = append(lacking, uint32(i))
			}
			continue
		}
		source := unsafe.Add(from, uintptr(i)*step)
		if pointers {
			source = *(*unsafe.Pointer)(source)
		}
		s.wide.project.Take(into, source)
		if !s.wide.must.Has(uint64(seen &^ rows.DecodedBit)) {
			lacking = append(lacking, uint32(i))
		}
	}
	return lacking
}

// finishWide completes the rows that were decoded for the step before it read them.
func (r *run) finishWide(s *step, rs *rows.Set, fail func(int, batch.Code, error)) (lacking []uint32) {
	row, base := rs.Wide.Type(), rs.Wide.Pointer()
	step, pointers := row.Size(), row.Kind() == reflect.Pointer
	codec := s.codec
	for i, seen := range rs.Seen {
		if seen == 0 {
			if !r.x.asks(i) {
				return nil
			}
			into := unsafe.Add(base, uintptr(i)*step)
			if pointers {
				into = *(*unsafe.Pointer)(into)
			}
			if err := codec.Decode(r.source(rs, i), into); err != nil {
				fail(i, batch.CodeRowUndecodable, err)
				continue
			}
		}
		if len(s.must) > 0 && (seen == 0 || !s.mustSeen.Has(uint64(seen&^rows.DecodedBit))) {
			lacking = append(lacking, uint32(i))
		}
	}
	return lacking
}

// slab is where a vector's rows lie. Those that pointers lead to are the function's to keep: each view has its own.
func slab(v kis.Vector) (row reflect.Type, base unsafe.Pointer) {
	row, base = v.Type(), v.Pointer()
	if row.Kind() != reflect.Pointer {
		return row, base
	}
	row = row.Elem()
	pointers := unsafe.Slice((*unsafe.Pointer)(base), v.Len())
	base = reflect.MakeSlice(reflect.SliceOf(row), v.Len(), v.Len()).UnsafePointer()
	for i := range pointers {
		pointers[i] = unsafe.Add(base, uintptr(i)*row.Size())
	}
	return row, base
}
