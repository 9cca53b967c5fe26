package rowjson

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
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
	row, wantErr := json.Marshal(&from)
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
	if c := NewConverter(reflect.TypeFor[plain](), reflect.TypeFor[other]()); !c.move(unsafe.Pointer(&o), unsafe.Pointer(&p)) {
		t.Errorf("%+v is in doubt", p)
	}
	if c := NewConverter(reflect.TypeFor[mixed](), reflect.TypeFor[plain]()); c.moves != nil {
		t.Error("a type with other fields is compiled")
	}
	copied := mixed{}
	if err := NewConverter(reflect.TypeFor[mixed](), reflect.TypeFor[mixed]()).Convert(unsafe.Pointer(&copied), unsafe.Pointer(&mixed{A: 3})); err != nil || copied.A != 3 {
		t.Errorf("a row of the same type is copied as %+v, %v", copied, err)
	}
}
