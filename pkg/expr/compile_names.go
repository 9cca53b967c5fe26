package expr

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// local returns the index of the innermost variable of a name, or -1.
func (c *compiler) local(name string) int {
	for i, v := range slices.Backward(c.variables) {
		if v.name == name {
			return i
		}
	}
	return -1
}

// name compiles a name: a variable, a variable of the scope, or a field of the row.
func (c *compiler) name(n *node) operand {
	if i := c.local(n.text); i >= 0 {
		return c.narrow(n, c.readLocal(n, i))
	}
	switch n.text {
	case "row":
		if c.scope.open {
			return c.readInput(n, Input{Type: Any})
		}
		return c.readInput(n, Input{Type: c.scope.row})
	case "params":
		return literal(c.scope.params)
	}
	for _, f := range c.scope.variables {
		if f.Name == n.text {
			return c.narrow(n, c.readInput(n, Input{f.Name, true, f.Type}))
		}
	}
	return c.rowField(n, n.text)
}

// readLocal compiles a variable of a let or of a function.
func (c *compiler) readLocal(n *node, i int) operand {
	v := c.variables[i]
	if v.constant != nil {
		return literalOf(*v.constant, v.kind)
	}
	return typed(v.kind, c.site(n), func(fr *Frame) (Value, bool) { return fr.locals[i], true })
}

// rowField compiles a field of the row.
func (c *compiler) rowField(n *node, name string) operand {
	t := Any
	if c.scope.row.kind == KindObject {
		var ok bool
		if t, ok = c.scope.row.field(name); !ok && !c.scope.open {
			return c.unknownName(n, name)
		} else if !ok {
			t = Any
		}
	} else if c.scope.row.kind == KindMap {
		t = Optional(c.scope.row.Elem())
	}
	o := c.readInput(n, Input{name, false, t})
	return c.narrow(n, o)
}

// unknownName says that nothing has a name, with the nearest name that something has.
func (c *compiler) unknownName(n *node, name string) operand {
	var names []string
	for _, v := range c.variables {
		names = append(names, v.name)
	}
	for _, f := range c.scope.variables {
		names = append(names, f.Name)
	}
	for _, f := range c.scope.row.fields {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if _, ok := functions[name]; ok && Nearest(name, names) == "" {
		return c.mistake(n, fmt.Sprintf("write %s(…)", name), "%s is a function, and stands here without a value", name)
	}
	switch name {
	case "nil", "None", "NULL", "undefined", "Null":
		return c.mistake(n, "write null", "%s is no name here", name)
	case "True", "TRUE", "False", "FALSE":
		return c.mistake(n, "write "+strings.ToLower(name), "%s is no name here", name)
	case "this", "self", "it":
		return c.mistake(n, "write row for the whole row", "%s is no name here", name)
	}
	if near := Nearest(name, names); near != "" {
		return c.mistake(n, "write "+near+" if you mean that, or add "+fieldText(name)+" to source.fields", "%s is not a field of the row", name)
	}
	return c.mistake(n, fmt.Sprintf("its fields are %s; add %s to source.fields if rows have it", listNames(names), fieldText(name)), "%s is not a field of the row", name)
}

// listNames returns some names with commas between them.
func listNames(names []string) string {
	const most = 8
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// readInput compiles a value that the frame has for each row.
func (c *compiler) readInput(n *node, in Input) operand {
	i, at := c.scope.input(in), c.site(n)
	o := operand{kind: in.Type, input: i + 1}
	if in.Type.optional {
		o.v = checked(in.Type, at, func(fr *Frame) (Value, bool) { return fr.inputs[i], true })
		return o
	}
	t := in.Type
	switch t.kind {
	case KindInt:
		o.i = func(fr *Frame) (int64, bool) {
			v := &fr.inputs[i]
			if v.kind == KindInt {
				return int64(v.bits), true
			}
			return 0, fr.failInput(&at, v.kind, t)
		}
	case KindFloat:
		o.f = func(fr *Frame) (float64, bool) {
			v := &fr.inputs[i]
			if v.kind == KindFloat {
				return math.Float64frombits(v.bits), true
			}
			if !isNumber(*v) {
				return 0, fr.failInput(&at, v.kind, t)
			}
			return fr.exact(&at, *v)
		}
	case KindBool:
		o.b = func(fr *Frame) (bool, bool) {
			v := &fr.inputs[i]
			if v.kind == KindBool {
				return v.bits != 0, true
			}
			return false, fr.failInput(&at, v.kind, t)
		}
	case KindAny:
		o.v = func(fr *Frame) (Value, bool) { return fr.inputs[i], true }
	default:
		kind := t.kind
		if kind == KindMap {
			kind = KindObject
		}
		o.v = func(fr *Frame) (Value, bool) {
			if v := &fr.inputs[i]; v.kind != kind {
				return Value{}, fr.failInput(&at, v.kind, t)
			}
			return fr.inputs[i], true
		}
	}
	return o
}

// failInput notes that a row has another value than its declared type says.
func (fr *Frame) failInput(at *site, is Kind, t Type) bool {
	message := "is " + withArticle(is) + ", and was declared as " + t.String()
	switch is {
	case KindMissing:
		return fr.fail(at, ReasonMissing, message+": declare it as "+Optional(t).String()+" if rows may lack it")
	case KindNull:
		return fr.fail(at, ReasonNull, message+": declare it as "+Optional(t).String()+" if it may be null")
	case KindNumber:
		if t.kind == KindInt || t.kind == KindFloat {
			return fr.fail(at, ReasonLossy, message+", which can't hold it")
		}
	}
	return fr.fail(at, ReasonType, message)
}

// field compiles value.name and value?.name.
func (c *compiler) field(n *node) operand {
	of := n.kids[0]
	if of.kind == nodeName && of.text == "row" && c.local("row") < 0 && c.scope.row.kind != KindMap {
		return c.rowField(n, n.text)
	}
	return c.narrow(n, c.member(n, c.compile(of), n.text, n.kind == nodeMaybe))
}

// member compiles a field of an operand. With maybe, the field of an absent value is missing.
func (c *compiler) member(n *node, of operand, name string, maybe bool) operand {
	if of.bad {
		return badOperand
	}
	base := n.kids[0]
	if of.kind.optional && !maybe {
		return c.mistake(n, fmt.Sprintf("write %s?.%s", c.text(base), name), "%s may be null or missing: its type is %s", c.text(base), of.kind)
	}
	t := Any
	switch k := of.kind.present(); k.kind {
	case KindObject:
		var ok bool
		if t, ok = k.field(name); !ok {
			names := make([]string, len(k.fields))
			for i, f := range k.fields {
				names[i] = f.Name
			}
			if near := Nearest(name, names); near != "" {
				return c.mistake(n, "write "+near, "%s has no field %s", c.text(base), fieldText(name))
			}
			return c.mistake(n, "its fields are "+listNames(names), "%s has no field %s", c.text(base), fieldText(name))
		}
	case KindMap:
		t = Optional(k.Elem())
	case KindAny:
	case KindList:
		return c.mistake(n, fmt.Sprintf("write map(%s, x => x.%s) for the field of each element, or %s[0].%s", c.text(base), name, c.text(base), name),
			"%s is a list, which has no fields", c.text(base))
	default:
		return c.mistake(n, "", "%s is %s, which has no fields", c.text(base), typeText(of.kind))
	}
	if of.kind.optional {
		t = Optional(t)
	}
	if of.constant != nil {
		return literal(of.constant.Field(name))
	}
	get, at, whole := of.general(), c.site(base), c.site(n)
	return typed(t, whole, checked(t, whole, func(fr *Frame) (Value, bool) {
		v, ok := get(fr)
		switch {
		case !ok:
			return v, false
		case v.kind == KindObject:
			return v.Field(name), true
		case maybe && v.Absent():
			return Missing, true
		}
		return Value{}, fr.failKind(&at, v.kind, "an object")
	}))
}

// index compiles value[element] and value?.[element].
func (c *compiler) index(n *node) operand {
	base, maybe := n.kids[0], n.kind == nodeMaybeAt
	element := c.compile(n.kids[1])
	if element.constant != nil && element.constant.kind == KindString {
		if base.kind == nodeName && base.text == "row" && c.scope.row.kind != KindMap {
			return c.rowField(n, element.constant.text)
		}
		if of := c.compile(base); of.kind.holds() || of.kind.kind == KindAny {
			return c.narrow(n, c.member(n, of, element.constant.text, maybe))
		}
	}
	of := c.compile(base)
	if anyBad(of, element) {
		return badOperand
	}
	if of.kind.optional && !maybe {
		return c.mistake(n, fmt.Sprintf("write %s?.[%s]", c.text(base), c.text(n.kids[1])), "%s may be null or missing: its type is %s", c.text(base), of.kind)
	}
	t, want := Any, Any
	switch k := of.kind.present(); k.kind {
	case KindList:
		t, want = k.Elem(), Int
		if element.constant != nil && element.constant.kind == KindInt && element.constant.Int() < 0 {
			return c.mistake(n.kids[1], fmt.Sprintf("write last(%s) for the last element", c.text(base)), "elements are counted from 0")
		}
	case KindMap, KindObject:
		t, want = Optional(k.Elem()), String
		if k.kind == KindObject && !String.accepts(element.kind) {
			return c.mistake(n.kids[1], fmt.Sprintf(`write %s.name or %s["name"]`, c.text(base), c.text(base)), "%s is an object, whose fields have names", c.text(base))
		}
	case KindAny:
	case KindString:
		return c.mistake(n, fmt.Sprintf("write substring(%s, %s, %s + 1)", c.text(base), c.text(n.kids[1]), c.text(n.kids[1])), "%s is a string, which has no elements", c.text(base))
	default:
		return c.mistake(n, "", "%s is %s, which has no elements", c.text(base), typeText(of.kind))
	}
	if maybe {
		t = Optional(t)
	}
	element = c.convert(n.kids[1], element, want)
	if element.bad {
		return badOperand
	}
	get, at, atBase, atElement := of.general(), element.general(), c.site(base), c.site(n.kids[1])
	whole, mark := c.site(n), constants(of, element)
	o := typed(t, whole, checked(t, whole, func(fr *Frame) (Value, bool) {
		v, ok := get(fr)
		if !ok {
			return v, false
		}
		key, ok := at(fr)
		switch {
		case !ok:
			return key, false
		case maybe && v.Absent():
			return Missing, true
		case v.kind == KindObject && key.kind == KindString:
			return v.Field(key.text), true
		case v.kind == KindList && key.kind == KindInt:
			if i := key.Int(); i >= 0 && i < int64(len(v.parts.values)) {
				return v.parts.values[i], true
			}
			if maybe {
				return Missing, true
			}
			return Value{}, fr.fail(&whole, ReasonIndex, "the list has no element of this number: write ?.[…] for one that may not be there")
		case v.kind == KindObject:
			return Value{}, fr.failKind(&atElement, key.kind, "a string")
		case v.kind == KindList:
			return Value{}, fr.failKind(&atElement, key.kind, "an int")
		}
		return Value{}, fr.failKind(&atBase, v.kind, "a list or an object")
	}))
	if o.constant = mark; mark != nil {
		return c.fold(o)
	}
	return c.narrow(n, o)
}
