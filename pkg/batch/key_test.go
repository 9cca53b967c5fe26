package batch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

const (
	notAnObject = `the row is not a JSON object: send each row as one, such as {"stu_id": 1}`
	noField     = `the row's field "stu_id" is missing or null: the flow's shard_key names it, so every row needs it`
	noScalar    = `the row's field "stu_id" is an object or an array: the flow's shard_key names it, so it must be a string, a number or a boolean`
)

func text(s string) uint64   { return xxhash.Sum64String(s) }
func number(s string) uint64 { return ^xxhash.Sum64String(s) }

func TestKeyHash(t *testing.T) {
	k := NewKeyField("stu_id")
	for _, tt := range []struct {
		row  string
		want uint64
	}{
		{`{"stu_id":101}`, number("101")},
		{` { "a" : [1,{"stu_id":7}] , "stu_id" : 101 } `, number("101")},
		{`{"stu_id":101,"score_1":100,"score_2":90}`, number("101")},
		{`{"stu_id":"101"}`, text("101")},
		{`{"stu_id":""}`, text("")},
		{`{"stu_id":true}`, number("true")},
		{`{"stu_id":false}`, number("false")},

		// Numbers by value.
		{`{"stu_id":101.0}`, number("101")},
		{`{"stu_id":1.01e2}`, number("101")},
		{`{"stu_id":10100E-2}`, number("101")},
		{`{"stu_id":0.101e+3}`, number("101")},
		{`{"stu_id":-0}`, number("0")},
		{`{"stu_id":-0.000e9}`, number("0")},
		{`{"stu_id":0}`, number("0")},
		{`{"stu_id":-7}`, number("-7")},
		{`{"stu_id":-70e-1}`, number("-7")},
		{`{"stu_id":0.5}`, number("5e-1")},
		{`{"stu_id":100.250}`, number("10025e-2")},
		{`{"stu_id":9007199254740993}`, number("9007199254740993")},
		{`{"stu_id":9007199254740993.000}`, number("9007199254740993")},
		{`{"stu_id":12345678901234567890123456789012}`, number("12345678901234567890123456789012")},
		{`{"stu_id":1e31}`, number("10000000000000000000000000000000")},
		{`{"stu_id":1e32}`, number("1e32")},
		{`{"stu_id":100000000000000000000000000000000}`, number("1e32")},
		{`{"stu_id":1e-999999999}`, number("1e-999999999")},
		{`{"stu_id":10e-1000000000}`, number("1e-999999999")},
		{`{"stu_id":1e999999999999999999999999999999}`, number("huge")},
		{`{"stu_id":-1e-999999999999999999999999999999}`, number("-tiny")},

		// Strings by value.
		{`{"stu_id":"\u00e9t\u00e9"}`, text("été")},
		{`{"stu_id":"été"}`, text("été")},
		{`{"stu_id":"\ud83d\ude00"}`, text("😀")},
		{`{"stu_id":"\ud83d"}`, text("\uFFFD")},
		{"{\"stu_id\":\"a\xffb\"}", text("a\uFFFDb")},
		{`{"stu_id":"a\"b\\c\/d\n"}`, text("a\"b\\c/d\n")},

		// Of several the last that is not null.
		{`{"stu_id":1,"stu_id":2}`, number("2")},
		{`{"stu_id":1,"stu_id":null}`, number("1")},
		{`{"stu_id":{},"stu_id":3}`, number("3")},

		// Names as encoding/json matches them.
		{`{"STU_ID":4}`, number("4")},
		{`{"stu_id":1,"Stu_Id":5}`, number("5")},
		{`{"ſtu_id":6}`, number("6")},
		{`{"\u0073tu\u005fid":7}`, number("7")},
		{`{"stu-id":1,"stu_ie":2,"xtu_id":3,"stu_id":8}`, number("8")},
		{`{"a":"}\"{,","b":{"c":"]}"},"stu_id":9}`, number("9")},
	} {
		if got, err := k.Hash([]byte(tt.row)); err != nil || got != tt.want {
			t.Errorf("Hash(%s) = %#x, %v; want %#x", tt.row, got, err, tt.want)
		}
	}
}

func TestKeyHashErrors(t *testing.T) {
	k := NewKeyField("stu_id")
	for _, tt := range []struct {
		row  string
		want string
	}{
		{``, notAnObject},
		{`  `, notAnObject},
		{`101`, notAnObject},
		{`[{"stu_id":101}]`, notAnObject},
		{`{`, notAnObject},
		{`{"stu_id"`, notAnObject},
		{`{"stu_id`, notAnObject},
		{`{"stu_id":`, notAnObject},
		{`{"stu_id":}`, notAnObject},
		{`{"stu_id":,}`, notAnObject},
		{`{"stu_id":101`, notAnObject},
		{`{"stu_id":101,`, notAnObject},
		{`{"stu_id":101,}`, notAnObject},
		{`{"stu_id":101 "a":1}`, notAnObject},
		{`{"stu_id":101}}`, notAnObject},
		{`{"stu_id":101} {}`, notAnObject},
		{`{"stu_id" 101}`, notAnObject},
		{`{stu_id:101}`, notAnObject},
		{`{"stu_id":"101}`, notAnObject},
		{`{"stu_id":"1` + "\n" + `"}`, notAnObject},
		{`{"stu_id":"\x"}`, notAnObject},
		{`{"stu_id":[1}`, notAnObject},
		{`{"stu_id":[1`, notAnObject},
		{`{"stu_id":0101}`, notAnObject},
		{`{"stu_id":+1}`, notAnObject},
		{`{"stu_id":1.}`, notAnObject},
		{`{"stu_id":.5}`, notAnObject},
		{`{"stu_id":-}`, notAnObject},
		{`{"stu_id":1e}`, notAnObject},
		{`{"stu_id":1e5x}`, notAnObject},
		{`{"stu_id":NaN}`, notAnObject},
		{`{"stu_id":truth}`, notAnObject},
		{`{"stu_id":nul}`, notAnObject},

		{`{}`, noField},
		{` null `, noField},
		{`{"a":1}`, noField},
		{`{"stu_id":null}`, noField},
		{`{"a":{"stu_id":101}}`, noField},

		{`{"stu_id":{}}`, noScalar},
		{`{"stu_id":[101]}`, noScalar},
		{`{"stu_id":1,"stu_id":{"a":1}}`, noScalar},
	} {
		code := CodeMissingShardKey
		if tt.want == notAnObject {
			code = CodeRowUndecodable
		}
		_, err := k.Hash([]byte(tt.row))
		var e *Error
		if !errors.As(err, &e) || e.Code != code || e.Message != tt.want {
			t.Errorf("Hash(%s): %v; want %v: %s", tt.row, err, code, tt.want)
		}
	}
}

func TestKeyHashValue(t *testing.T) {
	k := NewKeyField("stu_id")
	for value, row := range map[string]string{
		`101`:      `{"stu_id":101}`,
		` 1.01e2 `: `{"stu_id":101}`,
		`"101"`:    `{"stu_id":"101"}`,
		`true`:     `{"stu_id":true}`,
	} {
		want, err := k.Hash([]byte(row))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.HashValue([]byte(value)); err != nil || got != want {
			t.Errorf("HashValue(%s) = %#x, %v; want %#x", value, got, err, want)
		}
	}
	for value, want := range map[string]string{
		``:       `ROW_UNDECODABLE: the key "" is not JSON: write a number as 101, a string in double quotes`,
		`anna`:   `ROW_UNDECODABLE: the key "anna" is not JSON: write a number as 101, a string in double quotes`,
		`null`:   `MISSING_SHARD_KEY: ` + noField,
		`{"a":}`: `ROW_UNDECODABLE: the key "{\"a\":}" is not JSON: write a number as 101, a string in double quotes`,
		`[101]`:  `MISSING_SHARD_KEY: ` + noScalar,
	} {
		if _, err := k.HashValue([]byte(value)); err == nil || err.Error() != want {
			t.Errorf("HashValue(%s): %v; want %s", value, err, want)
		}
	}
}

func TestKeyFill(t *testing.T) {
	k := NewKeyField("stu_id")
	var c Columns
	for _, row := range []string{`{"stu_id":101}`, `{}`, `x`, `{"stu_id":"101"}`} {
		c.Append([]byte(row))
	}
	shared := c
	bad := k.Fill(&c)
	want := []RowOutcome{
		{Row: 1, Outcome: Dead, Code: CodeMissingShardKey, Reason: noField},
		{Row: 2, Outcome: Dead, Code: CodeRowUndecodable, Reason: notAnObject},
	}
	if fmt.Sprint(bad) != fmt.Sprint(want) {
		t.Errorf("bad = %v, want %v", bad, want)
	}
	if got, want := c.Keys, []uint64{number("101"), 0, 0, text("101")}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys = %v, want %v", got, want)
	}
	if shared.Keys != nil {
		t.Error("Fill wrote to columns that share its rows")
	}
}

// A space before a row changes nothing but the way in which its key is found.
func TestKeyHashByEitherWay(t *testing.T) {
	rest := []string{
		``, `,"stu_id":2`, `,"STU_id":2`, `,"stu_id":null`, `,"stu_i":2`, `,"stu_ids":2`, `,"a":"stu_id"`, `,"a":{"stu_id":2}`, `,"a":[2]`,
		`,"\u0073tu_id":2`, ",\"\u017ftu_id\":2", ",\"\u00e4\":2", `,"a":"\"stu_id\":2"`, `, "a" : "}" `, `,`, `,,`, ` `, `}`, `:1`, `2`,
	}
	values := []string{
		`101`, `0`, `007`, `-1`, `1.0`, `1e2`, `12345678901234567890123456789012`, `123456789012345678901234567890123`, `"anna"`, `""`, `"\u0061"`,
		"\"\u00e4\"", "\"\n\"", `true`, `null`, `{}`, `[1]`, `"`, ``,
	}
	for _, name := range []string{"stu_id", "s", "a name that has more bytes than are looked at together, which are sixty-four"} {
		k := NewKeyField(name)
		for _, value := range values {
			for _, last := range rest {
				pads := 2
				if value == `101` {
					pads = 75 // so that the name comes again wherever eight, and sixty-four, bytes end
				}
				for pad := range pads {
					row := `{"` + name + `":` + value
					if pad > 0 {
						row += `,"pad":"` + strings.Repeat("x", pad) + `"`
					}
					if row += strings.ReplaceAll(last, "stu_id", name) + `}`; pad > 0 && !json.Valid([]byte(row)) {
						continue // it may have a hash or not
					}
					got, err := k.Hash([]byte(row))
					want, wanted := k.Hash([]byte(" " + row))
					if got != want || CodeOf(err) != CodeOf(wanted) {
						t.Fatalf("Hash(%s) = %#x, %v; with a space before it %#x, %v", row, got, err, want, wanted)
					}
				}
			}
		}
	}
}

func TestKeyAllocates(t *testing.T) {
	k := NewKeyField("stu_id")
	for _, row := range []string{
		`{"stu_id":101,"score_1":100,"score_2":90}`, `{"a":{"b":["\""]},"Stu_Id":-1.50e3}`, `{"stu_id":"anna"}`, `{"stu_id":true}`, `{}`, `x`, `{"stu_id":[]}`,
	} {
		row := []byte(row)
		if n := testing.AllocsPerRun(10, func() { _, _ = k.Hash(row) }); n != 0 {
			t.Errorf("Hash(%s) allocates %v times", row, n)
		}
	}
}

// FuzzKey compares with encoding/json: a row that it decodes has the hash of what it decodes.
func FuzzKey(f *testing.F) {
	for _, row := range []string{
		`{"k":101,"score_1":100,"score_2":90}`, `{"k":"a\u00e9\ud83d\ude00"}`, `{"K":1.01e2,"k":null}`, `{"k":{"k":1},"k":false}`,
		`{"\u006b":-0.0,"a":[{}],"K":12e-7}`, "{\"k\":\"\xff\xc3\"}", "{\"\u212a\":\"kelvin\"}", ` null `, `{"k":123456789012345678901234567890123}`,
		`{"a":"\\","k":"\\\""}`, `{"k":1e-99999999999999999999}`, `{"":0,"k":""}`, `{"a":[1,[2,"]"]],"k" : 0e5 }`,
	} {
		f.Add([]byte(row), "k")
	}
	f.Add([]byte(`{"\u5f20":"张"}`), "张")
	f.Add([]byte(`{"STU_ID":3}`), "ſtu_id")
	f.Fuzz(func(t *testing.T, row []byte, name string) {
		if !isFieldName(name) {
			t.Skip("no field of a Go struct can have this name, so there is nothing to compare with")
		}
		k := NewKeyField(name)
		got, err := k.Hash(row)

		want, decodes := reference(t, row, name)
		if !decodes {
			return // any error, or a hash, as long as nothing panics
		}
		switch want := want.(type) {
		case nil:
			if CodeOf(err) != CodeMissingShardKey {
				t.Fatalf("Hash(%q) = %#x, %v; want %v", row, got, err, CodeMissingShardKey)
			}
			return
		case uint64:
			if err != nil || got != want {
				t.Fatalf("Hash(%q) = %#x, %v; want %#x", row, got, err, want)
			}
		}
		value, _ := decodeField(row, name)
		if again, err := k.HashValue(value); err != nil || again != got {
			t.Fatalf("HashValue of what encoding/json makes of %q = %#x, %v; want %#x", row, again, err, got)
		}
	})
}

// lastValue is a plain field: what JSON puts into it stays until something other than null comes.
type lastValue struct{ raw []byte }

func (v *lastValue) UnmarshalJSON(raw []byte) error {
	if string(raw) != "null" {
		v.raw = bytes.Clone(raw)
	}
	return nil
}

// decodeField has encoding/json decode a row into a struct with one field of that name. What the field gets is nil for
// nothing; false if encoding/json refuses the row.
func decodeField(row []byte, name string) (raw []byte, decodes bool) {
	v := reflect.New(structOf(name))
	if json.Unmarshal(row, v.Interface()) != nil {
		return nil, false
	}
	return v.Elem().Field(0).Interface().(lastValue).raw, true
}

func structOf(name string) reflect.Type {
	return reflect.StructOf([]reflect.StructField{{
		Name: "K", Type: reflect.TypeFor[lastValue](), Tag: reflect.StructTag(`json:` + strconv.Quote(name+",")),
	}})
}

// isFieldName reports whether encoding/json takes the name from a struct's tag.
func isFieldName(name string) bool {
	if len(name) == 0 || len(name) > 12 || name == "K" {
		return false
	}
	row, err := json.Marshal(reflect.New(structOf(name)).Elem().Interface())
	var fields map[string]any
	if err != nil || json.Unmarshal(row, &fields) != nil {
		return false
	}
	_, ok := fields[name]
	return ok
}

// reference is the hash by way of encoding/json, nil for no key; false if encoding/json refuses the row.
func reference(t *testing.T, row []byte, name string) (any, bool) {
	t.Helper()
	raw, decodes := decodeField(row, name)
	if !decodes || raw == nil {
		return nil, decodes
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	switch v := v.(type) {
	case string:
		return text(v), true
	case bool:
		return number(fmt.Sprint(v)), true
	case json.Number:
		return number(canonical(t, v.String())), true
	}
	return nil, true
}

// canonical is the documented text of a number, by way of math/big.
func canonical(t *testing.T, s string) string {
	t.Helper()
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	e, ok := new(big.Int).SetString("0"+strings.TrimLeft(exponent, "+-"), 10)
	if !ok {
		t.Fatalf("no exponent in %s", s)
	}
	if strings.HasPrefix(exponent, "-") {
		e.Neg(e)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	e.Sub(e, big.NewInt(int64(len(fraction))))
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		t.Fatalf("no number in %s", s)
	}
	if n.Sign() == 0 {
		return "0"
	}
	digits := n.String()
	trimmed := strings.TrimRight(digits, "0")
	e.Add(e, big.NewInt(int64(len(digits)-len(trimmed))))
	digits = trimmed
	sign, unsigned := "", strings.TrimPrefix(digits, "-")
	if unsigned != digits {
		sign = "-"
	}
	magnitude := new(big.Int).Add(e, big.NewInt(int64(len(unsigned))))
	limit := big.NewInt(1 << 58)
	switch {
	case magnitude.Cmp(limit) >= 0:
		return sign + "huge"
	case magnitude.Cmp(limit.Neg(limit)) <= 0:
		return sign + "tiny"
	case e.Sign() >= 0 && magnitude.Cmp(big.NewInt(32)) <= 0:
		return sign + unsigned + strings.Repeat("0", int(e.Int64()))
	}
	return fmt.Sprintf("%s%se%d", sign, unsigned, e)
}

func BenchmarkKey(b *testing.B) {
	k := NewKeyField("stu_id")
	for name, row := range map[string]string{
		"41-bytes":      `{"stu_id":101,"score_1":100,"score_2":90}`,
		"41-bytes-last": `{"score_1":100,"score_2":90,"stu_id":101}`,
		"string":        `{"stu_id":"7c9e6679-7425-40de-944b","s":90}`,
		"float":         `{"stu_id":101.50,"score_1":10,"score_2":9}`,
		"escaped":       `{"stu_id":"\u5f20\u4e09","score_1":10,"s":9}`,
		"mixed-case":    `{"Stu_Id":101,"score_1":100,"score_2":90}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			row := []byte(row)
			for b.Loop() {
				if _, err := k.Hash(row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
