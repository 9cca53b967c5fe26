package expr

import (
	"fmt"
)

// operands are the places of an operator and of its two sides, for failures.
type operands struct {
	site        site
	left, right site
}

// operands returns the places of a binary operator.
func (c *compiler) operands(n *node) *operands {
	return &operands{c.site(n), c.site(n.kids[0]), c.site(n.kids[1])}
}

// sumType returns the type of a op b for types that are not any. ok is false if the operator does not take them.
func sumType(op byte, a, b Type) (t Type, ok bool) {
	switch {
	case a.number() && b.number():
		if op == '/' || a.kind == KindFloat || b.kind == KindFloat {
			return Float, true
		}
		return Int, true
	case op == '+' && a.kind == KindList && b.kind == KindList:
		return List(a.Elem().join(b.Elem())), true
	case a.kind == KindDuration && b.kind == KindDuration:
		switch op {
		case '+', '-':
			return Duration, true
		case '/':
			return Float, true
		}
	case op == '+' && a.kind == KindString && b.kind == KindString:
		return String, true
	case op == '+' && a.kind == KindTime && b.kind == KindDuration, op == '+' && a.kind == KindDuration && b.kind == KindTime, op == '-' && a.kind == KindTime && b.kind == KindDuration:
		return Time, true
	case op == '-' && a.kind == KindTime && b.kind == KindTime:
		return Duration, true
	case op == '*' && a.kind == KindDuration && b.kind == KindInt, op == '*' && a.kind == KindInt && b.kind == KindDuration, op == '/' && a.kind == KindDuration && b.kind == KindInt:
		return Duration, true
	}
	return Type{}, false
}

// arithmetic compiles + - * and /.
func (c *compiler) arithmetic(n *node) operand {
	left, right := c.compile(n.kids[0]), c.compile(n.kids[1])
	if anyBad(left, right) {
		return badOperand
	}
	op := n.text[0]
	for i, o := range []operand{left, right} {
		if o.kind.optional {
			return c.absentMistake(n.kids[i], o.kind, operatorWants[op])
		}
		if o.kind.kind != KindAny && !canCalculate(o.kind.kind) {
			return c.mistake(n, c.arithmeticEdit(n, op, left.kind, right.kind), "%s is %s, and %c needs %s", c.text(n.kids[i]), typeText(o.kind), op, operatorWants[op])
		}
	}
	at := c.operands(n)
	if left.kind.kind == KindAny || right.kind.kind == KindAny {
		t := Any
		if op == '/' && (left.kind.number() || right.kind.kind == KindFloat) {
			t = Float // also for durations, of which only the left side may be one
		}
		o := typed(t, at.site, anyArithmetic(op, at, left, right))
		o.constant = constants(left, right)
		return o
	}
	t, ok := sumType(op, left.kind, right.kind)
	if !ok {
		return c.mistake(n, c.arithmeticEdit(n, op, left.kind, right.kind), "%c can't have %s on the left and %s on the right", op, typeText(left.kind), typeText(right.kind))
	}
	mark := constants(left, right)
	switch {
	case t.kind == KindInt:
		return operand{kind: Int, constant: mark, i: intArithmetic(op, at, left, right)}
	case t.kind == KindFloat && left.kind.number():
		return operand{kind: Float, constant: mark, f: floatArithmetic(op, at, float(at.left, left), float(at.right, right))}
	}
	a, b := left.general(), right.general()
	o := typed(t, at.site, func(fr *Frame) (Value, bool) {
		x, ok := a(fr)
		if !ok {
			return x, false
		}
		y, ok := b(fr)
		if !ok {
			return y, false
		}
		return fr.calculate(at, op, x, y)
	})
	o.constant = mark
	return o
}

// anyArithmetic returns the function of an operator on operands of any type. Fields of the row and constants, which are frequent, are read where they
// stand.
func anyArithmetic(op byte, at *operands, left, right operand) valueFunc {
	a, b := left.general(), right.general()
	switch {
	case left.readsAny() && right.readsAny():
		i, j := left.input-1, right.input-1
		return func(fr *Frame) (Value, bool) {
			x, y := &fr.inputs[i], &fr.inputs[j]
			if x.kind == KindInt && y.kind == KindInt {
				return fr.calculateWhole(at, op, int64(x.bits), int64(y.bits))
			}
			return fr.calculate(at, op, *x, *y)
		}
	case right.constant != nil && right.constant.kind == KindInt:
		y := right.constant.Int()
		return func(fr *Frame) (Value, bool) {
			x, ok := a(fr)
			switch {
			case !ok:
				return x, false
			case x.kind == KindInt:
				return fr.calculateWhole(at, op, int64(x.bits), y)
			}
			return fr.calculate(at, op, x, IntValue(y))
		}
	}
	return func(fr *Frame) (Value, bool) {
		x, ok := a(fr)
		if !ok {
			return x, false
		}
		y, ok := b(fr)
		if !ok {
			return y, false
		}
		return fr.calculate(at, op, x, y)
	}
}

// arithmeticEdit says how to write an operator for these types, or "".
func (c *compiler) arithmeticEdit(n *node, op byte, left, right Type) string {
	a, b := c.text(n.kids[0]), c.text(n.kids[1])
	switch {
	case op == '+' && left.kind == KindList:
		return fmt.Sprintf("write %s + [%s]", a, b)
	case op == '+' && left.kind == KindString:
		return conversionEdit(b, right, String)
	case op == '+' && right.kind == KindString:
		return conversionEdit(a, left, String)
	case op == '*' && left.kind == KindString && right.kind == KindInt:
		return fmt.Sprintf("write repeat(%s, %s)", a, b)
	case op == '+' && left.kind == KindTime && right.kind == KindInt:
		return fmt.Sprintf(`write %s + duration("1s") * %s`, a, b)
	case op == '+' && left.kind == KindTime && right.kind == KindTime:
		return fmt.Sprintf("write %s - %s for the duration between them", a, b)
	case op == '+' && left.holds() && right.holds():
		return fmt.Sprintf("write merge(%s, %s)", a, b)
	case op == '*' && (left.kind == KindDuration && right.kind == KindFloat || left.kind == KindFloat && right.kind == KindDuration):
		return "multiply a duration with an int, such as 3 / 2 of it: d * 3 / 2"
	case left.kind == KindString && right.number():
		return fmt.Sprintf("write %s(%s)", right.kind, a)
	case right.kind == KindString && left.number():
		return fmt.Sprintf("write %s(%s)", left.kind, b)
	case right.number() && left.kind == KindBool:
		return fmt.Sprintf("write (%s ? 1 : 0)", a)
	}
	return ""
}

// float returns a number as a function of a float. A whole number that no float is equal to fails at the site.
func float(at site, o operand) floatFunc {
	if o.f != nil {
		return o.f
	}
	i := o.i
	return func(fr *Frame) (float64, bool) {
		n, ok := i(fr)
		if !ok {
			return 0, false
		}
		if -maxExact <= n && n <= maxExact {
			return float64(n), true
		}
		return fr.exact(&at, IntValue(n))
	}
}

// floatArithmetic returns the function of an operator on floats.
func floatArithmetic(op byte, at *operands, a, b floatFunc) floatFunc {
	return func(fr *Frame) (float64, bool) {
		x, ok := a(fr)
		if !ok {
			return 0, false
		}
		y, ok := b(fr)
		if !ok {
			return 0, false
		}
		return fr.calculateFloats(&at.site, op, x, y)
	}
}

// intArithmetic returns the function of + - or * on whole numbers. Sums have functions of their own, because they are frequent.
func intArithmetic(op byte, at *operands, left, right operand) intFunc {
	a, b := left.i, right.i
	if op == '+' {
		return func(fr *Frame) (int64, bool) {
			x, ok := a(fr)
			if !ok {
				return 0, false
			}
			y, ok := b(fr)
			if !ok {
				return 0, false
			}
			if sum, ok := addInt(x, y); ok {
				return sum, true
			}
			return 0, fr.failInt(&at.site, op)
		}
	}
	return func(fr *Frame) (int64, bool) {
		x, ok := a(fr)
		if !ok {
			return 0, false
		}
		y, ok := b(fr)
		if !ok {
			return 0, false
		}
		return fr.calculateInts(&at.site, op, x, y)
	}
}
