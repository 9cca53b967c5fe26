package expr

import (
	"fmt"
	"strings"
)

// call is a call of a function in an expression.
type call struct {
	site     site
	args     []site
	each     []*each // by argument; nil for arguments that are values
	prepared any     // made of constant arguments when the expression was compiled, such as a regular expression
	gives    Type
}

// each is an argument such as x => x.n > 0, which a function calls for each element.
type each struct {
	first int // the index of its first variable in Frame.locals
	names int
	body  operand
	run   valueFunc
	cost  int64 // steps of one call
}

// apply calls the function for one element.
func (e *each) apply(fr *Frame, at *site, x Value) (Value, bool) {
	if !fr.spend(at, e.cost) {
		return Value{}, false
	}
	fr.locals[e.first] = x
	return e.run(fr)
}

// test calls a function that gives a truth value.
func (e *each) test(fr *Frame, at *site, x Value) (bool, bool) {
	if !fr.spend(at, e.cost) {
		return false, false
	}
	fr.locals[e.first] = x
	return e.body.b(fr)
}

// call compiles a call.
func (c *compiler) call(n *node) operand {
	f := functions[n.text]
	if f == nil {
		return c.unknownFunction(n)
	}
	if !c.counted(n, f) {
		return badOperand
	}
	args := make([]operand, len(n.kids))
	call := &call{site: c.site(n), args: make([]site, len(n.kids)), each: make([]*each, len(n.kids))}
	types := make([]Type, len(n.kids))
	bad := false
	for i, kid := range n.kids {
		p := f.parameter(i)
		call.args[i] = c.site(kid)
		if p.arity > 0 {
			continue // when the types of the other arguments are known
		}
		args[i] = c.argument(kid, f, p)
		types[i] = args[i].kind
		bad = bad || args[i].bad
	}
	for i, kid := range n.kids {
		if p := f.parameter(i); p.arity > 0 && !bad {
			if call.each[i] = c.each(kid, f, p, types); call.each[i] == nil {
				return badOperand
			}
			types[i], args[i] = call.each[i].body.kind, operand{kind: call.each[i].body.kind}
		}
	}
	if bad {
		return badOperand
	}
	if f.prepare != nil && !f.prepare(c, n, call, args) {
		return badOperand
	}
	t := f.gives(types)
	call.gives = t
	o := typed(t, call.site, c.caller(f, call, args))
	if f.arity() == 0 {
		o.constant = constants(args...)
	}
	return o
}

// unknownFunction says that a function is not there.
func (c *compiler) unknownFunction(n *node) operand {
	name := n.text
	at := node{from: n.from, to: n.from + len(name)}
	if c.local(name) >= 0 || c.isField(name) {
		return c.mistake(&at, "write "+name+" without ( ), or an operator before the (", "%s is a value, and only a function can be called", name)
	}
	if edit, ok := otherNames[strings.ToLower(name)]; ok {
		return c.mistake(&at, edit, "there is no function %s", name)
	}
	edit := "docs/expressions.md lists all functions"
	if near := Nearest(name, sortedNames(functions)); near != "" {
		edit = "write " + near
	} else if near := Nearest(name, sortedNames(otherNames)); near != "" {
		edit = otherNames[near]
	}
	return c.mistake(&at, edit, "there is no function %s", name)
}

// isField reports whether the row, or the scope, declares a name.
func (c *compiler) isField(name string) bool {
	for _, f := range c.scope.variables {
		if f.Name == name {
			return true
		}
	}
	_, ok := c.scope.row.field(name)
	return ok
}

// counted checks the number of arguments.
func (c *compiler) counted(n *node, f *function) bool {
	least, most := f.counts()
	switch {
	case len(n.kids) < least:
		edit := "write " + f.signature
		if f.name == "count" && len(n.kids) == 1 {
			edit += fmt.Sprintf(", or len(%s)", c.text(n.kids[0]))
		}
		c.mistake(n, edit, "%s needs %s, and has %d", f.name, plural(least, "argument"), len(n.kids))
		return false
	case len(n.kids) > most:
		edit := "write " + f.signature
		if most == 1 && (f.name == "sum" || f.name == "avg") {
			edit = fmt.Sprintf("write %s([%s])", f.name, strings.Trim(c.source.Text[n.kids[0].from:n.to-1], " "))
		}
		c.mistake(n.kids[most], edit, "%s takes %s, and has %d", f.name, plural(most, "argument"), len(n.kids))
		return false
	}
	return true
}

// plural returns a number with a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// argument compiles an argument that is a value.
func (c *compiler) argument(n *node, f *function, p *parameter) operand {
	if n.kind == nodeFunction {
		return c.mistake(n, "write "+f.signature, "the argument %s of %s is a value, and no function", p.name, f.name)
	}
	o := c.compile(n)
	switch is := o.kind; {
	case o.bad:
	case p.constant && o.constant == nil:
		return c.mistake(n, "write it in quotes, or take it from params", "the %s of %s has to be the same for every row", p.name, f.name)
	case p.absent:
	case is.optional:
		return c.absentMistake(n, is, p.wants())
	case is.kind != KindAny && !p.kinds.has(is.kind):
		edit := ""
		for _, k := range []Kind{KindTime, KindDuration, KindInt, KindFloat, KindString, KindBool, KindList} {
			if p.kinds.has(k) && edit == "" {
				edit = conversionEdit(c.text(n), is, Type{kind: k})
			}
		}
		return c.mistake(n, edit, "%s is %s, and the %s of %s is %s", c.text(n), typeText(is), p.name, f.name, p.wants())
	}
	return o
}

// each compiles an argument that is a function. types are the types of the arguments that are values.
func (c *compiler) each(n *node, f *function, p *parameter, types []Type) *each {
	if n.kind != nodeFunction {
		edit := "write x => " + c.text(n)
		if f := functions[n.text]; n.kind == nodeName && f != nil && c.local(n.text) < 0 && !c.isField(n.text) {
			edit = fmt.Sprintf("write x => %s(x)", n.text)
		}
		such := "x => x.n"
		switch {
		case p.test:
			such = "x => x.n > 0"
		case p.arity == 2:
			such = "(all, x) => all + x.n"
		}
		c.mistake(n, edit, "the argument %s of %s is a function of each element, such as %s", p.name, f.name, such)
		return nil
	}
	if len(n.names) != p.arity {
		c.mistake(n, "write "+f.signature, "%s gives its function %s, and this one takes %d", f.name, plural(p.arity, "value"), len(n.names))
		return nil
	}
	params := f.elements(types)
	for {
		e, again := c.eachOf(n, p, params)
		if again == nil {
			return e
		}
		params = again
	}
}

// eachOf compiles a function for parameters of the given types. If the type of reduce's first parameter has to be a wider one, because of the
// values that the function gives, it returns the types to try again with.
func (c *compiler) eachOf(n *node, p *parameter, params []Type) (e *each, again []Type) {
	e = &each{first: len(c.variables), names: len(n.names)}
	before, mistakes := c.cost, len(c.mistakes)
	for i, name := range n.names {
		c.enter(variable{name: name, kind: params[i]})
	}
	e.body = c.compile(n.kids[0])
	c.exit(len(n.names))
	e.cost = c.cost - before + 1
	c.cost = before
	if e.body.bad {
		return nil, nil
	}
	if p.arity == 2 {
		if wider := params[0].join(e.body.kind); !wider.Equal(params[0]) {
			c.mistakes = c.mistakes[:mistakes]
			return nil, []Type{wider, params[1]}
		}
		e.body = c.convert(n.kids[0], e.body, params[0])
	}
	if p.test {
		if b := c.boolean(n.kids[0], e.body); b != nil {
			e.body = operand{kind: Bool, b: b}
		} else {
			return nil, nil
		}
	}
	e.run = e.body.general()
	return e, nil
}

// caller returns a function that evaluates the arguments and runs the function.
func (c *compiler) caller(f *function, call *call, args []operand) valueFunc {
	type arg struct {
		get   valueFunc // nil for a function
		kinds kindSet   // that are checked for each row; 0 where the type is known
		wants string
	}
	all := make([]arg, len(args))
	for i, o := range args {
		p := f.parameter(i)
		if p.arity > 0 {
			continue
		}
		all[i].get = o.general()
		if !p.absent && o.kind.kind == KindAny {
			all[i].kinds, all[i].wants = p.kinds, p.wants()
		}
	}
	run := f.run
	return func(fr *Frame) (Value, bool) {
		base, steps := len(fr.stack), int64(1)
		for i := range all {
			a := &all[i]
			if a.get == nil {
				fr.stack = append(fr.stack, Value{})
				continue
			}
			v, ok := a.get(fr)
			if !ok {
				return Value{}, false
			}
			if a.kinds != 0 && !a.kinds.has(v.kind) {
				return Value{}, fr.failKind(&call.args[i], v.kind, a.wants)
			}
			steps += int64(len(v.text) / 16)
			if v.parts != nil {
				steps += int64(len(v.parts.values))
			}
			fr.stack = append(fr.stack, v)
		}
		if !fr.spend(&call.site, steps) {
			return Value{}, false
		}
		v, ok := run(fr, call, fr.stack[base:])
		fr.stack = fr.stack[:base]
		return v, ok
	}
}
