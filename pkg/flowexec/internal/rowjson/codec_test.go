package rowjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

type Inner struct {
	Deep int `json:"deep"`
	X    float32
}

type plain struct {
	ID    int     `json:"id"`
	Score float64 `json:"score"`
	Name  string  `json:"name,omitempty"`
	OK    bool
	I8    int8    `json:"i8"`
	I16   int16   `json:"i16,omitempty"`
	I32   int32   `json:"i32"`
	I64   int64   `json:"i64"`
	U     uint    `json:"u"`
	U8    uint8   `json:"u8"`
	U16   uint16  `json:"u16"`
	U32   uint32  `json:"u32"`
	U64   uint64  `json:"u64,omitempty"`
	F32   float32 `json:"f32"`
	Inner
	Skip int `json:"-"`
}

type mixed struct {
	When  time.Time       `json:"when"`
	P     *int            `json:"p"`
	List  []string        `json:"list,omitempty"`
	Map   map[string]int  `json:"map"`
	Raw   json.RawMessage `json:"raw"`
	Any   any             `json:"any"`
	Num   json.Number     `json:"num"`
	In    Inner           `json:"in"`
	InP   *Inner          `json:"inp,omitempty"`
	Bytes []byte          `json:"bytes"`
	Own   upper           `json:"own"`
	A     int             `json:"a"`
	B     string          `json:"B"`
}

type upper string

func (u *upper) UnmarshalJSON(b []byte) error {
	*u = upper(strings.ToUpper(string(b)))
	return nil
}

func (u *upper) MarshalJSON() ([]byte, error) {
	return []byte(`"<` + strings.Repeat("u", len(*u)%5) + `>"`), nil
}

type slowOnly struct {
	Q int `json:"q,string"`
	*Inner
}

// failer is a testing.TB or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// same checks a row against encoding/json: both ways for what is read.
func same[T any](t testing.TB, row []byte) {
	t.Helper()
	codec := For(reflect.TypeFor[T]())
	var got, want T
	gotErr, wantErr := codec.Decode(row, unsafe.Pointer(&got)), json.Unmarshal(row, &want)
	if gotErr == errNull {
		return // refused on purpose
	}
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("%q into %T: got the error %v, encoding/json says %v", row, got, gotErr, wantErr)
	}
	if wantErr != nil {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: got %+v, encoding/json has %+v", row, got, want)
	}
	written(t, got)
}

func written[T any](t failer, row T) {
	t.Helper()
	got, gotErr := For(reflect.TypeFor[T]()).Append([]byte("before"), unsafe.Pointer(&row))
	want, wantErr := asJSON(&row)
	if (gotErr == nil) != (wantErr == nil) || string(got) != "before"+string(want) {
		t.Fatalf("%+v is written as %s, %v; encoding/json writes %s, %v", row, got, gotErr, want, wantErr)
	}
}

// asJSON is encoding/json, which leaves '<', '>' and '&' alone.
func asJSON(v any) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("%v", p)
		}
	}()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

var seeds = []string{
	`{"id":1,"score":2.5,"name":"x","OK":true,"i8":-128,"i16":3,"i32":4,"i64":-5,"u":6,"u8":255,"u16":8,"u32":9,"u64":10,"f32":1.5,"deep":2,"X":0.1}`,
	` { "id" : 1 , "score" : -0 , "name" : "ä" } `, `{}`, `[]`, `null`, ` null `, ``, `{`, `{"id"`, `{"id":`, `{"id":1`, `{"id":1,`, `{"id":1,}`, `{"id":1}x`,
	`{"ID":1}`, `{"Id":1,"id":2}`, `{"id":1,"id":2}`, `{"id":1,"id":null}`, `{"\u0069d":1}`, `{"id":"1"}`, `{"id":01}`, `{"id":-}`, `{"id":-0}`, `{"id":1.0}`, `{"id":1e2}`,
	`{"id":9223372036854775807}`, `{"id":9223372036854775808}`, `{"i8":128}`, `{"u8":-1}`, `{"u":-0}`, `{"u64":18446744073709551615}`, `{"u64":18446744073709551616}`,
	`{"score":1e400}`, `{"score":1e-400}`, `{"score":0.1}`, `{"score":123456789012345678901234567890}`, `{"score":1.}`, `{"score":.5}`, `{"score":+1}`, `{"score":0.30000000000000004}`, `{"score":00.5}`,
	`{"score":999999999999999}`, `{"score":0.000000000000001}`, `{"f32":3.5e38}`, `{"f32":16777217}`,
	`{"name":"a\nb"}`, `{"name":"\ud800"}`, "{\"name\":\"\xff\"}", "{\"name\":\"a\x01\"}", `{"name":null,"OK":null}`, `{"OK":tru}`, `{"OK":"true"}`,
	`{"other":{"a":[1,2,{"b":null}],"c":"d"},"id":7}`, `{"other":[1,2,],"id":7}`, `{"other":{"a"},"id":7}`, `{"other":"\x","id":7}`, "{\"other\":\"\xff\",\"id\":7}", `{"other":-,"id":7}`,
	`{"when":"2026-01-02T03:04:05Z","p":3,"list":["a"],"map":{"a":1},"raw":{"x": 1},"any":[1,"a"],"num":12.50,"in":{"deep":1},"inp":{"X":2},"bytes":"aGk=","own":"q","a":1,"B":"b"}`,
	`{"when":"x"}`, `{"p":null}`, `{"p":1,"p":null}`, `{"map":{"a":1},"map":{"b":2}}`, `{"raw":null}`, `{"num":"x"}`, `{"num":""}`, `{"own":null}`, `{"q":"5","deep":1}`, `{"q":5}`,
	`{"a\u00e4":"\"\\\/\b\f\n\r\t"}`, `["long enough for eight", "and \ud83d\ude00 more", -0.5e+10, true, false, null, {}]`,
	"{\"\xe2\x84\xaa\":1}", "{\"i\xc4\xb1d\":1}", `{"a":1,"b":"low"}`,
	`{"a":{"b":[1,{"c":null}]},"a":{"d":1},"e":[],"f":-0,"g":1e5,"h":true,"i":"\u00e4","":""}`, `{"a":[1,}`, `{"a":1,"a":{"b":2},"a":null}`, `{"a":1e999}`, `{"a":nul}`,
}

func TestAsEncodingJSON(t *testing.T) {
	for _, seed := range seeds {
		same[plain](t, []byte(seed))
		same[mixed](t, []byte(seed))
		same[slowOnly](t, []byte(seed))
		same[struct{}](t, []byte(seed))
		same[map[string]any](t, []byte(seed))
		same[json.RawMessage](t, []byte(seed))
		valid(t, []byte(seed))
	}
}

// valid checks what is taken for JSON, and that little is in doubt.
func valid(t testing.TB, row []byte) {
	t.Helper()
	value, ok := Value(row)
	if ok && string(value) != strings.Trim(string(row), " \t\r\n") || ok != json.Valid(row) && !strings.Contains(string(row), strings.Repeat("[", 10)) {
		t.Fatalf("%q: taken for JSON: %v (%q), encoding/json says %v", row, ok, value, json.Valid(row))
	}
}

// Whatever is one byte away from JSON is judged as encoding/json judges it.
func TestValue(t *testing.T) {
	for _, seed := range seeds {
		for i := range len(seed) {
			valid(t, []byte(seed[:i]+seed[i+1:]))
			for _, b := range []byte("\"\\{}[]:,.-+019eEut /\x00\x1f\x7f\xff") {
				valid(t, []byte(seed[:i]+string(rune(b))+seed[i:]))
				valid(t, []byte(seed[:i]+string([]byte{b})+seed[i+1:]))
			}
		}
	}
	for _, depth := range []int{64, 66, 10001} {
		row := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		value, ok := Value(row)
		if ok != (depth <= 64) {
			t.Errorf("%d deep: %v, %q", depth, ok, value)
		}
		same[json.RawMessage](t, row)
	}
}

// A row that is kept as it came is not copied, and nothing can be appended to it in place.
func TestRaw(t *testing.T) {
	for _, row := range [][]byte{[]byte(` {"a": "\u00e4"} `), []byte(" " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n ")} {
		var got json.RawMessage
		if err := For(rawType).Decode(row, unsafe.Pointer(&got)); err != nil {
			t.Fatal(err)
		}
		if &got[0] != &row[1] || cap(got) != len(got) {
			t.Errorf("%q is kept as %q, copied or with room behind it", row, got)
		}
	}
}

// The compiled decoder takes what it is made for: it is not encoding/json that passes the tests.
func TestCompiledTakes(t *testing.T) {
	for _, row := range []string{seeds[0], seeds[1], `{"other":{"a":[1,2,{"b":null}],"c":"d"},"id":7}`, `{"name":null,"OK":false}`} {
		var p plain
		if c := For(reflect.TypeFor[plain]()); !taken(c, row, unsafe.Pointer(&p)) {
			t.Errorf("%s is in doubt", row)
		} else if _, ok := c.encode(nil, unsafe.Pointer(&p)); !ok {
			t.Errorf("%+v is in doubt", p)
		}
	}
	for _, row := range []reflect.Type{reflect.TypeFor[slowOnly](), reflect.TypeFor[map[string]int](), reflect.TypeFor[upper]()} {
		if For(row).fields != nil {
			t.Errorf("%v is compiled", row)
		}
	}
}

func taken(c *Codec, row string, into unsafe.Pointer) bool {
	_, ok := c.decode([]byte(row), into)
	return ok
}

func TestMust(t *testing.T) {
	c := For(reflect.TypeFor[plain]())
	if _, ok := c.Must([]string{"id", "none"}); ok {
		t.Error("a field that the type lacks can't be seen")
	}
	must, ok := c.Must([]string{"id", "name"})
	if !ok {
		t.Fatal("the type has both fields")
	}
	for row, want := range map[string]bool{
		`{"name":"","id":0}`: true, `{"id":1}`: false, `{"id":1,"name":null}`: false, `{}`: false, `{"id":1,"name":"a","other":[]}`: true,
	} {
		var p plain
		if seen, ok := c.Try([]byte(row), unsafe.Pointer(&p)); must.Has(seen) != want || !ok {
			t.Errorf("%s: seen %b, %v, want %v", row, seen, ok, want)
		}
	}
}

func TestWrites(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z<&"\\]{0,5}`))
		written(t, plain{
			ID: rapid.Int().Draw(r, "id"), Score: rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Int32(), func(n int32) float64 { return float64(n) / 4 }),
				rapid.Map(rapid.Int32(), func(n int32) float64 { return float64(n) / 10 }), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), 1e21, 1e-7, 1 << 53, 5e-324})).Draw(r, "score"),
			Name: text.Draw(r, "name"), OK: rapid.Bool().Draw(r, "ok"), I8: rapid.Int8().Draw(r, "i8"), I16: rapid.Int16().Draw(r, "i16"),
			I32: rapid.Int32().Draw(r, "i32"), I64: rapid.Int64().Draw(r, "i64"), U: rapid.Uint().Draw(r, "u"), U8: rapid.Uint8().Draw(r, "u8"),
			U16: rapid.Uint16().Draw(r, "u16"), U32: rapid.Uint32().Draw(r, "u32"), U64: rapid.Uint64().Draw(r, "u64"), F32: rapid.Float32().Draw(r, "f32"),
			Inner: Inner{X: float32(rapid.Int16().Draw(r, "x")) / 10},
		})
		written(t, mixed{
			List: rapid.SliceOf(text).Draw(r, "list"), Map: rapid.MapOf(text, rapid.Int()).Draw(r, "map"), Any: text.Draw(r, "any"),
			Own: upper(text.Draw(r, "own")), B: text.Draw(r, "b"), Bytes: []byte(text.Draw(r, "bytes")), InP: rapid.Ptr(rapid.Just(Inner{1, 2}), true).Draw(r, "inp"),
		})
	})
}

type outer struct {
	Inner
	second
	*third
	Deep string `json:"Deep"`
}

type second struct {
	Twice int
	Only  int
}

type third struct {
	Twice int
	Far   int
}

// Fields finds what encoding/json writes.
func TestFields(t *testing.T) {
	for _, test := range []struct {
		row  any
		want string
	}{{plain{Name: "n", U64: 1, I16: 1}, ""}, {mixed{}, ""}, {outer{third: new(third)}, ""}, {struct{ A, B int }{}, ""}} {
		var names []string
		for _, f := range Fields(reflect.TypeOf(test.row)) {
			if !f.OmitEmpty || reflect.TypeOf(test.row) == reflect.TypeFor[plain]() {
				names = append(names, f.Name)
			}
		}
		b, err := json.Marshal(test.row)
		if err != nil {
			// json.Number is written empty
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(string(b)))
		var want []string
		depth, key := 0, false
		for {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			switch v := token.(type) {
			case json.Delim:
				if v == '{' || v == '[' {
					depth++
				} else {
					depth--
				}
				key = depth == 1
				continue
			case string:
				if depth == 1 && key {
					want, key = append(want, v), false
					continue
				}
			}
			key = depth == 1
		}
		if !reflect.DeepEqual(names, want) {
			t.Errorf("%T has the fields %q, encoding/json writes %q", test.row, names, want)
		}
	}
}

// A narrow type's row is the same whether it is decoded or taken out of a wide one.
func takenOut[Narrow, Wide any](t testing.TB, row []byte) {
	t.Helper()
	narrow, wide := For(reflect.TypeFor[Narrow]()), For(reflect.TypeFor[Wide]())
	p, ok := Project(narrow, wide)
	if !ok {
		t.Fatalf("%T does not have the fields of %T", *new(Wide), *new(Narrow))
	}
	var w Wide
	if _, ok := wide.Try(row, unsafe.Pointer(&w)); !ok {
		return
	}
	var got, want Narrow
	p.Take(unsafe.Pointer(&got), unsafe.Pointer(&w))
	if err := json.Unmarshal(row, &want); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: taken out is %+v, decoded %+v, %v", row, got, want, err)
	}
}

type narrow struct {
	Name  string  `json:"name"`
	F32   float32 `json:"f32"`
	Score float64 `json:"score"`
	I8    int8    `json:"i8"`
	U16   uint16  `json:"u16"`
	ID    int     `json:"id"`
	OK    bool
}

func TestProject(t *testing.T) {
	for _, seed := range seeds {
		takenOut[narrow, plain](t, []byte(seed))
	}
	for _, row := range []reflect.Type{reflect.TypeFor[struct{ None int }](), reflect.TypeFor[struct{ Id int }](), reflect.TypeFor[struct {
		ID int8 `json:"id"`
	}](), reflect.TypeFor[mixed]()} {
		if _, ok := Project(For(row), For(reflect.TypeFor[plain]())); ok {
			t.Errorf("%v is taken for a part of plain", row)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		same[plain](t, row)
		same[map[string]any](t, row)
		same[mixed](t, row)
		same[slowOnly](t, row)
		same[json.RawMessage](t, row)
		takenOut[narrow, plain](t, row)
	})
}

type scores struct {
	ID     int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
}

func BenchmarkDecode(b *testing.B) {
	row := []byte(`{"stu_id":101,"score_1":100,"score_2":90}`)
	codec := For(reflect.TypeFor[scores]())
	var s scores
	for b.Loop() {
		s = scores{}
		if err := codec.Decode(row, unsafe.Pointer(&s)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeMembers reads a row of 100 numbers into a map, and into a struct.
func BenchmarkDecodeMembers(b *testing.B) {
	var fields []reflect.StructField
	row := []byte("{")
	for i := range 100 {
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: reflect.TypeFor[float64](), Tag: reflect.StructTag(fmt.Sprintf(`json:"field_%d"`, i))})
		row = fmt.Appendf(row, `"field_%d":%d,`, i, 7*i)
	}
	row[len(row)-1] = '}'
	for name, into := range map[string]reflect.Type{"map": membersType, "struct": reflect.StructOf(fields)} {
		b.Run(name, func(b *testing.B) {
			codec := For(into)
			b.ReportAllocs()
			for b.Loop() {
				if err := codec.Decode(row, reflect.New(into).UnsafePointer()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValue(b *testing.B) {
	row := []byte(`{"stu_id":101,"score_1":100,"score_2":97,"x":1}`)
	for b.Loop() {
		if _, ok := Value(row); !ok {
			b.Fatal("it is JSON")
		}
	}
}
