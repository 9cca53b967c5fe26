package jsonrule

import (
	"encoding/json"
	"strings"
	"testing"
)

// examples are texts that are JSON, or nearly so.
var examples = []string{
	``, ` `, `{}`, ` { } `, `[]`, `[ ]`, `{"a":1}`, `{"a" : 1 , "b":[1,2,{"c":null}]}`, `{"a":1,}`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1`, `[1`, `"`,
	`"a"`, `"\n"`, `"\u00e4"`, `"\u00g4"`, `"\x"`, `"\`, "\"a\tb\"", "\"\xff\"", `"ä"`, `0`, `-0`, `01`, `-`, `-a`, `1.`, `.1`, `1.5`, `1e5`, `1E+5`, `1e`, `1e-`, `1e+x`, `12345678901234567890123`,
	`true`, `tru`, `truex`, `false`, `null`, `nul`, `NaN`, `1 2`, `{}{}`, `{"a":1} x`, "\v{}", "\u00a0{}", `{"a":1,"a":2}`, `{"":0}`, `[[[[]]]]`, `{"a":"b\"c"}`, `[1}`, `{"a":1]`,
	"\ufeff{}", "{}\x00", `'a'`, `[-]`, `[1 2]`, `{"a" "b"}`, `{1:2}`,
}

// TestValid compares Valid with json.Valid.
func TestValid(t *testing.T) {
	nested := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	for _, text := range append(examples, nested, nested[1:], strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 100), strings.Repeat("[", 100000)) {
		if got, want := Valid([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("%.100q is JSON: %v, want %v", text, got, want)
		}
	}
	// The usual texts must not need json.Valid.
	for _, text := range []string{`{"stu_id":101,"score_1":100,"name":"Ä \"b\"","x":[1.5e3,true,null]}`, ` {"a" : {} } `} {
		if value([]byte(text), space([]byte(text), 0), 0) == unsure {
			t.Errorf("%s goes the slow way", text)
		}
	}
}

// FuzzValid compares Valid with json.Valid.
func FuzzValid(f *testing.F) {
	for _, text := range examples {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := Valid(text), json.Valid(text); got != want {
			t.Errorf("%q is JSON: %v, want %v", text, got, want)
		}
	})
}

// BenchmarkValid checks a row of 50 bytes.
func BenchmarkValid(b *testing.B) {
	row := []byte(`{"stu_id":101,"score_1":100,"score_2":90.55,"x":1}`)
	for name, valid := range map[string]func([]byte) bool{"Valid": Valid, "json.Valid": json.Valid} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !valid(row) {
					b.Fatal("the row is refused")
				}
			}
		})
	}
}
