package rowjson

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

type other struct {
	ID    float64 `json:"id"`
	Score int16   `json:"score"`
	Name  string  `json:"name"`
	OK    bool
	I8    uint8   `json:"i8"`
	I16   float32 `json:"i16"`
	I32   int8    `json:"i32"`
	I64   uint64  `json:"i64"`
	U     int32   `json:"u"`
	U64   int64   `json:"u64"`
	F32   float64 `json:"f32"`
	X     float32
	More  int
}

// converted compares a conversion with the round trip through JSON.
func converted[From, To any](t failer, from From) {
	t.Helper()
	var got, want To
	gotErr := NewConverter(reflect.TypeFor[From](), reflect.TypeFor[To]()).Convert(unsafe.Pointer(&got), unsafe.Pointer(&from))
	row, wantErr := asJSON(&from)
	if wantErr == nil {
		wantErr = json.Unmarshal(row, &want)
	}
	if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v\nbecomes %+v, %v\nthe round trip gives %+v, %v", from, got, gotErr, want, wantErr)
	}
}

func TestConvert(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Just("\xff\xfe"), rapid.Just("a\u2028b"))
		whole := rapid.OneOf(rapid.Int64Range(-300, 300), rapid.Int64(), rapid.Just[int64](0))
		float := rapid.OneOf(rapid.Map(whole, func(n int64) float64 { return float64(n) }), rapid.Float64(),
			rapid.SampledFrom([]float64{math.NaN(), math.Inf(-1), math.Copysign(0, -1), 0.1, 1 << 53, 1 << 62, 1e21, 16777217, 3.4e38, 1e39}))
		// Most rows are plain, so that one odd field is what is tested.
		p := plain{ID: 1, Score: 2, Name: "n", I8: 3}
		switch rapid.IntRange(0, 12).Draw(r, "odd") {
		case 0:
			p.ID = int(whole.Draw(r, "id"))
		case 1:
			p.Score = float.Draw(r, "score")
		case 2:
			p.Name = text.Draw(r, "name")
		case 3:
			p.OK = true
		case 4:
			p.I8 = int8(whole.Draw(r, "i8"))
		case 5:
			p.I16 = int16(whole.Draw(r, "i16"))
		case 6:
			p.I32 = int32(whole.Draw(r, "i32"))
		case 7:
			p.I64 = whole.Draw(r, "i64")
		case 8:
			p.U = uint(whole.Draw(r, "u"))
		case 9:
			p.U64 = uint64(whole.Draw(r, "u64"))
		case 10:
			p.F32 = float32(float.Draw(r, "f32"))
		case 11:
			p.X = float32(float.Draw(r, "X"))
		case 12:
			p.U16 = uint16(whole.Draw(r, "u16"))
		}
		converted[plain, other](r, p)
		converted[plain, mixed](r, p)
		converted[plain, struct{ Id int }](r, p)
		converted[plain, map[string]any](r, p)
		o := other{ID: float64(p.ID), Score: p.I16, Name: p.Name, F32: p.Score, X: p.X, U64: p.I64, U: p.I32}
		converted[other, plain](r, o)
		converted[mixed, plain](r, mixed{B: p.Name, A: p.ID, Num: "1"})
		converted[map[string]any, plain](r, map[string]any{"id": p.ID, "score": p.Score, "name": p.Name})
	})
}

// The compiled converter takes what it is made for.
func TestConvertCompiled(t *testing.T) {
	p := plain{ID: 1, Score: 2, Name: "n", I8: 3, U64: 5, F32: 6}
	var o other
	if c := NewConverter(reflect.TypeFor[plain](), reflect.TypeFor[other]()); !c.moves.move(unsafe.Pointer(&o), unsafe.Pointer(&p)) {
		t.Errorf("%+v is in doubt", p)
	}
	if c := NewConverter(reflect.TypeFor[slowOnly](), reflect.TypeFor[plain]()); c.moves != nil {
		t.Error("a type that encoding/json has to write is compiled")
	}
	n, like := nest{Tree: tree{Leaf: leaf{S: "a"}, Leaves: []leaf{{N: 1}, {}}}, Map: map[string]int8{"a": 1}}, nestLike{}
	if c := NewConverter(reflect.TypeFor[nest](), reflect.TypeFor[nestLike]()); !c.moves.move(unsafe.Pointer(&like), unsafe.Pointer(&n)) {
		t.Errorf("%+v is in doubt", n)
	}
	copied := mixed{}
	if err := NewConverter(reflect.TypeFor[mixed](), reflect.TypeFor[mixed]()).Convert(unsafe.Pointer(&copied), unsafe.Pointer(&mixed{A: 3})); err != nil || copied.A != 3 {
		t.Errorf("a row of the same type is copied as %+v, %v", copied, err)
	}
}

type leaf struct {
	S string
	N int32   `json:"n,omitempty"`
	F float32 `json:"f"`
}

type leafLike struct {
	S *string
	N int8   `json:"n"`
	F *int64 `json:"f"`
}

type tree struct {
	Leaf   leaf
	Leaves []leaf             `json:",omitempty"`
	Many   []*leaf            `json:"many"`
	Lists  [][]int16          `json:"lists"`
	Named  map[string]leaf    `json:"named"`
	Own    []upper            `json:"own"`
	Array  [2]int             `json:"array"`
	Lost   map[string]float64 `json:"lost"`
}

type treeLike struct {
	Leaf   *leafLike
	Leaves []leafLike
	Many   []leafLike       `json:"many"`
	Lists  [][]int8         `json:"lists"`
	Named  map[string]*leaf `json:"named"`
	Own    []upper          `json:"own"`
	Array  []int            `json:"array"`
}

type nest struct {
	Tree  tree
	Ptr   *tree            `json:"ptr,omitempty"`
	Int   *int             `json:"int"`
	Bytes []byte           `json:"bytes"`
	Map   map[string]int8  `json:"map"`
	Keys  map[int]string   `json:"keys"`
	Node  *node            `json:"node"`
	Any   any              `json:"any"`
	Raw   json.RawMessage  `json:"raw"`
	When  *time.Time       `json:"when"`
	Deep  **int            `json:"deep"`
	Same  []*string        `json:"same"`
	Hole  map[string]int64 `json:"-"`
	Inner
}

type nestLike struct {
	Tree  treeLike
	Ptr   treeLike           `json:"ptr"`
	Int   int16              `json:"int"`
	Bytes []byte             `json:"bytes"`
	Map   map[string]float32 `json:"map"`
	Keys  map[string]string  `json:"keys"`
	Node  node               `json:"node"`
	Any   *string            `json:"any"`
	Raw   json.RawMessage    `json:"raw"`
	When  time.Time          `json:"when"`
	X     *float64
	Same  []string `json:"same"`
	Inner struct{} `json:"deep"`
}

type node struct {
	V    int
	Next *node
}

// Nested types convert as the round trip through JSON does.
func TestConvertNested(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		// Mostly what fits, so that one odd value is what is tested.
		text := rapid.OneOf(rapid.StringMatching(`[a-z]{0,3}`), rapid.String(), rapid.SampledFrom([]string{"\xff", "<"}))
		whole := rapid.OneOf(rapid.Int32Range(-9, 9), rapid.Int32Range(-9, 9), rapid.Int32Range(-300, 300))
		float := rapid.OneOf(rapid.Map(whole, func(n int32) float32 { return float32(n) }), rapid.SampledFrom([]float32{0.5, float32(math.NaN())}))
		leaves := rapid.Custom(func(r *rapid.T) leaf { return leaf{text.Draw(r, "S"), whole.Draw(r, "N"), float.Draw(r, "F")} })
		trees := rapid.Custom(func(r *rapid.T) tree {
			return tree{
				Leaf: leaves.Draw(r, "Leaf"), Leaves: orNil(rapid.SliceOfN(leaves, 0, 2)).Draw(r, "Leaves"),
				Many:  orNil(rapid.SliceOfN(rapid.Ptr(leaves, true), 0, 2)).Draw(r, "Many"),
				Lists: orNil(rapid.SliceOfN(orNil(rapid.SliceOfN(rapid.Int16Range(-130, 130), 0, 1)), 0, 2)).Draw(r, "Lists"),
				Named: rapid.MapOfN(text, leaves, 0, 1).Draw(r, "Named"), Own: rapid.SliceOfN(rapid.Just(upper("x")), 0, 1).Draw(r, "Own"),
				Lost: rapid.MapOfN(text, rapid.SampledFrom([]float64{1, 1, 1, math.Inf(1)}), 0, 1).Draw(r, "Lost"),
			}
		})
		n := nest{
			Tree: trees.Draw(r, "Tree"), Ptr: rapid.Ptr(trees, true).Draw(r, "Ptr"), Int: rapid.Ptr(rapid.Map(whole, func(n int32) int { return int(n) }), true).Draw(r, "Int"),
			Bytes: orNil(rapid.SliceOfN(rapid.Byte(), 0, 4)).Draw(r, "Bytes"), Map: orNil2(rapid.MapOfN(text, rapid.Int8(), 0, 2)).Draw(r, "Map"),
			Keys: rapid.MapOfN(rapid.Int(), text, 0, 1).Draw(r, "Keys"), Node: rapid.Ptr(rapid.Just(node{1, &node{V: 2}}), true).Draw(r, "Node"),
			Any:  rapid.OneOf(rapid.Just[any](nil), rapid.Just[any]("s"), rapid.Just[any](make(chan int))).Draw(r, "Any"),
			Raw:  rapid.SampledFrom([]json.RawMessage{nil, []byte(`{"a": "<"}`), []byte(`1`), []byte("x")}).Draw(r, "Raw"),
			When: rapid.Ptr(rapid.Just(time.Unix(1e9, 0).UTC()), true).Draw(r, "When"), Same: rapid.SliceOfN(rapid.Ptr(text, true), 0, 2).Draw(r, "Same"),
			Inner: Inner{X: float.Draw(r, "X")},
		}
		if deep := rapid.Ptr(rapid.Just(1), true).Draw(r, "Deep"); deep != nil && rapid.Bool().Draw(r, "deep") {
			n.Deep = &deep
		}
		converted[nest, nestLike](r, n)
		converted[nest, struct{ Tree leaf }](r, n)
		converted[tree, treeLike](r, n.Tree)
		converted[leaf, leafLike](r, n.Tree.Leaf)
		converted[struct{ B []byte }, struct{ B []int }](r, struct{ B []byte }{n.Bytes})
		converted[struct{ B []int8 }, struct{ B []byte }](r, struct{ B []int8 }{make([]int8, len(n.Bytes)%2)})
		converted[leafLike, leaf](r, leafLike{S: &n.Tree.Leaf.S, N: 1})
		converted[mixed, nestLike](r, mixed{Num: "1", Raw: n.Raw, Bytes: n.Bytes})
	})
}

func orNil[T any](g *rapid.Generator[[]T]) *rapid.Generator[[]T] {
	return rapid.OneOf(g, rapid.Just[[]T](nil))
}

func orNil2[K comparable, V any](g *rapid.Generator[map[K]V]) *rapid.Generator[map[K]V] {
	return rapid.OneOf(g, rapid.Just[map[K]V](nil))
}

// A panic of a type's own code, and rows that hold themselves, are errors.
func TestConvertHostile(t *testing.T) {
	ring := &node{V: 1}
	ring.Next = ring
	type to struct{ Next *node }
	var got to
	if err := NewConverter(reflect.TypeFor[node](), reflect.TypeFor[to]()).Convert(unsafe.Pointer(&got), unsafe.Pointer(ring)); err == nil {
		t.Error("a ring is converted")
	}
	type from struct{ Next panicking }
	if err := NewConverter(reflect.TypeFor[from](), reflect.TypeFor[to]()).Convert(unsafe.Pointer(&got), unsafe.Pointer(&from{})); err == nil {
		t.Error("a panic is converted")
	}
	type field struct{ P panicking }
	if out, err := For(reflect.TypeFor[field]()).Append([]byte("before"), unsafe.Pointer(new(field))); err == nil || string(out) != "before" {
		t.Errorf("a row that panics is written as %s, %v", out, err)
	}
	if err := For(reflect.TypeFor[field]()).Decode([]byte(`{"P":1}`), unsafe.Pointer(new(field))); err == nil {
		t.Error("a row that panics is read")
	}
}

type panicking int

func (panicking) MarshalJSON() ([]byte, error)  { panic("on purpose") }
func (*panicking) UnmarshalJSON(b []byte) error { panic("on purpose") }
