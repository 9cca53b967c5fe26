package storetext_test

import (
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/storetext"
)

type row struct {
	ID   int    `json:"id"`
	Name string `json:"name,omitempty"`
	Skip int    `json:"-"`
}

type named string

func TestWrite(t *testing.T) {
	for _, test := range []struct {
		value any
		want  string
	}{
		{"a b", "a b"}, {[]byte("x"), "x"}, {named("n"), "n"}, {7, "7"}, {uint8(7), "7"}, {int64(-7), "-7"}, {true, "true"},
		{95.0, "95"}, {83.33333333333333, "83.33333333333333"}, {1e6, "1000000"}, {1e21, "1e+21"}, {float32(0.1), "0.1"}, {1e-7, "1e-07"},
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05Z"}, {[]int{1, 2}, "[1,2]"}, {row{ID: 1}, `{"id":1}`},
		{json.RawMessage(`{"a": 1}`), `{"a":1}`}, {nil, "null"},
	} {
		if got, err := storetext.Write(test.value); got != test.want || err != nil {
			t.Errorf("%v (%T): got %q, %v, want %q", test.value, test.value, got, err, test.want)
		}
	}
	for _, value := range []any{math.NaN(), math.Inf(1), func() {}} {
		if got, err := storetext.Write(value); err == nil {
			t.Errorf("%T is written as %q", value, got)
		}
	}
	var inner *int
	for _, value := range []any{(*string)(nil), (*time.Time)(nil), (*big.Int)(nil), (*row)(nil), (*json.RawMessage)(nil), &inner, new([]int), new(map[string]int)} {
		if got, err := storetext.Write(value); err == nil || !strings.Contains(err.Error(), "leave the call out") && !strings.Contains(err.Error(), "write what it leads to") {
			t.Errorf("%T that leads to nil is written as %q, %v", value, got, err)
		}
	}
}

type panics struct{}

func (panics) MarshalText() ([]byte, error)  { return nil, nil }
func (*panics) UnmarshalText(_ []byte) error { panic("no text") }

// A panic of a type's own method is an error of its value.
func TestReaderPanics(t *testing.T) {
	var into panics
	if err := storetext.Reader(reflect.TypeFor[panics]())("", reflect.ValueOf(&into).Elem()); err == nil || !strings.Contains(err.Error(), "no text") {
		t.Errorf("it is read with %v", err)
	}
}
