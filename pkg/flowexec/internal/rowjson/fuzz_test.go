package rowjson

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzConvert: a row of any type that a text can be read as becomes one of any other as by the round trip through JSON.
func FuzzConvert(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Add([]byte(`{"id":9007199254740993,"score":1e17,"i8":-1,"i16":7,"i64":-1,"u":4294967296,"u64":9223372036854775808,"f32":0.1,"X":16777217}`))
	f.Add([]byte(`{"id":1e2,"score":32768,"name":"\u2028<","u8":255,"more":3,"Deep":1,"deep":2,"a":3,"A":4,"b":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzFrom[plain](t, text)
		fuzzFrom[other](t, text)
		fuzzFrom[mixed](t, text)
		fuzzFrom[slowOnly](t, text)
		fuzzFrom[narrow](t, text)
		fuzzFrom[map[string]any](t, text)
	})
}

func fuzzFrom[From any](t *testing.T, text []byte) {
	t.Helper()
	var row From
	if json.Unmarshal(text, &row) != nil || isNull(text) {
		return
	}
	fuzzTo[From, plain](t, row)
	fuzzTo[From, other](t, row)
	fuzzTo[From, mixed](t, row)
	fuzzTo[From, slowOnly](t, row)
	fuzzTo[From, narrow](t, row)
	fuzzTo[From, struct{ ID, Deep int }](t, row)
	fuzzTo[From, map[string]any](t, row)
}

func fuzzTo[From, To any](t *testing.T, row From) {
	t.Helper()
	if reflect.TypeFor[From]() != reflect.TypeFor[To]() { // else it is copied, whatever its methods would make of it
		converted[From, To](t, row)
	}
}
