package expr

import (
	"math"
)

// Pass evaluates the expression for a field of a row that another expression reads next. A value of which that expression would find the same if the
// row were written as JSON in between comes as v: an int, a float, a bool, or a text of printable ASCII. All others are appended to b as JSON, as
// AppendJSON does, and v is missing then. So is a float that takes long to write: it comes in both ways. A missing value is neither. Pass takes the
// same from the frame's budget as AppendJSON. The error is a *Failure; the bytes behind b mean nothing then.
func (p *Program) Pass(b []byte, fr *Frame) (v Value, out []byte, err error) {
	if !fr.start(p) {
		return Value{}, b, fr.failed()
	}
	var ok bool
	if p.operand.v != nil {
		v, ok = p.operand.v(fr)
	} else {
		v, ok = p.operand.value(fr)
	}
	if !ok {
		return Value{}, b, fr.failed()
	}
	bytes := 0
	switch v.kind {
	case KindMissing:
		return v, b, nil
	case KindInt:
		bytes = intLength(int64(v.bits))
	case KindBool:
		bytes = len("false") - int(v.bits)
	case KindString:
		if bytes = len(v.text); !isPlain(v.text) {
			return p.passJSON(b, fr, v)
		}
	case KindFloat:
		f := math.Float64frombits(v.bits)
		switch whole := math.Trunc(f); {
		case whole == f && math.Abs(f) < maxExact && (f != 0 || !math.Signbit(f)):
			v = IntValue(int64(f)) // which JSON makes of it
			bytes = intLength(int64(f))
		case whole == f && math.Abs(f) < 1e21:
			return p.passJSON(b, fr, v) // -0, or an int that may be beyond 64 bits
		case isQuarter(f):
			bytes = quarterLength(f)
		default:
			_, out, err = p.passJSON(b, fr, v)
			return v, out, err
		}
	default:
		return p.passJSON(b, fr, v)
	}
	if p.operand.i == nil && p.operand.f == nil { // AppendJSON counts general values alone
		if w := (writer{fr, p.site}); !w.count(bytes) {
			return Value{}, b, fr.failed()
		}
	}
	return v, b, nil
}

// PassField does the work of Pass for an expression that is no more than a field of any type, if its value is an int or an easy float: then it returns
// the kind of the value, and the number or the bits of the float. ok is false for other expressions and values, and if the budget is at its end: then Pass
// has to do the work.
func (p *Program) PassField(fr *Frame) (kind Kind, bits uint64, ok bool) {
	if !p.operand.readsAny() {
		return 0, 0, false
	}
	v := &fr.inputs[p.operand.input-1]
	bytes := int64(0)
	switch v.kind {
	case KindInt:
		bytes = int64(intLength(int64(v.bits)))
	case KindFloat:
		f := math.Float64frombits(v.bits)
		if f == math.Trunc(f) || !isQuarter(f) {
			return 0, 0, false
		}
		bytes = int64(quarterLength(f))
	default:
		return 0, 0, false
	}
	steps := p.cost + 1 + bytes/16
	if fr.steps < steps || fr.bytes < bytes {
		return 0, 0, false
	}
	fr.steps -= steps
	fr.bytes -= bytes
	return v.kind, v.bits, true
}

// passJSON appends a value as JSON.
func (p *Program) passJSON(b []byte, fr *Frame, v Value) (Value, []byte, error) {
	b, ok := appendJSON(b, v, &writer{fr, p.site})
	if !ok {
		return Value{}, b, fr.failed()
	}
	return Value{}, b, nil
}

// intLength returns the number of bytes of a whole number in JSON.
func intLength(n int64) int {
	length := 1
	if n < 0 {
		length = 2
	}
	m := magnitude(n)
	for m >= 10_000 {
		m /= 10_000
		length += 4
	}
	switch {
	case m >= 1000:
		return length + 3
	case m >= 100:
		return length + 2
	case m >= 10:
		return length + 1
	}
	return length
}

// quarterLength returns the number of bytes in JSON of a float for which isQuarter is true, and which has a fraction.
func quarterLength(f float64) int {
	whole := math.Trunc(f)
	bytes := intLength(int64(whole)) + len(".5")
	if math.Abs(f-whole) != 0.5 {
		bytes++
	}
	if f > -1 && f < 0 {
		bytes++ // -0.5 has a sign, and 0 has none
	}
	return bytes
}

// isQuarter reports whether a float with a fraction is a multiple of 1/4 which JSON gives without an exponent, with at most two digits behind the point.
func isQuarter(f float64) bool { return math.Abs(f) < 1<<48 && f*4 == math.Trunc(f*4) }

// isPlain reports whether a text has only printable ASCII, without double quotes and backslashes: JSON has it as it is.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// ReadValue does the same as ReadField for a value that Pass has returned in place of its JSON.
func (s *Scope) ReadValue(fr *Frame, i int, v Value) error {
	in := &fr.inputs[i]
	switch t := s.inputs[i].Type; {
	case t.kind != KindAny && t.kind != v.kind:
		r := reader{fr: fr, at: rowSite}
		fitted, ok := r.fit(v, t, fieldText(s.inputs[i].Name))
		if !ok {
			return fr.failed()
		}
		*in = fitted
	case in.kind == KindInt && v.kind == KindInt:
		in.bits = v.bits
	default:
		*in = v
	}
	return nil
}
