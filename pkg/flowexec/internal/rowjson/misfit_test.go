package rowjson

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// misfitRow has fields of every kind that rows may have.
type misfitRow struct {
	Points  float64         `json:"points"`
	Small   int8            `json:"small"`
	Count   uint16          `json:"count"`
	Whole   int64           `json:"whole"`
	Half    float32         `json:"half"`
	Name    string          `json:"name"`
	Good    bool            `json:"good"`
	When    time.Time       `json:"when"`
	Number  json.Number     `json:"number"`
	Big     *big.Int        `json:"big"`
	Address netip.Addr      `json:"address"`
	Bytes   []byte          `json:"bytes"`
	Lines   []misfitLine    `json:"lines"`
	Pair    [2]int          `json:"pair"`
	Inner   *misfitLine     `json:"inner"`
	By      map[string]bool `json:"by"`
	ByID    map[int]string  `json:"by_id"`
	Text    int             `json:"text,string"`
	Grade   misfitGrade     `json:"grade"`
	Own     misfitOwn       `json:"own"`
	Raw     json.RawMessage `json:"raw"`
	Any     any             `json:"any"`
	Reader  interface{ Read() }
	Next    *misfitRow `json:"next"`
	misfitBase
}

// misfitLine is a nested struct; misfitBase is embedded.
type (
	misfitLine struct {
		Price float64 `json:"price"`
	}
	misfitBase struct {
		Base int `json:"base"`
	}
)

// misfitGrade reads itself from a text.
type misfitGrade struct{ grade string }

func (g *misfitGrade) UnmarshalText(text []byte) error {
	if g.grade = string(text); len(text) != 1 {
		return errors.New("a grade is one letter")
	}
	return nil
}

// misfitOwn reads itself from JSON, with the help of encoding/json.
type misfitOwn struct{ n int }

func (o *misfitOwn) UnmarshalJSON(text []byte) error {
	var inner struct {
		N int `json:"n"`
	}
	if string(text) == `"panic"` {
		panic("at the disco")
	}
	err := json.Unmarshal(text, &inner)
	o.n = inner.N
	return err
}

// goTypes matches words that only those know who know Go.
var goTypes = regexp.MustCompile(`misfit|int64|uint|float64|\bint\b|\[\]|map\[|\*|interface|struct|json:|unmarshal|Go |\bgo\b`)

func TestMisfits(t *testing.T) {
	codec := For(reflect.TypeFor[misfitRow]())
	for row, want := range map[string]string{
		`{"points":"secret"}`:                   "points must be a number, it is a string",
		`{"points":true}`:                       "points must be a number, it is true or false",
		`{"points":[1]}`:                        "points must be a number, it is an array",
		`{"points":1e400}`:                      "points must be a number that fits into 64 bits, it is too large",
		`{"half":1e40}`:                         "half must be a number that fits into 32 bits, it is too large",
		`{"POINTS":{}}`:                         "POINTS must be a number, it is an object",
		`{"points":1,"points":"x"}`:             "points must be a number, it is a string",
		`{"small":128}`:                         "small must be a whole number from -128 to 127, it is outside",
		`{"small":1.5}`:                         "small must be a whole number, it is a number with a fraction or an exponent",
		`{"small":"1"}`:                         "small must be a whole number, it is a string",
		`{"count":-1}`:                          "count must be a whole number from 0 to 65535, it is outside",
		`{"count":1e2}`:                         "count must be a whole number, it is a number with a fraction or an exponent",
		`{"whole":9223372036854775808}`:         "whole must be a whole number from -9223372036854775808 to 9223372036854775807, it is outside",
		`{"name":1}`:                            "name must be a string, it is a number",
		`{"name":{"a":1}}`:                      "name must be a string, it is an object",
		`{"good":"true"}`:                       "good must be true or false, it is a string",
		`{"good":1}`:                            "good must be true or false, it is a number",
		`{"when":"yesterday"}`:                  `when must be a time such as "2006-01-02T15:04:05Z", it is a string of another form`,
		`{"when":1700000000}`:                   `when must be a time such as "2006-01-02T15:04:05Z", it is a number`,
		`{"number":"x"}`:                        "number must be a number, it is a string",
		`{"number":true}`:                       "number must be a number, it is true or false",
		`{"big":1.5}`:                           "big must be a whole number, it is a number of another form",
		`{"address":"localhost"}`:               "address must be an IP address in a string, it is a string of another form",
		`{"address":7}`:                         "address must be an IP address in a string, it is a number",
		`{"bytes":"***"}`:                       "bytes must be base64 in a string, it is a string of another form",
		`{"bytes":{}}`:                          "bytes must be base64 in a string, it is an object",
		`{"lines":{}}`:                          "lines must be an array, it is an object",
		`{"lines":[{"price":1},{"price":"x"}]}`: "lines[1].price must be a number, it is a string",
		`{"lines":[7]}`:                         "lines[0] must be an object, it is a number",
		`{"pair":[1,"x"]}`:                      "pair[1] must be a whole number, it is a string",
		`{"inner":{"price":false}}`:             "inner.price must be a number, it is true or false",
		`{"inner":"x"}`:                         "inner must be an object, it is a string",
		`{"by":{"a":true,"b":"x"}}`:             "by.b must be true or false, it is a string",
		`{"by":{"a.b":3}}`:                      `by["a.b"] must be true or false, it is a number`,
		`{"by":[]}`:                             "by must be an object, it is an array",
		`{"by_id":{"x":"y"}}`:                   "each name in by_id must be a whole number that fits, it is another text",
		`{"by_id":{"1":2}}`:                     "by_id.1 must be a string, it is a number",
		`{"text":5}`:                            "text must be a whole number within a string, it is a number",
		`{"text":"x"}`:                          "text must be a whole number within a string, it is a string with something else",
		`{"grade":"AB"}`:                        "grade: a grade is one letter",
		`{"grade":5}`:                           "grade must be a string, it is a number",
		`{"own":{"n":"x"}}`:                     "own: n must be a whole number, it is a string",
		`{"own":"panic"}`:                       "own: reading it panicked: at the disco",
		`{"Reader":{}}`:                         "Reader must be left out, because the function has no way to read it, it is an object",
		`{"base":"x"}`:                          "base must be a whole number, it is a string",
		`{"next":{"next":{"name":5}}}`:          "next.next.name must be a string, it is a number",
		`[1]`:                                   "it must be an object, it is an array",
		`"x"`:                                   "it must be an object, it is a string",
		`7`:                                     "it must be an object, it is a number",
		` null `:                                "it must be an object, it is null",
		`{"points":`:                            "it is not JSON: unexpected end of JSON input",
		`{"points":}`:                           "it is not JSON: invalid character '}' looking for beginning of value",
		`{"by":{"` + strings.Repeat("n", 99) + `":0}}`: "by." + strings.Repeat("n", 60) + "… must be true or false, it is a number",
	} {
		var into misfitRow
		err := codec.Decode([]byte(row), unsafe.Pointer(&into))
		if err == nil {
			t.Errorf("%s was read, want: %s", row, want)
			continue
		}
		if err.Error() != want {
			t.Errorf("%s:\n%s\nwant:\n%s", row, err, want)
		}
		if text := strings.ReplaceAll(err.Error(), "[1]", ""); goTypes.MatchString(strings.ReplaceAll(text, "[0]", "")) {
			t.Errorf("%s: the reason has words of Go: %s", row, err)
		}
	}
}

// A row that nests deeply costs no more than its length, and still gets a reason without Go types.
func TestDeepMisfit(t *testing.T) {
	for _, levels := range []int{10, 40, 9000} {
		row := strings.Repeat(`{"next":`, levels) + `{"name":5}` + strings.Repeat("}", levels)
		err := For(reflect.TypeFor[misfitRow]()).Decode([]byte(row), unsafe.Pointer(new(misfitRow)))
		if err == nil || goTypes.MatchString(err.Error()) || !strings.HasSuffix(err.Error(), "name must be a string, it is a number") {
			t.Errorf("%d levels: %.200v", levels, err)
		}
	}
}

// Rows that can't be written say so without Go types.
func TestUnwritable(t *testing.T) {
	type channel struct{ C chan int }
	for want, value := range map[string]any{
		"JSON has no number NaN": big0 / big0,
		"it has a value, such as a channel or a function, that JSON can't hold": channel{},
		"its own code can't write it: no":                                       misfitUnwritable{},
	} {
		if _, err := AppendAny(nil, value); err == nil || err.Error() != want {
			t.Errorf("%T: %v, want %s", value, err, want)
		}
	}
}

var big0 float64

// misfitUnwritable has a MarshalJSON that fails.
type misfitUnwritable struct{}

func (misfitUnwritable) MarshalJSON() ([]byte, error) { return nil, errors.New("no") }
