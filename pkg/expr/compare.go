package expr

import (
	"cmp"
	"math"
	"strings"
)

// maxNesting is the deepest nesting of a value that is compared, read or written.
const maxNesting = 200

// compareNumbers compares two numbers as numbers, whatever their kinds are, and loses no digit.
func compareNumbers(a, b Value) int {
	switch {
	case a.kind == KindInt && b.kind == KindInt:
		return cmp.Compare(int64(a.bits), int64(b.bits))
	case a.kind == KindInt:
		return compareIntFloat(int64(a.bits), math.Float64frombits(b.bits))
	case b.kind == KindInt:
		return -compareIntFloat(int64(b.bits), math.Float64frombits(a.bits))
	}
	return cmp.Compare(math.Float64frombits(a.bits), math.Float64frombits(b.bits))
}

// compareIntFloat compares a whole number with a float. It returns -1, 0 or 1.
func compareIntFloat(n int64, f float64) int {
	switch {
	case f >= math.MaxInt64: // which is 2^63 as a float
		return -1
	case f < math.MinInt64:
		return 1
	}
	whole := math.Floor(f)
	if c := cmp.Compare(n, int64(whole)); c != 0 {
		return c
	}
	if f > whole {
		return -1
	}
	return 0
}

// compareTimes compares two times.
func compareTimes(a, b Value) int {
	if c := cmp.Compare(int64(a.bits), int64(b.bits)); c != 0 {
		return c
	}
	return cmp.Compare(a.nanos, b.nanos)
}

// order compares two values of kinds that have an order: numbers, strings, times, durations. It fails for others, and where the kinds differ.
func (fr *Frame) order(at *operands, a, b Value) (int, bool) {
	switch {
	case isNumber(a) && isNumber(b):
		return compareNumbers(a, b), true
	case a.kind == KindString && b.kind == KindString:
		return strings.Compare(a.text, b.text), fr.spend(&at.site, int64(min(len(a.text), len(b.text))/16))
	case a.kind == KindTime && b.kind == KindTime:
		return compareTimes(a, b), true
	case a.kind == KindDuration && b.kind == KindDuration:
		return cmp.Compare(int64(a.bits), int64(b.bits)), true
	case !hasOrder(a.kind):
		return 0, fr.failKind(&at.left, a.kind, "a number, a string, a time or a duration")
	case !hasOrder(b.kind):
		return 0, fr.failKind(&at.right, b.kind, "a number, a string, a time or a duration")
	}
	return 0, fr.fail(&at.site, ReasonType, "compares "+withArticle(a.kind)+" with "+withArticle(b.kind))
}

// hasOrder reports whether values of a kind can be smaller or greater than one another.
func hasOrder(k Kind) bool {
	return k == KindInt || k == KindFloat || k == KindString || k == KindTime || k == KindDuration
}

// same reports whether two values are equal, for == and !=. Values of kinds that are never equal are a failure, because such a comparison is a
// mistake of its author. So is an absent value: only a literal null compares with it.
func (fr *Frame) same(at *operands, a, b Value) (equal, ok bool) {
	switch {
	case a.Absent():
		return false, fr.failKind(&at.left, a.kind, "a value to compare")
	case b.Absent():
		return false, fr.failKind(&at.right, b.kind, "a value to compare")
	case a.kind == KindNumber:
		return false, fr.failKind(&at.left, a.kind, "a number to compare")
	case b.kind == KindNumber:
		return false, fr.failKind(&at.right, b.kind, "a number to compare")
	case a.kind != b.kind && !(isNumber(a) && isNumber(b)):
		return false, fr.fail(&at.site, ReasonType, "compares "+withArticle(a.kind)+" with "+withArticle(b.kind))
	}
	return fr.equal(&at.site, a, b, 0)
}

// equal reports whether two values are equal, as elements of lists are. Values of different kinds are not, except for numbers. It spends a step
// for each part. depth counts the values around them.
func (fr *Frame) equal(at *site, a, b Value, depth int) (equal, ok bool) {
	if depth > maxNesting {
		return false, fr.fail(at, ReasonBudget, "compares values that are nested too deep")
	}
	switch {
	case isNumber(a) && isNumber(b):
		return compareNumbers(a, b) == 0, true
	case a.kind != b.kind:
		return false, true
	}
	switch a.kind {
	case KindString, KindNumber:
		return a.text == b.text, fr.spend(at, int64(len(a.text)/16))
	case KindTime:
		return compareTimes(a, b) == 0, true
	case KindList, KindObject:
		x, y := a.parts, b.parts
		if len(x.values) != len(y.values) {
			return false, true
		}
		for i := range x.values {
			if a.kind == KindObject && x.keys[i] != y.keys[i] {
				return false, true
			}
			if !fr.spend(at, 1) {
				return false, false
			}
			if equal, ok := fr.equal(at, x.values[i], y.values[i], depth+1); !equal || !ok {
				return false, ok
			}
		}
		return true, true
	}
	return a.bits == b.bits, true
}
