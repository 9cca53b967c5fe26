package decode

import (
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// wide says that rows which are still as they came need not be decoded for a step: a later step reads them too, as a type that has all the
// fields of this step's type. They are decoded once, as the later step's type, and this step's fields are copied from there.
type wide struct {
	reader  *Input // the Input of the later step
	project *rowjson.Projection
	must    rowjson.Must // the fields that this step's source.must names, as the codec of the later step's type counts them
}

// findWide sets the field wide of each step whose rows a later step decodes anyway. That later step is the first one that does not pass rows
// on as they came, or else the last step; its type must have all fields of the earlier step's type.
func findWide(steps []*Input) {
	if len(steps) == 0 {
		return
	}
	last := 0
	for last < len(steps)-1 && steps[last].PassesOn {
		last++
	}
	reader := steps[last]
	if len(reader.Types) != 1 {
		return
	}
	for _, in := range steps[:last] {
		if len(in.Types) != 1 || in.Types[0] == reader.Types[0] {
			continue
		}
		project, ok := rowjson.Project(in.codec, reader.codec)
		must, known := reader.codec.Must(in.Must)
		if ok && known {
			in.wide = &wide{reader, project, must}
		}
	}
}

// decodeWide decodes rows as the type that a later step reads, into rs.Wide, and notes in rs.Seen which fields each row has. reader is the
// later step's Input. A row that the codec's quick way can't decode stays zero, in both.
func (r *Reader) decodeWide(reader *Input, rs *rows.Set) {
	rs.Wide, rs.Seen = r.newView(reader, 0), r.Memory.Numbers(rs.Len())
	rs.Wide.Reset(rs.Len())
	row, base := slab(rs.Wide)
	size, codec := row.Size(), reader.codec
	watched := r.Host.Watched()
	for i, origin := range rs.Origins {
		if watched && !r.Host.At(i) {
			return
		}
		into := unsafe.Add(base, uintptr(i)*size)
		if seen, ok := codec.Try(r.Source.Row(origin), into); ok {
			rs.Seen[i] = rows.DecodedBit | uint32(seen)
		} else {
			reflect.NewAt(row, into).Elem().SetZero()
		}
	}
}

// takeWide fills view, which has this step's type, with fields of rs.Wide, in which the rows are decoded as a later step's type. A row that is
// not decoded there is decoded into view by itself. It calls fail for rows that do not fit, and returns the places of the rows that may lack a
// field which source.must names.
func (r *Reader) takeWide(in *Input, rs *rows.Set, view kis.Vector, fail func(int, batch.Code, error)) (lacking []uint32) {
	if rs.Wide == nil {
		r.decodeWide(in.wide.reader, rs)
	}
	row, base := slab(view)
	size, codec := row.Size(), in.codec
	from, each := rs.Wide.Pointer(), rs.Wide.Type().Size()
	pointers := rs.Wide.Type().Kind() == reflect.Pointer
	watched := r.Host.Watched()
	for i, seen := range rs.Seen {
		into := unsafe.Add(base, uintptr(i)*size)
		if seen == 0 {
			if watched && !r.Host.At(i) {
				return nil
			}
			if err := codec.Decode(r.source(rs, i), into); err != nil {
				fail(i, batch.CodeRowUndecodable, err)
			} else if len(in.Must) > 0 {
				lacking = append(lacking, uint32(i))
			}
			continue
		}
		source := unsafe.Add(from, uintptr(i)*each)
		if pointers {
			source = *(*unsafe.Pointer)(source)
		}
		in.wide.project.Take(into, source)
		if !in.wide.must.Has(uint64(seen &^ rows.DecodedBit)) {
			lacking = append(lacking, uint32(i))
		}
	}
	return lacking
}

// finishWide completes rs.Wide for the step that reads this type itself: it decodes the rows that decodeWide left zero. It calls fail for rows
// that do not fit, and returns the places of the rows that may lack a field which source.must names.
func (r *Reader) finishWide(in *Input, rs *rows.Set, fail func(int, batch.Code, error)) (lacking []uint32) {
	row, base := rs.Wide.Type(), rs.Wide.Pointer()
	each, pointers := row.Size(), row.Kind() == reflect.Pointer
	codec := in.codec
	watched := r.Host.Watched()
	for i, seen := range rs.Seen {
		if seen == 0 {
			if watched && !r.Host.At(i) {
				return nil
			}
			into := unsafe.Add(base, uintptr(i)*each)
			if pointers {
				into = *(*unsafe.Pointer)(into)
			}
			if err := codec.Decode(r.source(rs, i), into); err != nil {
				fail(i, batch.CodeRowUndecodable, err)
				continue
			}
		}
		if len(in.Must) > 0 && (seen == 0 || !in.mustSeen.Has(uint64(seen&^rows.DecodedBit))) {
			lacking = append(lacking, uint32(i))
		}
	}
	return lacking
}
