package expr

// The functions that a compiled part of an expression consists of, one type for each kind of result. The second result is false if the evaluation
// failed; the frame then has the failure. Whole numbers, floats and truth values stay in registers this way.
type (
	boolFunc  func(*Frame) (bool, bool)
	intFunc   func(*Frame) (int64, bool)
	floatFunc func(*Frame) (float64, bool)
	valueFunc func(*Frame) (Value, bool)
)

// operand is a compiled part of an expression. The function of its type is there: b for Bool, i for Int, f for Float, and v for all other types,
// optional ones included.
type operand struct {
	kind Type
	b    boolFunc
	i    intFunc
	f    floatFunc
	v    valueFunc

	constant *Value // the value, if it is the same for every row
	bad      bool   // a mistake was found in it, so nothing more is said about its type
	input    int    // 1 + the number of the input that it reads, as its kind; 0 if it is something else
}

// readsAny reports whether the operand is an input of any type: then its value is that of the frame's input, and reading it can't fail.
func (o *operand) readsAny() bool { return o.input > 0 && o.kind.kind == KindAny && !o.kind.optional }

// bad is the operand of a part with a mistake.
var badOperand = operand{kind: Any, bad: true, v: func(*Frame) (Value, bool) { return Value{}, false }}

// value returns the operand's value in its general form.
func (o *operand) value(fr *Frame) (Value, bool) {
	switch {
	case o.v != nil:
		return o.v(fr)
	case o.i != nil:
		n, ok := o.i(fr)
		return IntValue(n), ok
	case o.f != nil:
		f, ok := o.f(fr)
		return floatValue(f), ok
	default:
		b, ok := o.b(fr)
		return BoolValue(b), ok
	}
}

// general returns a function that gives the operand's value in its general form.
func (o operand) general() valueFunc {
	switch {
	case o.v != nil:
		return o.v
	case o.i != nil:
		i := o.i
		return func(fr *Frame) (Value, bool) {
			n, ok := i(fr)
			return IntValue(n), ok
		}
	case o.f != nil:
		f := o.f
		return func(fr *Frame) (Value, bool) {
			x, ok := f(fr)
			return floatValue(x), ok
		}
	}
	b := o.b
	return func(fr *Frame) (Value, bool) {
		x, ok := b(fr)
		return BoolValue(x), ok
	}
}

// typed makes an operand of a function whose values have the type t, or fail. A value of another kind is a failure at the site.
func typed(t Type, at site, v valueFunc) operand {
	o := operand{kind: t}
	if t.optional {
		o.v = v
		return o
	}
	switch t.kind {
	case KindBool:
		o.b = func(fr *Frame) (bool, bool) {
			x, ok := v(fr)
			if !ok || x.kind == KindBool {
				return x.bits != 0, ok
			}
			return false, fr.failKind(&at, x.kind, "a bool")
		}
	case KindInt:
		o.i = func(fr *Frame) (int64, bool) {
			x, ok := v(fr)
			if !ok || x.kind == KindInt {
				return int64(x.bits), ok
			}
			return 0, fr.failKind(&at, x.kind, "an int")
		}
	case KindFloat:
		o.f = func(fr *Frame) (float64, bool) {
			x, ok := v(fr)
			if !ok {
				return 0, false
			}
			if x.kind != KindFloat && x.kind != KindInt {
				return 0, fr.failKind(&at, x.kind, "a number")
			}
			return fr.exact(&at, x)
		}
	default:
		o.v = v
	}
	return o
}

// checked returns a function that fails at the site if the value does not belong to the type t. Only the kind of a list or an object is looked at.
func checked(t Type, at site, v valueFunc) valueFunc {
	kind := t.kind
	switch kind {
	case KindAny:
		return v
	case KindMap:
		kind = KindObject
	}
	return func(fr *Frame) (Value, bool) {
		x, ok := v(fr)
		switch {
		case !ok:
			return x, false
		case x.kind == kind || t.optional && x.Absent():
			return x, true
		case kind == KindFloat && x.kind == KindInt:
			f, ok := fr.exact(&at, x)
			return floatValue(f), ok
		}
		return Value{}, fr.failKind(&at, x.kind, withArticle(kind))
	}
}

// literal returns the operand of a constant.
func literal(v Value) operand { return literalOf(v, typeOf(v)) }

// literalOf returns the operand of a constant whose type is known.
func literalOf(v Value, t Type) operand {
	o := operand{kind: t, constant: &v}
	switch v.kind {
	case KindBool:
		b := v.Bool()
		o.b = func(*Frame) (bool, bool) { return b, true }
	case KindInt:
		n := v.Int()
		o.i = func(*Frame) (int64, bool) { return n, true }
	case KindFloat:
		f := v.Float()
		o.f = func(*Frame) (float64, bool) { return f, true }
	default:
		o.v = func(*Frame) (Value, bool) { return v, true }
	}
	return o
}
