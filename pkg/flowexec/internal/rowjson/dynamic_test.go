package rowjson

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"unsafe"
)

// A field that is not known before is written as the bytes that were read, and an absent one is left out, by compiled code and by encoding/json.
func TestDynamicKeepsItsJSON(t *testing.T) {
	for _, name := range []string{"a", "ä"} { // encoding/json handles names with other letters than ASCII
		row := Made([]MadeField{{name, "any", dynamicType}, {"n", "int", reflect.TypeFor[int64]()}})
		codec := For(row)
		for _, text := range []string{
			"", "null", "true", "false", "0", "-0", "7", "-7", "123456789012345678", "1234567890123456789", "-0.0", "2.50", "1e3", "1E+2", "99999999999999999999", `"a"`, `"é\u00e9"`, "[1, 2]", `{"a" :1}`,
		} {
			want := `{"n":7}`
			if text != "" {
				want = `{"` + name + `":` + text + `,"n":7}`
			}
			made := reflect.New(row)
			if err := codec.Decode([]byte(want), made.UnsafePointer()); err != nil {
				t.Errorf("%s: %v", want, err)
				continue
			}
			if got, err := codec.Append(nil, made.UnsafePointer()); err != nil || string(got) != compacted(t, want) && string(got) != want {
				t.Errorf("%s is written as %s: %v", want, got, err)
			}
		}
	}
}

// compacted returns JSON without spaces, as encoding/json writes it.
func compacted(t *testing.T, text string) string {
	t.Helper()
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	b, err := AppendAny(nil, raw)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// However a field keeps its value, it becomes a field of another type as its JSON would.
func TestDynamicConvertsAsItsJSON(t *testing.T) {
	from := Made([]MadeField{{"v", "any", dynamicType}})
	type into struct {
		V *json.RawMessage `json:"v"`
	}
	for _, d := range []Dynamic{
		IntField(0), IntField(-7), IntField(127), IntField(1 << 24), IntField(1<<53 + 1), IntField(math.MaxInt64), IntField(math.MinInt64), BoolField(true), BoolField(false), TextField(""), TextField("ab"),
		FloatField(math.Float64bits(2.5), nil), FloatField(math.Float64bits(-0.25), nil), FloatField(math.Float64bits(0.1), []byte("0.1")), JSONField([]byte("null")), JSONField([]byte("-0")), JSONField([]byte(`[1]`)), {},
	} {
		text := "{}"
		if d.kind != DynamicAbsent {
			text = `{"v":` + string(d.AppendJSON(nil)) + "}"
		}
		for _, field := range []reflect.Type{
			reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int64](), reflect.TypeFor[uint64](), reflect.TypeFor[uint8](), reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[Exact](),
			reflect.TypeFor[bool](), reflect.TypeFor[string](), reflect.TypeFor[any](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[[]int](), reflect.TypeFor[*int](),
		} {
			to := reflect.StructOf([]reflect.StructField{{Name: "V", Type: field, Tag: `json:"v"`}})
			want, got := reflect.New(to), reflect.New(to)
			wantErr := For(to).Decode([]byte(text), want.UnsafePointer())
			err := NewConverter(from, to).Convert(got.UnsafePointer(), unsafe.Pointer(&d))
			if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Errorf("%s becomes %+v of type %v (%v), want %+v (%v)", text, got.Elem(), field, err, want.Elem(), wantErr)
			}
		}
		var raw into
		if err := NewConverter(from, reflect.TypeFor[into]()).Convert(unsafe.Pointer(&raw), unsafe.Pointer(&d)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
