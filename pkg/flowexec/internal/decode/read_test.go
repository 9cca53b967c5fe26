package decode_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// narrow and broad are what two functions of a flow read: rows are decoded once, as broad, and narrow takes its fields from there.
type narrow struct {
	ID int `json:"id"`
}

type broad struct {
	ID    int      `json:"id"`
	Name  string   `json:"name"`
	Marks []uint16 `json:"marks,omitempty"`
}

// host is a run that ends rows, and calls nothing else.
type host struct {
	ended map[rows.RunRow]batch.Code
}

func (h *host) Watched() bool  { return false }
func (h *host) At(int) bool    { return true }
func (h *host) AtAll() bool    { return true }
func (h *host) Rows(*rows.Set) {}
func (h *host) End(rs *rows.Set, i uint32, o batch.RowOutcome) {
	h.ended[rs.Origins[i]] = o.Code
}

// steps compiles a flow of one step for each type, which pass rows on as they came.
func steps(types *decode.Types, must []string, of ...reflect.Type) []*decode.Input {
	var all []*decode.Input
	for i, t := range of {
		v := kis.NewVector(t)
		all = append(all, &decode.Input{
			Index: i, Name: t.Name(), Types: []reflect.Type{t}, Kinds: []rows.Kind{rows.KindOf(v)}, New: func(int) kis.Vector { return v.New() },
			Must: must, PassesOn: true,
		})
	}
	types.Compile(all)
	return all
}

// rowText draws a row: most are read in the quick way, some in doubt, some not at all.
var rowText = rapid.Custom(func(t *rapid.T) string {
	id := rapid.SampledFrom([]string{"7", "-1", "1e2", "1.5", `"7"`, "null", "99999999999999999999"}).Draw(t, "id")
	name := rapid.SampledFrom([]string{`"Ann"`, `"Änne"`, `"a\u00e4\n"`, "3", "null"}).Draw(t, "name")
	return rapid.SampledFrom([]string{
		`{"id":` + id + `,"name":` + name + `}`, ` { "name" : ` + name + ` , "id":` + id + `}`, `{"ID":` + id + `,"id":8,"name":"x","marks":[1,2]}`,
		`{"id":` + id + `,"marks":[70000]}`, `{"name":` + name + `}`, `{}`, `[]`, `{"id":`, `null`,
	}).Draw(t, "row")
})

// Rows are read as encoding/json reads them, by each of two steps, whichever of them decodes the row; rows that it can't read end.
func TestReadsAsEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rowText, 0, 20).Draw(t, "rows")
		var types decode.Types
		var memory rows.Memory
		h := &host{make(map[rows.RunRow]batch.Code)}
		var columns batch.Columns
		for _, text := range texts {
			columns.Append([]byte(text))
		}
		r := decode.Reader{Types: &types, Memory: &memory, Host: h, Source: decode.Source{Columns: &columns}, Flow: "Marks"}
		rs := memory.Input(len(texts))
		for step, in := range steps(&types, nil, reflect.TypeFor[narrow](), reflect.TypeFor[broad]()) {
			var want []any
			for _, origin := range rs.Origins {
				into := reflect.New(in.Types[0])
				if err := json.Unmarshal([]byte(texts[origin]), into.Interface()); err == nil && texts[origin] != "null" {
					want = append(want, into.Elem().Interface())
				}
			}
			var views []kis.Vector
			rs, views = r.Read(in, rs, nil)
			var got []any
			for i := range rs.Len() {
				got = append(got, views[0].At(i))
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("step %d reads %v, want %v of %q", step, got, want, texts)
			}
		}
		if len(h.ended)+rs.Len() != len(texts) {
			t.Fatalf("%d rows have ended, %d are left of %d", len(h.ended), rs.Len(), len(texts))
		}
	})
}

// A row that lacks a field of source.must, or has null there, ends with MISSING_FIELD; others don't.
func TestMust(t *testing.T) {
	texts := []string{`{"id":1,"name":"Ann"}`, `{"id":2}`, `{"id":3,"name":null}`, `{"id":4,"NAME":"Bo"}`, `{"id":5,"name":"a\u0062"}`, `{"name":"Cy","id":"x"}`}
	var types decode.Types
	var memory rows.Memory
	h := &host{make(map[rows.RunRow]batch.Code)}
	var columns batch.Columns
	for _, text := range texts {
		columns.Append([]byte(text))
	}
	r := decode.Reader{Types: &types, Memory: &memory, Host: h, Source: decode.Source{Columns: &columns}, Flow: "Marks"}
	in := steps(&types, []string{"name"}, reflect.TypeFor[narrow](), reflect.TypeFor[broad]())
	rs, _ := r.Read(in[0], memory.Input(len(texts)), nil)
	if want := []rows.RunRow{0, 3, 4}; !slices.Equal(rs.Origins, want) {
		t.Fatalf("rows %v are left, want %v; ended: %v", rs.Origins, want, h.ended)
	}
	want := map[rows.RunRow]batch.Code{1: batch.CodeMissingField, 2: batch.CodeMissingField, 5: batch.CodeRowUndecodable}
	if !reflect.DeepEqual(h.ended, want) {
		t.Fatalf("rows have ended with %v, want %v", h.ended, want)
	}
}
