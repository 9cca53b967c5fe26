package expr

import (
	"fmt"
)

// boolean returns an operand as a function of a truth value. It is nil if the operand is none, which is a mistake then.
func (c *compiler) boolean(n *node, o operand) boolFunc {
	switch {
	case o.bad:
		return nil
	case o.b != nil:
		return o.b
	}
	return c.convert(n, o, Bool).b
}

// unary compiles -x and !x.
func (c *compiler) unary(n *node) operand {
	kid, of := n.kids[0], c.compile(n.kids[0])
	at := c.site(n)
	switch {
	case of.bad:
		return badOperand
	case n.text == "!":
		b := c.boolean(kid, of)
		if b == nil {
			return badOperand
		}
		return operand{kind: Bool, constant: constants(of), b: func(fr *Frame) (bool, bool) {
			x, ok := b(fr)
			return !x, ok
		}}
	case of.i != nil:
		i := of.i
		return operand{kind: Int, constant: constants(of), i: func(fr *Frame) (int64, bool) {
			x, ok := i(fr)
			if !ok {
				return 0, false
			}
			return fr.calculateInts(&at, '-', 0, x)
		}}
	case of.f != nil:
		f := of.f
		return operand{kind: Float, constant: constants(of), f: func(fr *Frame) (float64, bool) {
			x, ok := f(fr)
			return 0 - x, ok // and not -0
		}}
	case of.kind.optional:
		return c.absentMistake(kid, of.kind, "a number")
	case of.kind.kind != KindAny && of.kind.kind != KindDuration:
		return c.mistake(n, "", "%s is %s, and - needs a number or a duration", c.text(kid), typeText(of.kind))
	}
	v, atKid := of.v, c.site(kid)
	return operand{kind: of.kind, constant: constants(of), v: func(fr *Frame) (Value, bool) {
		x, ok := v(fr)
		switch {
		case !ok:
			return x, false
		case x.kind == KindInt, x.kind == KindDuration:
			n, ok := fr.calculateInts(&at, '-', 0, int64(x.bits))
			return Value{kind: x.kind, bits: uint64(n)}, ok
		case x.kind == KindFloat:
			f, ok := fr.exact(&atKid, x)
			return floatValue(0 - f), ok
		}
		return Value{}, fr.failKind(&atKid, x.kind, "a number or a duration")
	}}
}

// logic compiles a && b and a || b. The right side is evaluated only if the left one does not decide.
func (c *compiler) logic(n *node) operand {
	and := n.text == "&&"
	left := c.compile(n.kids[0])
	before := c.assume(n.kids[0], and)
	right := c.compile(n.kids[1])
	c.known = before
	a, b := c.boolean(n.kids[0], left), c.boolean(n.kids[1], right)
	if a == nil || b == nil {
		return badOperand
	}
	o := operand{kind: Bool, constant: constants(left, right), b: func(fr *Frame) (bool, bool) {
		if x, ok := a(fr); !x || !ok {
			return false, ok
		}
		return b(fr)
	}}
	if !and {
		o.b = func(fr *Frame) (bool, bool) {
			if x, ok := a(fr); x || !ok {
				return x, ok
			}
			return b(fr)
		}
	}
	return o
}

// otherwise compiles a ?? b: b if a is null or missing.
func (c *compiler) otherwise(n *node) operand {
	left, right := c.compile(n.kids[0]), c.compile(n.kids[1])
	switch {
	case anyBad(left, right):
		return badOperand
	case left.kind.kind == KindNull:
		return right
	case !left.kind.optional && left.kind.kind != KindAny:
		return left
	}
	t := left.kind.present().join(right.kind)
	if t.kind == KindAny && left.kind.kind != KindAny && right.kind.kind != KindAny {
		return c.mistake(n, "give it a default of the same type, such as "+example(left.kind.present()),
			"%s is %s, and its default is %s", c.text(n.kids[0]), typeText(left.kind), typeText(right.kind))
	}
	a, b := left.general(), right.general()
	o := typed(t, c.site(n), func(fr *Frame) (Value, bool) {
		v, ok := a(fr)
		if !ok || !v.Absent() {
			return v, ok
		}
		return b(fr)
	})
	o.constant = constants(left, right)
	return o
}

// choice compiles condition ? a : b.
func (c *compiler) choice(n *node) operand {
	condition := c.compile(n.kids[0])
	before := c.assume(n.kids[0], true)
	yes := c.compile(n.kids[1])
	c.known = before
	c.assume(n.kids[0], false)
	no := c.compile(n.kids[2])
	c.known = before
	test := c.boolean(n.kids[0], condition)
	if test == nil || anyBad(yes, no) {
		return badOperand
	}
	if condition.constant != nil {
		if condition.constant.Bool() {
			return yes
		}
		return no
	}
	t := yes.kind.join(no.kind)
	if t.kind == KindFloat && !t.optional {
		yes, no = c.convert(n.kids[1], yes, Float), c.convert(n.kids[2], no, Float)
	}
	switch {
	case anyBad(yes, no):
		return badOperand
	case yes.i != nil && no.i != nil:
		a, b := yes.i, no.i
		return operand{kind: Int, i: func(fr *Frame) (int64, bool) {
			x, ok := test(fr)
			switch {
			case !ok:
				return 0, false
			case x:
				return a(fr)
			}
			return b(fr)
		}}
	case yes.f != nil && no.f != nil:
		a, b := yes.f, no.f
		return operand{kind: Float, f: func(fr *Frame) (float64, bool) {
			x, ok := test(fr)
			switch {
			case !ok:
				return 0, false
			case x:
				return a(fr)
			}
			return b(fr)
		}}
	case yes.b != nil && no.b != nil:
		a, b := yes.b, no.b
		return operand{kind: Bool, b: func(fr *Frame) (bool, bool) {
			x, ok := test(fr)
			switch {
			case !ok:
				return false, false
			case x:
				return a(fr)
			}
			return b(fr)
		}}
	}
	a, b := yes.general(), no.general()
	return typed(t, c.site(n), func(fr *Frame) (Value, bool) {
		x, ok := test(fr)
		switch {
		case !ok:
			return Value{}, false
		case x:
			return a(fr)
		}
		return b(fr)
	})
}

// membership compiles a in list, a in object, and not in.
func (c *compiler) membership(n *node) operand {
	left, right := c.compile(n.kids[0]), c.compile(n.kids[1])
	if anyBad(left, right) {
		return badOperand
	}
	for i, o := range []operand{left, right} {
		if o.kind.optional {
			return c.absentMistake(n.kids[i], o.kind, "a value")
		}
	}
	switch right.kind.kind {
	case KindAny:
	case KindString:
		return c.mistake(n, fmt.Sprintf("write contains(%s, %s)", c.text(n.kids[1]), c.text(n.kids[0])), "in looks into lists and objects, and %s is a string", c.text(n.kids[1]))
	case KindList:
		if elem := right.kind.Elem().present(); !canBeEqual(left.kind, elem) {
			return c.mistake(n, conversionEdit(c.text(n.kids[0]), left.kind, elem), "%s is %s, and the elements of the list have the type %s", c.text(n.kids[0]), typeText(left.kind), elem)
		}
	case KindMap, KindObject:
		if left.kind.kind != KindString && left.kind.kind != KindAny {
			return c.mistake(n, conversionEdit(c.text(n.kids[0]), left.kind, String), "%s is %s, and the keys of an object are strings", c.text(n.kids[0]), typeText(left.kind))
		}
	default:
		return c.mistake(n, fmt.Sprintf("write ==, or [%s] for a list", c.text(n.kids[1])), "in looks into lists and objects, and %s is %s", c.text(n.kids[1]), typeText(right.kind))
	}
	negate := n.text == "not in"
	if set := textSet(right.constant); set != nil && left.kind.kind == KindString {
		get := left.v
		return operand{kind: Bool, constant: constants(left, right), b: func(fr *Frame) (bool, bool) {
			v, ok := get(fr)
			return set[v.text] != negate, ok
		}}
	}
	a, b := left.general(), right.general()
	at, atLeft, atRight := c.site(n), c.site(n.kids[0]), c.site(n.kids[1])
	return operand{kind: Bool, constant: constants(left, right), b: func(fr *Frame) (bool, bool) {
		x, ok := a(fr)
		if !ok {
			return false, false
		}
		y, ok := b(fr)
		switch {
		case !ok:
			return false, false
		case x.Absent(), x.kind == KindNumber:
			return false, fr.failKind(&atLeft, x.kind, "a value, such as a number,")
		case y.kind == KindList:
			found, ok := fr.find(&at, y.parts.values, x)
			return (found >= 0) != negate, ok
		case y.kind != KindObject:
			return false, fr.failKind(&atRight, y.kind, "a list or an object")
		case x.kind != KindString:
			return false, fr.failKind(&atLeft, x.kind, "a string")
		}
		return (y.Field(x.text).kind != KindMissing) != negate, true
	}}
}

// find returns the index of the first value that is equal to v, or -1.
func (fr *Frame) find(at *site, values []Value, v Value) (int, bool) {
	for i := range values {
		if !fr.spend(at, 1) {
			return -1, false
		}
		equal, ok := fr.equal(at, values[i], v, 0)
		if equal || !ok {
			return i, ok
		}
	}
	return -1, true
}

// textSet returns the elements of a constant list of texts as a set, or nil.
func textSet(list *Value) map[string]bool {
	if list == nil || list.kind != KindList {
		return nil
	}
	set := map[string]bool{}
	for _, v := range list.Elements() {
		if v.kind != KindString {
			return nil
		}
		set[v.text] = true
	}
	return set
}
