package flowexec_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// The types below have methods of every kind: for values and for pointers, as text and as JSON, on every kind of value.

type (
	textLevel  int
	jsonLevel  string
	ptrText    string
	ptrNumber  int
	ptrJSON    struct{ A, B int }
	bothWays   struct{ N int }
	namedBytes []byte
	namedText  string
	holds      struct {
		S string             `json:"s"`
		P *int               `json:"p"`
		L []string           `json:"l"`
		M map[string]float64 `json:"m"`
		T time.Time          `json:"t"`
		B *big.Int           `json:"b"`
		D time.Duration      `json:"d"`
		Inner
		Y []byte    `json:"y"`
		A [2]uint16 `json:"a"`
		V textLevel `json:"v"`
		J jsonLevel `json:"j"`
		I any       `json:"i"`
	}
	// Inner is embedded.
	Inner    struct{ X, Y2 int }
	promoted struct {
		time.Time
		X int
	}
	lossy struct {
		N big.Int `json:"n"`
	}
	unset struct {
		*inner
		X int
	}
	inner  struct{ A int }
	doubly struct {
		P **int  `json:"p"`
		S *[]int `json:"s"`
	}
)

func (l textLevel) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "level %d", int(l)), nil }
func (l *textLevel) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "level %d", (*int)(l))
	return err
}

func (l jsonLevel) MarshalJSON() ([]byte, error) { return json.Marshal("level " + string(l)) }
func (l *jsonLevel) UnmarshalJSON(text []byte) error {
	var s string
	err := json.Unmarshal(text, &s)
	rest, ok := strings.CutPrefix(s, "level ")
	if *l = jsonLevel(rest); err == nil && !ok {
		err = errors.New("it is no level")
	}
	return err
}

func (p *ptrText) MarshalText() ([]byte, error) { return []byte("p:" + string(*p)), nil }
func (p *ptrText) UnmarshalText(text []byte) error {
	rest, ok := strings.CutPrefix(string(text), "p:")
	if *p = ptrText(rest); !ok {
		return errors.New("it is no p")
	}
	return nil
}

func (p *ptrNumber) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "#%d", int(*p)), nil }
func (p *ptrNumber) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "#%d", (*int)(p))
	return err
}

func (p *ptrJSON) MarshalJSON() ([]byte, error) { return json.Marshal([]int{p.A, p.B}) }
func (p *ptrJSON) UnmarshalJSON(text []byte) error {
	var both [2]int
	err := json.Unmarshal(text, &both)
	p.A, p.B = both[0], both[1]
	return err
}

func (b bothWays) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d", b.N), nil }
func (b bothWays) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `{"n":%d}`, b.N), nil }
func (b *bothWays) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "%d", &b.N)
	return err
}

func (b *bothWays) UnmarshalJSON(text []byte) error {
	_, err := fmt.Sscanf(string(text), `{"n":%d}`, &b.N)
	return err
}

var aText = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
	"", "123", "null", "true", "1e3", "-0", "{}", "[1,2]", `"x"`, `"`, `"a\u003c"`, " 7 ", "<&>", "\\ufffd", "�", "\xff", "aGk=", "level 3", "p:x", "a\x00b",
}))

// same is how values of most types are compared.
func same[T any](a, b T) bool { return reflect.DeepEqual(a, b) }

// carry saves values of a type, and loads them into it: as a function does, and as a document says for a later function. Each comes back
// equal, or is refused where refused says so.
func carry[T any](t *testing.T, values *rapid.Generator[T], equal func(a, b T) bool, refused func(T) bool, otherwise func(T) bool) {
	type holder struct {
		F T `json:"f"`
	}
	name := reflect.TypeFor[T]().String()
	t.Run(name, func(t *testing.T) {
		var value T
		var got []T
		keep := kis.Save(func(_ context.Context, w kis.Writer, i in) error { w.Set(i.K, "f", value); return nil })
		byFunction := local(t, chain("", "keep Save", "get Load"), func(r *kis.Registry) {
			r.Func("keep", keep)
			r.Func("get", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, h *holder) (in, error) {
				got = append(got, h.F)
				return i, nil
			}))
		})
		declared := local(t, chain("", "keep Save", `get Load; load: {key: "{k}", set: {f: f}}`, "pass Verify", "look Verify"), func(r *kis.Registry) {
			r.Func("keep", keep)
			r.Func("pass", kis.Verify(func(context.Context, in) error { return nil }))
			r.Func("look", kis.Verify(func(_ context.Context, h holder) error { got = append(got, h.F); return nil }))
		})
		rapid.Check(t, func(r *rapid.T) {
			value = values.Draw(r, "value")
			for way, l := range map[string]*flowexec.Local{"a Load": byFunction, "a declared Load": declared} {
				if l == declared && otherwise != nil && otherwise(value) {
					continue
				}
				got = nil
				result, err := l.Submit(context.Background(), "F", batch.Rows(in{K: "k"}))
				if err != nil {
					r.Fatal(err)
				}
				if len(result.NotDone) > 0 {
					if o := result.NotDone[0]; refused == nil || !refused(value) || o.Function != "keep" || !strings.Contains(o.Reason, "write field") {
						r.Fatalf("%s: %#v: %+v", way, value, o)
					}
				} else if refused != nil && refused(value) {
					r.Fatalf("%s: %#v was saved, and comes back as %#v", way, value, got)
				} else if len(got) != 1 || !equal(got[0], value) {
					r.Fatalf("%s: %#v comes back as %#v", way, value, got)
				}
			}
		})
	})
}

func noUTF8[T ~string | ~[]byte](v T) bool { return !utf8.ValidString(string(v)) }

// What Writer.Set wrote, a Load reads into the same type as an equal value, or the Save refuses it.
func TestSavedValuesComeBack(t *testing.T) {
	carry(t, aText, same[string], nil, noUTF8[string])
	carry(t, rapid.Map(aText, func(s string) namedText { return namedText(s) }), same[namedText], nil, noUTF8[namedText])
	carry(t, rapid.Map(aText, func(s string) []byte { return []byte(s) }), bytes.Equal, nil, func(b []byte) bool {
		decoded, err := base64.StdEncoding.DecodeString(string(b)) // which a declared Save may have stored
		return err == nil && base64.StdEncoding.EncodeToString(decoded) == string(b)
	})
	carry(t, rapid.Map(aText, func(s string) namedBytes { return namedBytes(s) }), same[namedBytes], nil, nil)
	carry(t, rapid.Int(), same[int], nil, nil)
	carry(t, rapid.Int8(), same[int8], nil, nil)
	carry(t, rapid.Uint64(), same[uint64], nil, nil)
	carry(t, rapid.Map(rapid.Uint32(), func(n uint32) uintptr { return uintptr(n) }), same[uintptr], nil, nil)
	carry(t, rapid.Bool(), same[bool], nil, nil)
	float := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e21, 1e-7, 5e-324, 1 << 53, 9007199254740993}))
	isOdd := func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) }
	carry(t, float, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }, isOdd, nil)
	carry(t, rapid.Float32(), same[float32], nil, nil)
	carry(t, rapid.Ptr(float, true), same[*float64], func(f *float64) bool { return f == nil || isOdd(*f) }, nil)
	carry(t, rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) }), same[time.Duration], nil, nil)
	carry(t, rapid.SampledFrom([]json.Number{"1", "-1.50", "1e400", "12345678901234567890", "x", "1 "}), same[json.Number],
		func(n json.Number) bool { return n == "x" || n == "1 " }, nil)
	carry(t, rapid.SampledFrom([]json.RawMessage{json.RawMessage(`{"a":1}`), json.RawMessage(`"x"`), json.RawMessage(`null`), json.RawMessage(`{`)}),
		same[json.RawMessage], func(m json.RawMessage) bool { return string(m) == "{" }, nil)

	carry(t, rapid.Ptr(aText, true), same[*string], func(s *string) bool { return s == nil || noUTF8(*s) }, nil)
	carry(t, rapid.Ptr(rapid.Ptr(aText, true), true), same[**string], func(s **string) bool { return s == nil || *s == nil || noUTF8(**s) }, nil)
	carry(t, rapid.Ptr(rapid.Map(aText, func(s string) namedText { return namedText(s) }), true), same[*namedText],
		func(s *namedText) bool { return s == nil || noUTF8(*s) }, nil)
	carry(t, rapid.Ptr(rapid.Int(), true), same[*int], func(n *int) bool { return n == nil }, nil)
	carry(t, rapid.Ptr(rapid.Bool(), true), same[*bool], func(b *bool) bool { return b == nil }, nil)
	carry(t, rapid.Ptr(rapid.Map(aText, func(s string) []byte { return []byte(s) }), true), same[*[]byte], func(b *[]byte) bool { return b == nil }, nil)
	carry(t, rapid.Ptr(rapid.SampledFrom([][]int{nil, {}, {1, 2}}), true), same[*[]int], func(l *[]int) bool { return l == nil || *l == nil }, nil)

	moment := rapid.Custom(func(r *rapid.T) time.Time {
		at := time.Unix(rapid.Int64Range(-1<<33, 1<<36).Draw(r, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(r, "nanoseconds"))
		return rapid.SampledFrom([]time.Time{at, at.UTC(), at.In(time.FixedZone("", 5400)), {}}).Draw(r, "time")
	})
	carry(t, moment, time.Time.Equal, nil, nil)
	carry(t, rapid.Ptr(moment, true), func(a, b *time.Time) bool { return a.Equal(*b) }, func(at *time.Time) bool { return at == nil }, nil)
	whole := rapid.Map(rapid.Int64(), func(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(n)) })
	carry(t, rapid.OneOf(whole, rapid.Just[*big.Int](nil), rapid.Just(new(big.Int))), func(a, b *big.Int) bool { return a.Cmp(b) == 0 },
		func(n *big.Int) bool { return n == nil }, nil)
	carry(t, rapid.Map(whole, func(n *big.Int) big.Int { return *n }), func(a, b big.Int) bool { return a.Cmp(&b) == 0 }, func(big.Int) bool { return true }, nil)
	carry(t, rapid.Map(whole, func(n *big.Int) *big.Rat { return big.NewRat(1, 1).SetFrac(n, big.NewInt(7)) }), func(a, b *big.Rat) bool { return a.Cmp(b) == 0 }, nil, nil)
	// Its own methods write the digits that its precision needs, and read them with 64 bits.
	carry(t, rapid.Map(rapid.Int32(), func(n int32) *big.Float { return big.NewFloat(float64(n) / 8) }), func(a, b *big.Float) bool { return a.Cmp(b) == 0 }, nil, nil)
	carry(t, rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("10.0.0.1"), {}}), same[netip.Addr], nil, nil)

	small := rapid.IntRange(-5, 5)
	carry(t, rapid.Map(small, func(n int) textLevel { return textLevel(n) }), same[textLevel], nil, nil)
	carry(t, rapid.Ptr(rapid.Map(small, func(n int) textLevel { return textLevel(n) }), true), same[*textLevel], func(l *textLevel) bool { return l == nil }, nil)
	plainText := rapid.SampledFrom([]string{"", "x", "12", "null", "p:", "#1", `"q"`, "level"})
	carry(t, rapid.Map(plainText, func(s string) jsonLevel { return jsonLevel(s) }), same[jsonLevel], nil, nil)
	carry(t, rapid.Ptr(rapid.Map(plainText, func(s string) jsonLevel { return jsonLevel(s) }), true), same[*jsonLevel], func(l *jsonLevel) bool { return l == nil }, nil)
	carry(t, rapid.Map(plainText, func(s string) ptrText { return ptrText(s) }), same[ptrText], nil, nil)
	carry(t, rapid.Ptr(rapid.Map(plainText, func(s string) ptrText { return ptrText(s) }), false), same[*ptrText], nil, nil)
	carry(t, rapid.Map(small, func(n int) ptrNumber { return ptrNumber(n) }), same[ptrNumber], nil, nil)
	carry(t, rapid.Ptr(rapid.Map(small, func(n int) ptrNumber { return ptrNumber(n) }), false), same[*ptrNumber], nil, nil)
	carry(t, rapid.Map(small, func(n int) ptrJSON { return ptrJSON{n, 1} }), same[ptrJSON], func(ptrJSON) bool { return true }, nil)
	carry(t, rapid.Map(small, func(n int) *ptrJSON { return &ptrJSON{n, 1} }), same[*ptrJSON], nil, nil)
	carry(t, rapid.Map(small, func(n int) bothWays { return bothWays{n} }), same[bothWays], nil, nil)
	carry(t, rapid.Map(small, func(n int) map[string]ptrJSON { return map[string]ptrJSON{"a": {n, 1}} }), same[map[string]ptrJSON], func(map[string]ptrJSON) bool { return true }, nil)
	carry(t, rapid.Map(small, func(n int) []ptrJSON { return []ptrJSON{{n, 1}} }), same[[]ptrJSON], nil, nil)

	carry(t, rapid.SliceOf(aText), same[[]string], func(l []string) bool { return slices.ContainsFunc(l, noUTF8[string]) }, nil)
	carry(t, rapid.MapOf(aText, rapid.Int()), same[map[string]int], func(m map[string]int) bool {
		for key := range m {
			if noUTF8(key) {
				return true
			}
		}
		return false
	}, nil)
	carry(t, rapid.MapOf(rapid.Int(), rapid.String()), same[map[int]string], nil, nil)
	carry(t, rapid.Map(small, func(n int) [2]byte { return [2]byte{byte(n), 7} }), same[[2]byte], nil, nil)
	carry(t, rapid.Map(small, func(n int) map[string]*big.Int { return map[string]*big.Int{"a": big.NewInt(int64(n)), "none": nil} }),
		func(a, b map[string]*big.Int) bool { return a["a"].Cmp(b["a"]) == 0 && b["none"] == nil }, nil, nil)
	carry(t, rapid.Custom(func(r *rapid.T) holds {
		return holds{
			S: aText.Draw(r, "s"), P: rapid.Ptr(small, true).Draw(r, "p"), L: rapid.SampledFrom([][]string{nil, {}, {"a"}}).Draw(r, "l"),
			M: rapid.SampledFrom([]map[string]float64{nil, {}, {"a": 0.1}}).Draw(r, "m"), T: time.Unix(int64(small.Draw(r, "t")), 5).UTC(),
			B: big.NewInt(7), D: 5, Inner: Inner{X: small.Draw(r, "x")}, Y: []byte("hi"), A: [2]uint16{1, 2}, V: 3, J: "<",
			I: rapid.SampledFrom([]any{nil, "12", 1.5, true, []any{"a", 1.0}, map[string]any{"a": nil}}).Draw(r, "i"),
		}
	}), same[holds], func(h holds) bool { return noUTF8(h.S) }, nil)
	carry(t, rapid.Map(small, func(n int) promoted { return promoted{time.Unix(5, 0).UTC(), n} }), same[promoted], func(p promoted) bool { return p.X != 0 }, nil)
	carry(t, rapid.Map(small, func(n int) lossy { return lossy{*big.NewInt(int64(n))} }), same[lossy], func(lossy) bool { return true }, nil)
	carry(t, rapid.Map(small, func(n int) *lossy { return &lossy{*big.NewInt(int64(n))} }), func(a, b *lossy) bool { return a.N.Cmp(&b.N) == 0 }, nil, nil)
	carry(t, rapid.SampledFrom([]unset{{X: 1}, {&inner{2}, 1}}), same[unset], func(u unset) bool { return u.inner != nil }, nil)
	carry(t, rapid.Custom(func(r *rapid.T) doubly {
		return doubly{rapid.Ptr(rapid.Ptr(small, true), true).Draw(r, "p"), rapid.Ptr(rapid.SampledFrom([][]int{nil, {1}}), true).Draw(r, "s")}
	}), same[doubly], func(d doubly) bool { return d.P != nil && *d.P == nil || d.S != nil && *d.S == nil }, nil)
}

// Saved fields are read by the names that encoding/json has for a type's fields, wherever these lie.
func TestLoadFindsFields(t *testing.T) {
	type tagged struct {
		Deep []byte `json:"deep"`
	}
	type Through struct {
		Far  *string `json:"far"`
		Both int     `json:"both"`
	}
	type saved struct {
		inner // a
		*Through
		N       int           `json:"n,string"`
		Folded  *big.Int      `json:"FOLDED"`
		Skipped string        `json:"-"`
		Own     time.Duration `json:"own,omitempty"`
		tagged  `json:"tagged"`
		both    int
	}
	far := "null"
	want := saved{inner: inner{1}, Through: &Through{&far, 2}, N: 3, Folded: big.NewInt(4), Own: 5, tagged: tagged{[]byte("hi")}}
	var got *saved
	l := local(t, chain("", "keep Save", "get Load"), func(r *kis.Registry) {
		r.Func("keep", kis.Save(func(_ context.Context, w kis.Writer, i in) error {
			for field, value := range map[string]any{"A": 1, "far": &far, "both": 2, "n": 3, "folded": want.Folded, "Skipped": "x", "-": "x", "own": want.Own, "tagged": want.tagged, "none": 1} {
				w.Set(i.K, field, value)
			}
			return nil
		}))
		r.Func("get", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, s *saved) (in, error) { got = s; return i, nil }))
	})
	expect(t, submit(t, l, row("k", 1)), `0 → {"k":"k","n":1}`)
	if !reflect.DeepEqual(*got, want) || got.both != 0 {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

// The first function that reads what a declared Load sets decides as what it is read; else the document does; else it is guessed.
func TestDeclaredLoadTypes(t *testing.T) {
	type text struct {
		V string `json:"v"`
	}
	type number struct {
		V json.Number `json:"v"`
	}
	type folded struct{ V string }
	type narrow struct {
		K string `json:"k"`
	}
	verify := func(name string) string { return name + " Verify" }
	registers := func(r *kis.Registry) {
		r.Func("narrow", kis.Verify(func(context.Context, narrow) error { return nil }))
		r.Func("any", kis.Verify(func(context.Context, map[string]any) error { return nil }))
		r.Func("raw", kis.Verify(func(context.Context, json.RawMessage) error { return nil }))
		r.Func("text", kis.Verify(func(context.Context, text) error { return nil }))
		r.Func("folded", kis.Verify(func(context.Context, *folded) error { return nil }))
		r.Func("texts", kis.Verify(func(context.Context, map[string]string) error { return nil }))
		r.Func("number", kis.Verify(func(context.Context, number) error { return nil }))
		r.Func("int", kis.Verify(func(context.Context, struct{ V int }) error { return nil }))
		r.Func("quoted", kis.Verify(func(context.Context, struct {
			V int `json:"v,string"`
		}) error {
			return nil
		}))
		r.FaaS("faas", func(_ context.Context, flow kis.Flow, rows []*text) error { return flow.Next(kis.ActionDataReuse) })
		r.FaaS("reuses", func(_ context.Context, flow kis.Flow, _ []*narrow) error { return flow.Next(kis.ActionDataReuse) })
		r.Func("map", kis.Calculate(func(_ context.Context, m map[string]any) (map[string]any, error) { return m, nil }))
		r.Func("drops", kis.Calculate(func(_ context.Context, n narrow) (narrow, error) { return n, nil }))
		r.Func("twoStep", kis.Verify(func(ctx context.Context, n narrow) error { return kis.Jump("text") }))
	}
	for _, test := range []struct {
		stored, types string
		steps         []string
		want          string // of v; empty: the row is dead
	}{
		{"12345", "", []string{"narrow", "text"}, `"12345"`},
		{"null", "", []string{"narrow", "any", "raw", "folded"}, `"null"`},
		{"true", "", []string{"any", "texts"}, `"true"`},
		{"12345", "", []string{"narrow", "faas"}, `"12345"`},
		{"12345", "", []string{"narrow", "int"}, `12345`},
		{"12345", "", []string{"reuses", "text"}, `"12345"`},
		{"null", "", []string{"map", "narrow", "text"}, `"null"`},
		{"12345", "", []string{"narrow", "number"}, `12345`},
		{"12345", "", []string{"number", "int"}, `12345`},
		{"12345", "", []string{"quoted"}, `"12345"`},
		{"x", "", []string{"narrow", "int"}, ``},
		{"12345", "", []string{"narrow", "any"}, `12345`},
		{"12345", "", []string{"narrow", "drops", "narrow"}, `absent`},
		{"12345", "", []string{"twoStep", "int", "text"}, `12345`}, // jumps are not looked at: the int decides, and the text is dead
		{"12345", "{v: int}", []string{"narrow", "text"}, `"12345"`},
		{"12345", "{v: string}", []string{"narrow", "any"}, `"12345"`},
		{"null", "{v: string}", []string{"narrow"}, `"null"`},
		{"1.50", "{v: float}", nil, `1.50`},
		{"1.5", "{v: int}", nil, ``},
		{"1e3", "{v: int}", nil, ``},
		{"12345678901234567890123", "{v: int}", nil, `12345678901234567890123`},
		{"007", "{v: int}", nil, ``},
		{"x", "{v: float}", nil, ``},
		{"NaN", "{v: float}", nil, ``},
		{"true", "{v: bool}", nil, `true`},
		{"1", "{v: bool}", nil, ``},
		{`{"a": [1]}`, "{v: json}", nil, `{"a":[1]}`},
		{`{"a"`, "{v: json}", nil, ``},
		{"null", "{v: json}", nil, `null`},
		{"", "{v: int}", nil, ``},
		{"", "", nil, `""`},
		{"007", "", nil, `"007"`},
	} {
		t.Run(fmt.Sprint(test.stored, test.types, test.steps), func(t *testing.T) {
			load := `get Load; load: {key: "{k}", set: {v: f}`
			if test.types != "" {
				load += ", types: " + test.types
			}
			steps := []string{"keep Save", load + "}"}
			for _, step := range test.steps {
				if step == "drops" || step == "reuses" || step == "map" {
					steps = append(steps, step+" Calculate")
				} else {
					steps = append(steps, verify(step))
				}
			}
			l := local(t, chain("", steps...), func(r *kis.Registry) {
				r.Func("keep", kis.Save(func(_ context.Context, w kis.Writer, n narrow) error { w.Set(n.K, "f", test.stored); return nil }))
				registers(r)
			})
			result, err := l.Submit(t.Context(), "F", batch.Rows(`{"k":"k"}`))
			if err != nil {
				t.Fatal(err)
			}
			told := tell(result)
			switch {
			case test.want == "" || slices.Contains(test.steps, "twoStep"):
				if !strings.Contains(told, "dead CONVERSION_FAILED") && !strings.Contains(told, "dead ROW_UNDECODABLE") {
					t.Errorf("it is not dead:\n%s", told)
				}
			case test.want == "absent":
				expect(t, told, `0 → {"k":"k"}`)
			default:
				expect(t, told, `0 → {"k":"k","v":`+test.want+`}`)
			}
		})
	}
}

// A declared Load takes the place of a field that its name stands for, however the row spells it.
func TestDeclaredLoadHeedsCase(t *testing.T) {
	l := local(t, chain("", `keep Save; save: {key: "{k}", set: {f: k}}`, `get Load; load: {key: "{k}", set: {val: f, none: nothing}}`), func(*kis.Registry) {})
	expect(t, submit(t, l, `{"k":"k","VAL":"old","None":5}`, `{"k":"k","val":"old","VAL":"other"}`), `
		0 → {"k":"k","none":null,"val":"k"}
		1 → {"VAL":"other","k":"k","none":null,"val":"k"}`)
}

// A field of a key goes by its spelling, and by its value where the key says so.
func TestKeysByValue(t *testing.T) {
	for key, want := range map[string][]string{
		"{n}":         {"7", "7.0", "70e-1", "7", "1.50"},
		"{n:value}":   {"7", "7", "7", "7", "1.5"},
		"a{n:value}/": {"a7/", "a7/", "a7/", "a7/", "a1.5/"},
	} {
		store := newRecorder(t)
		l := local(t, chain("", `keep Save; save: {key: "`+key+`", set: {f: n}}`), func(*kis.Registry) {}, store.option())
		expect(t, submit(t, l, `{"n":7}`, `{"N":7.0}`, `{"n":70e-1}`, `{"n":"7"}`, `{"n":1.50}`, `{"n":null}`), `
			5 dead MISSING_FIELD keep: the key `+key+`: the row lacks the field n
			0 → {"n":7}
			1 → {"N":7.0}
			2 → {"n":70e-1}
			3 → {"n":"7"}
			4 → {"n":1.50}`)
		for i, key := range want {
			if effects := store.effects(0); !strings.Contains(effects, key+".f=") {
				t.Errorf("row %d: no effect has the key %s:\n%s", i, key, effects)
			}
		}
	}
	l := local(t, chain("", `keep Save; save: {key: "{n:value}", set: {f: n}}`), func(*kis.Registry) {})
	expect(t, submit(t, l, `{"n":{"a":1}}`), `
		0 dead MISSING_FIELD keep: the key {n:value}: the field n can't be in a key by its value: it is no string, number, true or false, as a key that goes by value must be`)
}
