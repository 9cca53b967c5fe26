package expr

import (
	"fmt"
)

// canBeEqual reports whether values of two types can be equal.
func canBeEqual(a, b Type) bool {
	return a.kind == KindAny || b.kind == KindAny || a.kind == b.kind || a.number() && b.number() || a.holds() && b.holds()
}

// equality compiles == and !=.
func (c *compiler) equality(n *node) operand {
	left, right := c.compile(n.kids[0]), c.compile(n.kids[1])
	if anyBad(left, right) {
		return badOperand
	}
	negate := n.text == "!="
	for i, kid := range n.kids {
		other, text := []operand{right, left}[i], c.text(n.kids[1-i])
		if isMissing(kid) {
			not := "!"
			if negate {
				not = ""
			}
			return c.mistake(n, fmt.Sprintf("write %shas(%s), or %s %s null for both null and missing", not, text, text, n.text), "a value can't be compared with missing")
		}
		if isNull(kid) {
			get := other.general()
			return operand{kind: Bool, constant: constants(left, right), b: func(fr *Frame) (bool, bool) {
				v, ok := get(fr)
				return v.Absent() != negate, ok
			}}
		}
	}
	for i, o := range []operand{left, right} {
		if o.kind.optional {
			return c.absentMistake(n.kids[i], o.kind, "a value to compare")
		}
	}
	if !canBeEqual(left.kind, right.kind) {
		edit := conversionEdit(c.text(n.kids[1]), right.kind, left.kind)
		if left.kind.kind == KindString {
			edit = conversionEdit(c.text(n.kids[0]), left.kind, right.kind)
			if right.constant != nil {
				edit = conversionEdit(c.text(n.kids[1]), right.kind, left.kind)
			}
		}
		return c.mistake(n, edit, "%s is %s and %s is %s: they are never equal", c.text(n.kids[0]), typeText(left.kind), c.text(n.kids[1]), typeText(right.kind))
	}
	at := c.operands(n)
	o := operand{kind: Bool, constant: constants(left, right)}
	switch {
	case left.i != nil && right.i != nil:
		o.b = compareInts(left.i, right.i, func(x, y int64) bool { return (x == y) != negate })
	case left.b != nil && right.b != nil:
		a, b := left.b, right.b
		o.b = func(fr *Frame) (bool, bool) {
			x, ok := a(fr)
			if !ok {
				return false, false
			}
			y, ok := b(fr)
			return (x == y) != negate, ok
		}
	case left.kind.kind == KindString && right.constant != nil && right.constant.kind == KindString:
		get, text := left.v, right.constant.text
		o.b = func(fr *Frame) (bool, bool) {
			v, ok := get(fr)
			return (v.text == text) != negate, ok
		}
	default:
		o.b = compareValues(left.general(), right.general(), func(fr *Frame, x, y Value) (bool, bool) {
			equal, ok := fr.same(at, x, y)
			return equal != negate, ok
		})
	}
	return o
}

// ordering compiles < <= > and >=.
func (c *compiler) ordering(n *node) operand {
	left, right := c.compile(n.kids[0]), c.compile(n.kids[1])
	if anyBad(left, right) {
		return badOperand
	}
	for i, o := range []operand{left, right} {
		switch {
		case o.kind.optional:
			return c.absentMistake(n.kids[i], o.kind, "a value to compare")
		case o.kind.kind != KindAny && !hasOrder(o.kind.kind):
			return c.mistake(n, "", "%s is %s, and %s needs a number, a string, a time or a duration", c.text(n.kids[i]), typeText(o.kind), n.text)
		}
	}
	if !canBeEqual(left.kind, right.kind) {
		edit := conversionEdit(c.text(n.kids[1]), right.kind, left.kind)
		if left.kind.kind == KindString {
			edit = conversionEdit(c.text(n.kids[0]), left.kind, right.kind)
		}
		return c.mistake(n, edit, "%s can't compare %s with %s", n.text, typeText(left.kind), typeText(right.kind))
	}
	// A comparison is true for some of the results -1, 0 and 1.
	less, equal, greater := n.text[0] == '<', len(n.text) == 2, n.text[0] == '>'
	at := c.operands(n)
	o := operand{kind: Bool, constant: constants(left, right)}
	switch {
	case left.i != nil && right.i != nil:
		o.b = compareInts(left.i, right.i, map[string]func(x, y int64) bool{
			"<":  func(x, y int64) bool { return x < y },
			"<=": func(x, y int64) bool { return x <= y },
			">":  func(x, y int64) bool { return x > y },
			">=": func(x, y int64) bool { return x >= y },
		}[n.text])
		if x := right.constant; x != nil {
			o.b = boundInt(left.i, n.text, x.Int())
		} else if x := left.constant; x != nil {
			o.b = boundInt(right.i, map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}[n.text], x.Int())
		}
	case left.f != nil && right.f != nil:
		a, b := left.f, right.f
		o.b = func(fr *Frame) (bool, bool) {
			x, ok := a(fr)
			if !ok {
				return false, false
			}
			y, ok := b(fr)
			return x < y && less || x == y && equal || x > y && greater, ok
		}
	case left.readsAny() && right.constant != nil && right.constant.kind == KindInt:
		i, y := left.input-1, right.constant.Int()
		o.b = func(fr *Frame) (bool, bool) {
			v := &fr.inputs[i]
			if x := int64(v.bits); v.kind == KindInt {
				return x < y && less || x == y && equal || x > y && greater, true
			}
			c, ok := fr.order(at, *v, IntValue(y))
			return c < 0 && less || c == 0 && equal || c > 0 && greater, ok
		}
	case right.readsAny() && left.constant != nil && left.constant.kind == KindInt:
		x, j := left.constant.Int(), right.input-1
		o.b = func(fr *Frame) (bool, bool) {
			v := &fr.inputs[j]
			if y := int64(v.bits); v.kind == KindInt {
				return x < y && less || x == y && equal || x > y && greater, true
			}
			c, ok := fr.order(at, IntValue(x), *v)
			return c < 0 && less || c == 0 && equal || c > 0 && greater, ok
		}
	default:
		o.b = compareValues(left.general(), right.general(), func(fr *Frame, x, y Value) (bool, bool) {
			c, ok := fr.order(at, x, y)
			return c < 0 && less || c == 0 && equal || c > 0 && greater, ok
		})
	}
	return o
}

// compareInts returns a function that compares two whole numbers.
func compareInts(a, b intFunc, compare func(x, y int64) bool) boolFunc {
	return func(fr *Frame) (bool, bool) {
		x, ok := a(fr)
		if !ok {
			return false, false
		}
		y, ok := b(fr)
		return compare(x, y), ok
	}
}

// boundInt returns a function that compares a whole number with a constant.
func boundInt(a intFunc, op string, bound int64) boolFunc {
	switch op {
	case "<":
		return func(fr *Frame) (bool, bool) {
			x, ok := a(fr)
			return x < bound, ok
		}
	case "<=":
		return func(fr *Frame) (bool, bool) {
			x, ok := a(fr)
			return x <= bound, ok
		}
	case ">":
		return func(fr *Frame) (bool, bool) {
			x, ok := a(fr)
			return x > bound, ok
		}
	}
	return func(fr *Frame) (bool, bool) {
		x, ok := a(fr)
		return x >= bound, ok
	}
}

// compareValues returns a function that compares two values in their general form.
func compareValues(a, b valueFunc, compare func(fr *Frame, x, y Value) (bool, bool)) boolFunc {
	return func(fr *Frame) (bool, bool) {
		x, ok := a(fr)
		if !ok {
			return false, false
		}
		y, ok := b(fr)
		if !ok {
			return false, false
		}
		return compare(fr, x, y)
	}
}
