package expr

import (
	"math"
	"testing"
)

// Pass gives a value, its JSON, or both: in each case the JSON of AppendJSON, with the same budget left.
func TestPass(t *testing.T) {
	for _, v := range []Value{
		Missing, Null, BoolValue(true), BoolValue(false), IntValue(0), IntValue(-1), IntValue(9), IntValue(10), IntValue(math.MaxInt64), IntValue(math.MinInt64),
		FloatValue(0), FloatValue(math.Copysign(0, -1)), FloatValue(2), FloatValue(-2), FloatValue(0.5), FloatValue(-0.5), FloatValue(-0.25), FloatValue(1234.75), FloatValue(0.1), FloatValue(1e-7),
		FloatValue(1 << 53), FloatValue(1<<53 - 1), FloatValue(-1 << 60), FloatValue(1e20), FloatValue(1e21), FloatValue(1<<48 - 0.25), FloatValue(1<<48 + 0.25), FloatValue(math.MaxFloat64), FloatValue(5e-324),
		FloatValue(math.Inf(1)), {kind: KindNumber, text: "123456789012345678901234567890"},
		StringValue(""), StringValue("plain text"), StringValue("é"), StringValue("a\"b"), StringValue("a\\b"), StringValue("\x7f"), StringValue("\xff"), StringValue("\u2028"),
		TimeValue(Value{}.Time()), DurationValue(3), ListValue([]Value{FloatValue(2), Null}), ObjectValue(map[string]Value{"a": IntValue(1)}),
	} {
		scope := NewScope(Names{})
		p, err := scope.Compile(Source{Text: "x"}, Any)
		if err != nil {
			t.Fatal(err)
		}
		written, passed := scope.NewFrame(Budget{}), scope.NewFrame(Budget{})
		written.Set(0, v)
		passed.Set(0, v)
		want, missing, wantErr := p.AppendJSON(nil, written)
		got, text, err := p.Pass(nil, passed)
		if wantErr != nil || err != nil {
			if wantErr == nil || err == nil || wantErr.Error() != err.Error() {
				t.Errorf("%v: Pass fails with %v, AppendJSON with %v", v, err, wantErr)
			}
			continue
		}
		if written.steps != passed.steps || written.bytes != passed.bytes {
			t.Errorf("%s: Pass leaves %d steps and %d bytes, AppendJSON %d and %d", want, passed.steps, passed.bytes, written.steps, written.bytes)
		}
		if missing {
			if got.kind != KindMissing || len(text) > 0 {
				t.Errorf("a missing value is passed as %v %s", got, text)
			}
			continue
		}
		if len(text) > 0 && string(text) != string(want) {
			t.Errorf("Pass writes %s, AppendJSON %s", text, want)
		}
		if got.kind == KindMissing {
			if len(text) == 0 {
				t.Errorf("%s is not passed at all", want)
			}
			continue
		}
		// The next expression finds the same value in either way.
		if err := scope.ReadField(written, 0, string(want)); err != nil {
			t.Fatal(err)
		}
		if err := scope.ReadValue(passed, 0, got); err != nil {
			t.Fatal(err)
		}
		if a, b := written.Get(0), passed.Get(0); a != b {
			t.Errorf("%s is read as %v, and passed as %v", want, a, b)
		}
	}
}

// ReadValue makes of a value what ReadField makes of its JSON, for each type that source.fields may declare.
func TestReadValueAsDeclared(t *testing.T) {
	for _, declared := range []Type{Any, Bool, Int, Float, String, Time, Duration, List(Any), Optional(Int), Optional(Float), Optional(Time), Optional(Duration)} {
		scope := NewScope(Names{Row: Object(Field{"x", declared})})
		if _, err := scope.Compile(Source{Text: "x ?? null"}, Any); err != nil {
			if _, err := scope.Compile(Source{Text: "x"}, Any); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range []Value{
			BoolValue(true), IntValue(7), IntValue(1<<53 + 1), FloatValue(2.5), FloatValue(0.1), StringValue("ab"), StringValue("2026-11-30T14:00:00Z"), StringValue("1h30m"),
		} {
			a, b := scope.NewFrame(Budget{}), scope.NewFrame(Budget{})
			text, err := a.AppendJSON(nil, v)
			if err != nil {
				t.Fatal(err)
			}
			readErr, passErr := scope.ReadField(a, 0, string(text)), scope.ReadValue(b, 0, v)
			if (readErr == nil) != (passErr == nil) || readErr != nil && readErr.Error() != passErr.Error() {
				t.Errorf("%s as %s: ReadField says %v, ReadValue %v", text, declared, readErr, passErr)
			} else if readErr == nil && a.Get(0) != b.Get(0) {
				t.Errorf("%s as %s: ReadField gives %v, ReadValue %v", text, declared, a.Get(0), b.Get(0))
			}
		}
	}
}

// PassField does as Pass does, or leaves the work to it.
func TestPassField(t *testing.T) {
	scope := NewScope(Names{})
	p, err := scope.Compile(Source{Text: "x"}, Any)
	if err != nil {
		t.Fatal(err)
	}
	other, err := scope.Compile(Source{Text: "x + 1"}, Any)
	if err != nil {
		t.Fatal(err)
	}
	values := []Value{Missing, Null, BoolValue(true), StringValue("a"), FloatValue(0), FloatValue(math.Copysign(0, -1)), FloatValue(3), FloatValue(2.5), FloatValue(-0.25), FloatValue(-1.75), FloatValue(0.1), FloatValue(1e300)}
	for n, i := int64(1), 0; i < 19; n, i = n*10, i+1 {
		values = append(values, IntValue(n), IntValue(n-1), IntValue(-n), IntValue(1-n))
	}
	taken := 0
	for _, v := range append(values, IntValue(math.MaxInt64), IntValue(math.MinInt64)) {
		for _, budget := range []Budget{{}, {Steps: 1}, {Bytes: 3}, {Steps: 2, Bytes: 12}} {
			a, b := scope.NewFrame(budget), scope.NewFrame(budget)
			a.Set(0, v)
			b.Set(0, v)
			if _, _, ok := other.PassField(a); ok {
				t.Fatal("an expression that is no field is taken for one")
			}
			kind, bits, ok := p.PassField(a)
			if !ok {
				if a.steps != b.steps || a.bytes != b.bytes {
					t.Errorf("%v: the budget is touched", v)
				}
				continue
			}
			taken++
			want, text, err := p.Pass(nil, b)
			if err != nil || len(text) > 0 || kind != want.kind || bits != want.bits || a.steps != b.steps || a.bytes != b.bytes {
				t.Errorf("%v: PassField gives %v %d, Pass %v %s %v; %d and %d steps, %d and %d bytes are left", v, kind, bits, want, text, err, a.steps, b.steps, a.bytes, b.bytes)
			}
		}
	}
	if taken < 100 {
		t.Errorf("only %d values were taken", taken)
	}
}
