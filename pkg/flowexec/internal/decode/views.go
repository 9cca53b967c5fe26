package decode

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var (
	rawType = reflect.TypeFor[json.RawMessage]()
	anyType = reflect.TypeFor[any]()
)

// View is rows as the i-th type that a step's function reads. Rows that can't be read as that type have ended; their places are
// returned.
func (r *Reader) View(in *Input, rs *rows.Set, i int) (kis.Vector, []uint32) {
	if in.Serializers != nil && in.Serializers[i] != nil {
		return r.unmarshal(in, rs, i)
	}
	kind := in.Kinds[i]
	if in.CalledAgain && in.Changes {
		if rs.View != nil && int(rs.ViewedFor) != in.Index {
			rs.ForgetView()
		}
	}
	switch {
	case rs.Vec != nil && rows.KindOf(rs.Vec) == kind, rs.Vec != nil && in.FaaS && rs.Vec.Type() == kind.Row:
		return rs.Vec, nil
	case rs.View != nil && rows.KindOf(rs.View) == kind:
		return rs.View, nil
	}
	if rs.Vec == nil && rs.Wide != nil && rows.KindOf(rs.Wide) == kind {
		rs.View = rs.Wide
	} else {
		rs.View = r.newView(in, i)
		rs.View.Reset(rs.Len())
	}
	rs.ViewedFor = int32(in.Index)
	return rs.View, r.read(in, rs, rs.View)
}

// read fills view, a vector of zero rows, with the rows of rs. Rows that do not fit the view's type have ended; their places are
// returned.
func (r *Reader) read(in *Input, rs *rows.Set, view kis.Vector) (bad []uint32) {
	fail := func(i int, code batch.Code, err error) {
		if rs.Born == r.Start {
			code = batch.CodeRowUndecodable // no function has made it
		}
		r.Host.End(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: code, Attempts: 1,
			Reason: Trimmed(fmt.Sprintf("the row does not fit %v, which %s reads: %v", view.Type(), in.Name, err))})
		bad = append(bad, uint32(i))
	}
	if rs.Vec == nil {
		lacking := r.decode(in, rs, view, fail)
		r.ownRaw(in, view)
		if len(lacking) > 0 {
			bad = append(bad, r.lackFields(in, rs, lacking)...)
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
		codec := r.Types.reader(in, row)
		for i, raw := range rawRows(rs.Vec) {
			if !r.asks(i) {
				return bad
			}
			if err := codec.Decode(raw, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	case rs.Vec.Type().Kind() == reflect.Interface || r.Types.marshaler(rs.Vec.Type()) != nil:
		codec := r.Types.reader(in, row)
		if rowjson.IsText(row) && (rs.Born != r.Start || r.Source.Values != nil) {
			codec = r.Types.text(row) // a string that a function made may look like any JSON
		}
		for i := range rs.Len() {
			if !r.asks(i) {
				return bad
			}
			if err := r.Types.convertAny(rs.Vec.At(i), codec, row, unsafe.Add(base, uintptr(i)*size)); err != nil {
				fail(i, batch.CodeConversionFailed, err)
			}
		}
	default:
		r.convert(rs.Vec, row, base, size, fail)
	}
	return bad
}

// decode fills view with rows that are still as they came. It calls fail for rows that do not fit, and returns the places of rows
// that may lack a field of source.must.
func (r *Reader) decode(in *Input, rs *rows.Set, view kis.Vector, fail func(int, batch.Code, error)) (lacking []uint32) {
	switch {
	case view == rs.Wide:
		return r.finishWide(in, rs, fail)
	case in.wide != nil:
		return r.takeWide(in, rs, view, fail)
	}
	row, base := slab(view)
	size, codec := row.Size(), in.codec
	if codec == nil {
		codec = r.Types.reader(in, row)
	}
	watched := r.Host.Watched()
	for i, origin := range rs.Origins {
		if watched && !r.Host.At(i) {
			return nil
		}
		into := unsafe.Add(base, uintptr(i)*size)
		if seen, ok := codec.Try(r.Source.Row(origin), into); ok {
			if !in.mustSeen.Has(seen) {
				lacking = append(lacking, uint32(i))
			}
		} else if err := codec.Slow(r.source(rs, i), into); err != nil {
			fail(i, batch.CodeRowUndecodable, err)
		} else if in.mustSeen != 0 {
			lacking = append(lacking, uint32(i))
		}
	}
	return lacking
}

// asks tells the host that the type of row i is asked next, if the host watches. It returns false if no further row is to be read.
func (r *Reader) asks(i int) bool { return !r.Host.Watched() || r.Host.At(i) }
