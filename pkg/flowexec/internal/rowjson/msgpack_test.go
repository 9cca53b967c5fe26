package rowjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// packed is v in MessagePack, with the names that it has in JSON.
func packed(t failer, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	e.SetCustomStructTag("json")
	e.UseCompactInts(true)
	if err := e.Encode(v); err != nil {
		t.Fatalf("%v", err)
	}
	return b.Bytes()
}

// A row means the same in MessagePack as in JSON.
func TestFromMessagePack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.String()
		row := mixed{
			When: time.Unix(rapid.Int64Range(0, 1<<35).Draw(r, "when"), rapid.Int64Range(0, 999_999_999).Draw(r, "nanos")).UTC(),
			P:    rapid.Ptr(rapid.Int(), true).Draw(r, "p"), List: rapid.SliceOf(text).Draw(r, "list"),
			Map: rapid.MapOf(text, rapid.Int()).Draw(r, "map"), In: Inner{Deep: rapid.Int().Draw(r, "deep"), X: rapid.Float32().Draw(r, "x")},
			InP: rapid.Ptr(rapid.Just(Inner{1, 2}), true).Draw(r, "inp"), Bytes: rapid.SliceOf(rapid.Byte()).Draw(r, "bytes"),
			A: rapid.Int().Draw(r, "a"), B: text.Draw(r, "b"), Any: rapid.OneOf(rapid.Just[any](nil), rapid.Just[any](true), rapid.Map(rapid.Float64(), func(f float64) any { return f })).Draw(r, "any"),
		}
		type values struct { // without what only encoding/json knows: mixed's other fields
			When  time.Time      `json:"when"`
			P     *int           `json:"p"`
			List  []string       `json:"list"`
			Map   map[string]int `json:"map"`
			In    Inner          `json:"in"`
			InP   *Inner         `json:"inp"`
			Bytes []byte         `json:"bytes"`
			A     int            `json:"a"`
			B     string         `json:"B"`
			Any   any            `json:"any"`
		}
		v := values{row.When, row.P, row.List, row.Map, row.In, row.InP, row.Bytes, row.A, row.B, row.Any}
		got, err := FromMessagePack(packed(r, v))
		if err != nil {
			r.Fatalf("%+v: %v", v, err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			r.Fatalf("%v", err)
		}
		var gotRow, wantRow mixed
		if err := json.Unmarshal(got, &gotRow); err != nil {
			r.Fatalf("%s: %v", got, err)
		}
		if err := json.Unmarshal(want, &wantRow); err != nil {
			r.Fatalf("%s: %v", want, err)
		}
		if !reflect.DeepEqual(gotRow, wantRow) {
			r.Fatalf("in MessagePack %+v, in JSON %+v", gotRow, wantRow)
		}
	})
}

func TestFromMessagePackRefuses(t *testing.T) {
	for row, want := range map[string]string{
		"": "EOF", "\xc1": "begins no value", "\x81\xa1a": "EOF", "\x81\x01\x02": "no string", "\x92\x01": "EOF", "\x01\x02": "1 bytes follow",
		"\xd4\x05\x00": "ext", "\xdd\xff\xff\xff\xff": "EOF", "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00": "no number +Inf",
		strings.Repeat("\x91", 1002) + "\x01": "nested more than 1000", strings.Repeat("\x91", 1<<20): "nested",
	} {
		if text, err := FromMessagePack([]byte(row)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %.50s, %v, want an error with %q", row, text, err, want)
		}
	}
}

func FuzzFromMessagePack(f *testing.F) {
	for _, v := range []any{map[string]any{"a": 1, "b": []any{nil, true, 1.5, "x", []byte("y")}}, time.Unix(1, 2), -70000, uint64(1 << 63)} {
		f.Add(packed(f, v))
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		if text, err := FromMessagePack(row); err == nil && !json.Valid(text) {
			t.Fatalf("%q becomes %q, which is not JSON", row, text)
		}
	})
}
