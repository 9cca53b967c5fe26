package rowjson

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// This file holds every path that a row can take against encoding/json: decoded, written, turned into another type, and taken out
// of a wider one, for types of all the forms that encoding/json has rules for.

type hidden struct {
	A int    `json:"a"`
	B string `json:"b"`
	c int
}

type Shown struct {
	A    int     `json:"A"`
	Text string  `json:"text"`
	F    float64 `json:"f"`
}

type word string

type Word string

type deepOne struct{ Twice, Left int }

type deepTwo struct{ Twice, Right int }

type bothMethods struct{ N int }

func (b bothMethods) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"n":%d,"<":"&"}`, b.N), nil
}

func (b *bothMethods) UnmarshalJSON(text []byte) error {
	var read struct{ N int }
	err := json.Unmarshal(text, &read)
	b.N = read.N
	return err
}

// forms are types of whose fields encoding/json has rules to tell.
var forms = []reflect.Type{
	reflect.TypeFor[struct {
		hidden `json:"hidden"`
		Own    int `json:"own"`
	}](),
	reflect.TypeFor[struct {
		hidden
		A int `json:"A"`
	}](),
	reflect.TypeFor[struct {
		*Shown `json:"shown,omitempty"`
		hidden `json:"Hidden,omitempty"`
		B      string `json:"b"`
	}](),
	reflect.TypeFor[struct {
		*Shown
		B string `json:"b,omitempty"`
	}](),
	reflect.TypeFor[struct {
		*hidden
		X int
	}](),
	reflect.TypeFor[struct {
		*hidden `json:"hidden"`
		X       int
	}](),
	reflect.TypeFor[struct {
		word
		Word
		A int `json:"a"`
	}](),
	reflect.TypeFor[struct {
		word `json:"word"`
		Word
		B string
	}](),
	reflect.TypeFor[struct {
		deepOne
		deepTwo
	}](),
	reflect.TypeFor[struct {
		deepOne `json:"one"`
		deepTwo `json:"two"`
		Left    string
	}](),
	reflect.TypeFor[struct {
		A int `json:"a"`
		B int `json:"A"`
		C int `json:"b"`
		D int `json:"B"`
	}](),
	reflect.TypeFor[struct {
		A int `json:"a"`
		C int `json:"b"`
	}](),
	reflect.TypeFor[struct {
		A int `json:"A"`
	}](),
	reflect.TypeFor[struct {
		A int     `json:"a,string"`
		F float64 `json:",string"`
		T string  `json:"text,string"`
		P *int    `json:"p,string"`
	}](),
	reflect.TypeFor[struct {
		A int             `json:"a,omitempty"`
		F float64         `json:"f,omitempty"`
		T string          `json:"text,omitempty"`
		L []int           `json:"l,omitempty"`
		M map[string]int  `json:"m,omitempty"`
		S hidden          `json:"hidden,omitempty"`
		P *hidden         `json:"p,omitempty"`
		R json.RawMessage `json:"r,omitempty"`
		Y [2]bool         `json:"y,omitempty"`
		Z time.Time       `json:"z,omitzero"`
	}](),
	reflect.TypeFor[struct {
		A *int      `json:"a"`
		B **string  `json:"b"`
		T *word     `json:"text"`
		H *hidden   `json:"hidden"`
		L []*int    `json:"l"`
		F *float32  `json:"f"`
		Y *[2]int8  `json:"y"`
		S []hidden  `json:"s"`
		K [3]string `json:"k"`
	}](),
	reflect.TypeFor[struct {
		A any                    `json:"a"`
		B json.Number            `json:"b"`
		H bothMethods            `json:"hidden"`
		M map[int]hidden         `json:"m"`
		L []bothMethods          `json:"l"`
		P *bothMethods           `json:"p"`
		R json.RawMessage        `json:"r"`
		X map[string]bothMethods `json:"x"`
		D time.Duration          `json:"d"`
		Y []byte                 `json:"y"`
	}](),
	reflect.TypeFor[struct {
		A int    `json:"<a>"`
		B string `json:"a&b"`
		C string `json:"-,"`
		D string `json:"-"`
		E string `json:"b\\"`
		F string `json:"ſ"`
		K string `json:"k"`
		G string `json:"é"`
	}](),
	reflect.TypeFor[hidden](), reflect.TypeFor[Shown](), reflect.TypeFor[map[string]any](), reflect.TypeFor[map[string]string](),
}

var fieldTypes = []reflect.Type{
	reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint64](), reflect.TypeFor[float64](),
	reflect.TypeFor[float32](), reflect.TypeFor[string](), reflect.TypeFor[bool](), reflect.TypeFor[word](), reflect.TypeFor[*int](),
	reflect.TypeFor[*string](), reflect.TypeFor[[]int](), reflect.TypeFor[[]string](), reflect.TypeFor[[]byte](), reflect.TypeFor[any](),
	reflect.TypeFor[map[string]int](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[time.Time](),
	reflect.TypeFor[hidden](), reflect.TypeFor[*Shown](), reflect.TypeFor[[]hidden](), reflect.TypeFor[[2]int](), reflect.TypeFor[uintptr](),
	reflect.TypeFor[bothMethods](), reflect.TypeFor[struct{}](),
}

var fieldNames = []string{"a", "A", "b", "B", "text", "Text", "f", "hidden", "n", "<", "k"}

// aType draws one of forms, or a struct that is put together.
func aType(r *rapid.T, label string) reflect.Type {
	if rapid.Bool().Draw(r, label+" of a form") {
		return forms[rapid.IntRange(0, len(forms)-1).Draw(r, label)]
	}
	var fields []reflect.StructField
	for i := range rapid.IntRange(0, 4).Draw(r, label+" fields") {
		fields = append(fields, reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: rapid.SampledFrom(fieldTypes).Draw(r, "type"),
			Tag: reflect.StructTag(`json:"` + rapid.SampledFrom(append(fieldNames, "")).Draw(r, "name") +
				rapid.SampledFrom([]string{"", "", "", ",omitempty", ",omitzero", ",string"}).Draw(r, "option") + `"`),
		})
	}
	return reflect.StructOf(fields)
}

var values = []string{
	`1`, `0`, `-1`, `-0`, `1.5`, `1e2`, `300`, `18446744073709551615`, `9007199254740993`, `1e400`, `"x"`, `""`, `"<&>"`, `"\u003c"`, `"5"`, `"true"`, `"\ud800"`, `"aGk="`,
	`"2026-01-02T03:04:05Z"`, `true`, `false`, `null`, `[]`, `[1,2]`, `["<"]`, `[null]`, `{}`, `{"a":1,"b":"<"}`, `{"A":2,"a":1}`, `{"n":3}`, `[{"b":"x"}]`, `{"1":{"a":1}}`, `{"x": 1}`,
}

// aText draws an object: names in several spellings, twice, unknown ones, and values that may not fit.
func aText(r *rapid.T, row reflect.Type) []byte {
	names := slices.Concat(fieldNames, []string{"own", "shown", "Hidden", "HIDDEN", "TEXT", "word", "Word", "one", "two", "Left", "left", "Twice", "X", "l", "m", "p", "r", "y", "z", "s", "x", "d", "<a>", "a&b", "-", `b\\`, "ſ", "S", "K", "\u212a", "é", "É", `\u0061`, "none"})
	if row.Kind() == reflect.Struct {
		for _, f := range Fields(row) { // mostly names that mean something
			names = append(names, strings.ReplaceAll(f.Name, `\`, `\\`), strings.ToUpper(strings.ReplaceAll(f.Name, `\`, ``)))
		}
	}
	space := rapid.SampledFrom([]string{"", " "})
	text := "{"
	for i := range rapid.IntRange(0, 4).Draw(r, "members") {
		if i > 0 {
			text += "," + space.Draw(r, "space")
		}
		text += `"` + rapid.SampledFrom(names).Draw(r, "member") + `":` + space.Draw(r, "space") + rapid.SampledFrom(values).Draw(r, "value")
	}
	return []byte(text + "}")
}

// read is encoding/json's Unmarshal, with a panic of it as an error.
func read(text []byte, row reflect.Type) (v reflect.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	v = reflect.New(row)
	return v, json.Unmarshal(text, v.Interface())
}

func equal(a, b reflect.Value) bool { return reflect.DeepEqual(a.Interface(), b.Interface()) }

// Whichever path a row takes, it becomes what encoding/json makes of it.
func TestPathsAsEncodingJSON(t *testing.T) {
	taken := make(map[string]int)
	rapid.Check(t, func(r *rapid.T) {
		from, to := aType(r, "from"), aType(r, "to")
		text := aText(r, from)
		row := reflect.New(from)
		gotErr := For(from).Decode(text, row.UnsafePointer())
		want, wantErr := read(text, from)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !equal(row, want) {
			r.Fatalf("%s into %v:\n%+v, %v\nencoding/json has\n%+v, %v", text, from, row.Elem(), gotErr, want.Elem(), wantErr)
		}
		checkProjection(r, text, from, to, taken)
		if gotErr != nil {
			return
		}
		taken["decoded"]++
		written, gotErr := For(from).Append(nil, row.UnsafePointer())
		wantText, wantErr := asJSON(row.Interface())
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && string(written) != string(wantText) {
			r.Fatalf("%v is written as\n%s, %v\nencoding/json writes\n%s, %v", from, written, gotErr, wantText, wantErr)
		}
		if from == to {
			return // it is copied
		}
		got := reflect.New(to)
		gotErr = NewConverter(from, to).Convert(got.UnsafePointer(), row.UnsafePointer())
		if wantErr == nil {
			want, wantErr = read(wantText, to)
		}
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !equal(got, want) {
			r.Fatalf("%s of %v becomes %v:\n%+v, %v\nencoding/json makes\n%+v, %v of it", wantText, from, to, got.Elem(), gotErr, want.Elem(), wantErr)
		}
		taken["converted"]++
	})
	for _, path := range []string{"decoded", "projected", "converted"} {
		if taken[path] == 0 {
			t.Errorf("no row was %s: it took %v", path, slices.Collect(maps.Keys(taken)))
		}
	}
}

func checkProjection(r *rapid.T, text []byte, wide, narrow reflect.Type, taken map[string]int) {
	p, ok := Project(For(narrow), For(wide))
	if !ok {
		return
	}
	row, got := reflect.New(wide), reflect.New(narrow)
	if _, ok := For(wide).Try(text, row.UnsafePointer()); !ok {
		return
	}
	p.Take(got.UnsafePointer(), row.UnsafePointer())
	if want, err := read(text, narrow); err != nil || !equal(got, want) {
		r.Fatalf("%s taken out of %v is\n%+v\nread as %v it is\n%+v, %v", text, wide, got.Elem(), narrow, want.Elem(), err)
	}
	taken["projected"]++
}

// All pairs of the forms: a projection that would read a name into another field is none.
func TestProjectionsOfForms(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		taken := make(map[string]int)
		wide := rapid.SampledFrom(forms).Draw(r, "wide")
		text := aText(r, wide)
		for _, narrow := range forms {
			if narrow != wide {
				checkProjection(r, text, wide, narrow, taken)
			}
		}
	})
}

// What encoding/json keeps of an embedded struct whose type is not exported is kept.
func TestHiddenStruct(t *testing.T) {
	type row struct {
		hidden `json:"hidden"`
	}
	var got row
	codec := For(reflect.TypeFor[row]())
	if err := codec.Decode([]byte(`{"hidden":{"a":1,"b":"<"}}`), unsafe.Pointer(&got)); err != nil || got.A != 1 || got.B != "<" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if text, err := codec.Append(nil, unsafe.Pointer(&got)); err != nil || string(text) != `{"hidden":{"a":1,"b":"<"}}` {
		t.Errorf("it is written as %s, %v", text, err)
	}
	var other struct {
		H map[string]any `json:"hidden"`
	}
	if err := NewConverter(reflect.TypeFor[row](), reflect.TypeOf(other)).Convert(unsafe.Pointer(&other), unsafe.Pointer(&got)); err != nil || other.H["a"] != 1.0 {
		t.Errorf("it becomes %+v, %v", other, err)
	}
	if got.c != 0 {
		t.Error("a field that is not exported was set")
	}
}

// A name that a narrow type reads whatever the case of its letters, and the wide one as another field.
func TestProjectHeedsCase(t *testing.T) {
	type wide struct {
		A     int `json:"a"`
		Other int `json:"A"`
	}
	type narrow struct {
		A int `json:"a"`
	}
	if _, ok := Project(For(reflect.TypeFor[narrow]()), For(reflect.TypeFor[wide]())); ok {
		t.Error(`{"A":1} would be read as the field A of the wide type, and not as the narrow one's a`)
	}
	if _, ok := Project(For(reflect.TypeFor[wide]()), For(reflect.TypeFor[struct {
		A     int `json:"a"`
		Other int `json:"A"`
		More  string
	}]())); !ok {
		t.Error("a type that has both spellings takes both")
	}
}
