package decode

import (
	"encoding/json"
	"fmt"
	"maps"
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

// View returns the rows of rs as the i-th type that a step's function reads: a vector that rs has already, if one fits, or a newly
// decoded one. It also returns the places, in ascending order, of the rows that can't be read as that type: each of these has
// ended as dead.
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

// read fills view, a vector of zero rows, with the rows of rs. It returns the places of the rows that do not fit the view's type:
// each of these has ended as dead.
func (r *Reader) read(in *Input, rs *rows.Set, view kis.Vector) (bad []uint32) {
	fail := func(i int, code batch.Code, err error) {
		if rs.Born == r.Start {
			code = batch.CodeRowUndecodable // no function has made it
		}
		o := batch.RowOutcome{Outcome: batch.Dead, Code: code, Attempts: 1}
		if in.Misfit == nil {
			o.Reason = Trimmed(fmt.Sprintf("the row does not fit %s: %v", in.Name, err))
		} else {
			o.Code, o.Reason = r.misfit(in, rs, i, code)
		}
		r.Host.End(rs, uint32(i), o)
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

// decode fills view with rows that are still as they came, encoded. It calls fail for each row that does not fit. It returns the
// places of the decoded rows that may lack a field which source.must names: for these the caller has to look at the row's JSON.
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

// asks is called before code of row i's type may run: if the Host watches, it is told of the row. asks returns false if no further
// row is to be read, because the run is over.
func (r *Reader) asks(i int) bool { return !r.Host.Watched() || r.Host.At(i) }

// misfit returns the code and the reason of row i, which does not fit the types that a function made of expressions declares.
func (r *Reader) misfit(in *Input, rs *rows.Set, i int, code batch.Code) (batch.Code, string) {
	row, err := r.JSON(rs, i)
	if err != nil {
		return code, Trimmed(fmt.Sprintf("the row can't be read by %s: %v", in.Name, err))
	}
	if fields, err := r.Object(rs, i); err == nil {
		lacks := slices.DeleteFunc(slices.Sorted(maps.Keys(in.Needs)), func(name string) bool {
			_, ok := fields.Field(name)
			return ok
		})
		if len(lacks) > 0 {
			return batch.CodeMissingField, in.lacking(lacks)
		}
	}
	return code, Trimmed(in.Misfit(row))
}
