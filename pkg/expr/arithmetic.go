package expr

import (
	"math"
	"math/bits"
)

// maxExact is 2^53: a float holds every whole number up to it exactly.
const maxExact = 1 << 53

// exactFloat converts a whole number to a float. ok is false if no float is the same number.
func exactFloat(n int64) (f float64, ok bool) {
	f = float64(n)
	if -maxExact <= n && n <= maxExact {
		return f, true
	}
	return f, f < math.MaxInt64 && int64(f) == n
}

// exactInt converts a float to a whole number. ok is false if it has a fraction or is outside of 64 bits.
func exactInt(f float64) (n int64, ok bool) {
	if f < math.MinInt64 || f >= math.MaxInt64 || f != math.Trunc(f) {
		return 0, false
	}
	return int64(f), true
}

// finite reports whether a float is a number.
func finite(f float64) bool { return math.Abs(f) <= math.MaxFloat64 }

// addInt adds whole numbers. ok is false if the sum is outside of 64 bits.
func addInt(a, b int64) (sum int64, ok bool) {
	sum = a + b
	return sum, (sum > a) == (b > 0)
}

// subInt subtracts whole numbers. ok is false if the difference is outside of 64 bits.
func subInt(a, b int64) (difference int64, ok bool) {
	difference = a - b
	return difference, (difference < a) == (b > 0)
}

// mulInt multiplies whole numbers. ok is false if the product is outside of 64 bits.
func mulInt(a, b int64) (product int64, ok bool) {
	high, low := bits.Mul64(magnitude(a), magnitude(b))
	if (a < 0) != (b < 0) {
		return -int64(low), high == 0 && low <= 1<<63
	}
	return int64(low), high == 0 && low < 1<<63
}

// magnitude returns the absolute value.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// divInt divides whole numbers and rounds down. b is not 0. ok is false if the quotient is outside of 64 bits.
func divInt(a, b int64) (quotient int64, ok bool) {
	if a == math.MinInt64 && b == -1 {
		return 0, false
	}
	quotient = a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		quotient--
	}
	return quotient, true
}

// modInt returns the remainder of divInt, which has the sign of b. b is not 0.
func modInt(a, b int64) int64 {
	if b == -1 {
		return 0
	}
	rest := a % b
	if rest != 0 && (rest < 0) != (b < 0) {
		rest += b
	}
	return rest
}

// calculate carries out one of + - * / on two values of any kinds.
func (fr *Frame) calculate(at *operands, op byte, a, b Value) (Value, bool) {
	if a.kind == KindInt && b.kind == KindInt && op != '/' {
		n, ok := fr.calculateInts(&at.site, op, int64(a.bits), int64(b.bits))
		return IntValue(n), ok
	}
	if isNumber(a) && isNumber(b) {
		x, ok := fr.exact(&at.left, a)
		if !ok {
			return Value{}, false
		}
		y, ok := fr.exact(&at.right, b)
		if !ok {
			return Value{}, false
		}
		f, ok := fr.calculateFloats(&at.site, op, x, y)
		return floatValue(f), ok
	}
	switch {
	case op == '+' && a.kind == KindString && b.kind == KindString:
		return fr.concat(&at.site, a.text, b.text)
	case op == '+' && a.kind == KindList && b.kind == KindList:
		return fr.concatLists(&at.site, a, b)
	case op == '+' && a.kind == KindTime && b.kind == KindDuration:
		return fr.shift(&at.site, a, int64(b.bits))
	case op == '+' && a.kind == KindDuration && b.kind == KindTime:
		return fr.shift(&at.site, b, int64(a.bits))
	case op == '-' && a.kind == KindTime && b.kind == KindDuration:
		if int64(b.bits) == math.MinInt64 {
			return Value{}, fr.fail(&at.site, ReasonOverflow, "the duration is outside of 64 bits of nanoseconds")
		}
		return fr.shift(&at.site, a, -int64(b.bits))
	case op == '-' && a.kind == KindTime && b.kind == KindTime:
		return fr.between(&at.site, a, b)
	case (op == '+' || op == '-') && a.kind == KindDuration && b.kind == KindDuration,
		op == '*' && a.kind == KindDuration && b.kind == KindInt, op == '*' && a.kind == KindInt && b.kind == KindDuration:
		n, ok := fr.calculateInts(&at.site, op, int64(a.bits), int64(b.bits))
		return Value{kind: KindDuration, bits: uint64(n)}, ok
	case op == '/' && a.kind == KindDuration && b.kind == KindInt:
		if b.bits == 0 {
			return Value{}, fr.fail(&at.site, ReasonZero, "divides by zero")
		}
		n, ok := divInt(int64(a.bits), int64(b.bits))
		if !ok {
			return Value{}, fr.fail(&at.site, ReasonOverflow, "the quotient is outside of 64 bits of nanoseconds")
		}
		return Value{kind: KindDuration, bits: uint64(n)}, true
	case op == '/' && a.kind == KindDuration && b.kind == KindDuration:
		f, ok := fr.calculateFloats(&at.site, op, float64(int64(a.bits)), float64(int64(b.bits)))
		return floatValue(f), ok
	}
	want := operatorWants[op]
	switch {
	case a.kind == KindMissing || a.kind == KindNull || a.kind == KindNumber || !canCalculate(a.kind):
		return Value{}, fr.failKind(&at.left, a.kind, want)
	case b.kind == KindMissing || b.kind == KindNull || b.kind == KindNumber || !canCalculate(b.kind):
		return Value{}, fr.failKind(&at.right, b.kind, want)
	}
	return Value{}, fr.fail(&at.site, ReasonType, "can't have "+withArticle(a.kind)+" on the left of "+string(op)+" and "+withArticle(b.kind)+" on the right")
}

// calculateWhole does the same as calculate for two whole numbers.
func (fr *Frame) calculateWhole(at *operands, op byte, a, b int64) (Value, bool) {
	switch {
	case op != '/':
		n, ok := fr.calculateInts(&at.site, op, a, b)
		return IntValue(n), ok
	case b != 0 && -maxExact <= a && a <= maxExact && -maxExact <= b && b <= maxExact:
		return floatValue(float64(a) / float64(b)), true
	}
	return fr.calculate(at, op, IntValue(a), IntValue(b))
}

// operatorWants says which values an operator takes.
var operatorWants = map[byte]string{'+': "a number, a string, a list, a time or a duration", '-': "a number, a time or a duration", '*': "a number or a duration", '/': "a number or a duration"}

// canCalculate reports whether any operator of arithmetic takes values of the kind.
func canCalculate(k Kind) bool { return k >= KindInt && k <= KindList }

// isNumber reports whether a value is an int or a float.
func isNumber(v Value) bool { return v.kind == KindInt || v.kind == KindFloat }

// exact returns an int or a float as a float that is the same number.
func (fr *Frame) exact(at *site, v Value) (float64, bool) {
	if v.kind == KindInt {
		f, ok := exactFloat(int64(v.bits))
		return f, ok || fr.fail(at, ReasonLossy, "is an int that a float can't hold exactly: write div(a, b) or round(a) to stay with ints")
	}
	return math.Float64frombits(v.bits), true
}

// calculateInts carries out + - * on whole numbers.
func (fr *Frame) calculateInts(at *site, op byte, a, b int64) (n int64, ok bool) {
	switch op {
	case '+':
		n, ok = addInt(a, b)
	case '-':
		n, ok = subInt(a, b)
	default:
		n, ok = mulInt(a, b)
	}
	if !ok {
		return 0, fr.failInt(at, op)
	}
	return n, true
}

// failInt notes that a whole number is outside of 64 bits.
func (fr *Frame) failInt(at *site, op byte) bool {
	return fr.fail(at, ReasonOverflow, "the "+resultNames[op]+" of two ints is outside of 64 bits: write float(a) to calculate with floats")
}

// resultNames are the names of an operator's result.
var resultNames = map[byte]string{'+': "sum", '-': "difference", '*': "product", '/': "quotient"}

// calculateFloats carries out + - * / on floats. The conversions keep the compiler from fusing a multiplication and an addition, which would give
// other digits on some processors.
func (fr *Frame) calculateFloats(at *site, op byte, a, b float64) (f float64, ok bool) {
	switch op {
	case '+':
		f = float64(a + b)
	case '-':
		f = float64(a - b)
	case '*':
		f = float64(a * b)
	default:
		if b == 0 {
			return 0, fr.fail(at, ReasonZero, "divides by zero")
		}
		f = float64(a / b)
	}
	if !finite(f) {
		return 0, fr.fail(at, ReasonOverflow, "the "+resultNames[op]+" of two floats is too large for a float")
	}
	return f, true
}

// concat puts two texts behind one another.
func (fr *Frame) concat(at *site, a, b string) (Value, bool) {
	switch {
	case a == "":
		return StringValue(b), true
	case b == "":
		return StringValue(a), true
	}
	n := len(a) + len(b)
	if !fr.spend(at, int64(n/16)) || !fr.grow(at, int64(n)) {
		return Value{}, false
	}
	t := fr.room(n)
	from := t.Len()
	t.WriteString(a)
	t.WriteString(b)
	return StringValue(t.String()[from:]), true
}

// concatLists puts two lists behind one another.
func (fr *Frame) concatLists(at *site, a, b Value) (Value, bool) {
	n := len(a.Elements()) + len(b.Elements())
	if !fr.spend(at, int64(n)) || !fr.grow(at, int64(n)*valueSize) {
		return Value{}, false
	}
	return ListValue(append(append(fr.list(n), a.Elements()...), b.Elements()...)), true
}
