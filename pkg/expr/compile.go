package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// compiler checks the types of one expression, and makes operands of its parts.
type compiler struct {
	scope     *Scope
	source    *Source
	mistakes  Mistakes
	variables []variable // that are visible at the part that is being compiled, the innermost last
	most      int        // the most variables at one time
	known     []string   // paths of values that can't be absent at the part that is being compiled: see absent.go
	cost      int64      // steps of one evaluation of the parts so far
	work      int        // parts that were compiled so far, some of them several times
	patterns  int64      // instructions of the regular expressions so far
}

// The bounds of the compiler's work. Nested functions of reduce are compiled several times.
const (
	maxWork     = 20 * MaxNodes
	maxMistakes = 20
)

// variable is a name that a let or a function introduces. It has the place in Frame.locals of its index among the visible ones.
type variable struct {
	name     string
	kind     Type
	constant *Value
}

// site returns where a part stands, for failures.
func (c *compiler) site(n *node) site { return site{c.source, n.from, n.to} }

// mistake adds a mistake about a part of the text.
func (c *compiler) mistake(n *node, edit, format string, args ...any) operand {
	c.mistakeAt(n.from, n.to, edit, format, args...)
	return badOperand
}

// mistakeAt adds a mistake about a range of the text.
func (c *compiler) mistakeAt(from, to int, edit, format string, args ...any) {
	if len(c.mistakes) == maxMistakes {
		return
	}
	c.mistakes = append(c.mistakes, &Mistake{Source: c.source, From: from, To: to, Message: fmt.Sprintf(format, args...), Edit: edit})
}

// text returns a part of the expression as it is written.
func (c *compiler) text(n *node) string { return c.source.Text[n.from:n.to] }

// named returns a part of the expression as a message names it.
func (c *compiler) named(n *node) string {
	if text := c.text(n); len(text) < 40 {
		return text
	}
	return "this part"
}

// compile compiles a part of the expression. Mistakes in it are added to the list.
func (c *compiler) compile(n *node) operand {
	c.cost++
	if c.work++; c.work > maxWork || len(c.mistakes) == maxMistakes {
		if len(c.mistakes) == 0 {
			c.mistake(n, "split the expression into several functions", "calls of reduce are nested too deep")
		}
		return badOperand
	}
	switch n.kind {
	case nodeLiteral:
		return literal(n.value)
	case nodeName:
		return c.name(n)
	case nodeField, nodeMaybe:
		return c.field(n)
	case nodeIndex, nodeMaybeAt:
		return c.index(n)
	case nodeCall:
		return c.fold(c.call(n))
	case nodeFunction:
		return c.mistake(n, "write it as an argument, as in map(list, x => x + 1)", "a function stands only within a call")
	case nodeUnary:
		return c.fold(c.unary(n))
	case nodeBinary:
		return c.fold(c.binary(n))
	case nodeChoice:
		return c.choice(n)
	case nodeList:
		return c.fold(c.list(n))
	case nodeObject:
		return c.fold(c.object(n))
	default:
		return c.let(n)
	}
}

// binary compiles an operator between two values.
func (c *compiler) binary(n *node) operand {
	switch n.text {
	case "&&", "||":
		return c.logic(n)
	case "??":
		return c.otherwise(n)
	case "==", "!=":
		return c.equality(n)
	case "<", "<=", ">", ">=":
		return c.ordering(n)
	case "in", "not in":
		return c.membership(n)
	}
	return c.arithmetic(n)
}

// foldSteps and foldBytes are the budget of an expression that is computed when it is compiled. One that needs more is computed for each row.
const (
	foldSteps = 5_000
	foldBytes = 64 << 10
)

// fold computes an operand at once if all parts below it are constants. A failure is a mistake then.
func (c *compiler) fold(o operand) operand {
	if o.bad || o.constant == nil {
		return o
	}
	// The value that was noted so far only says that the parts are constant.
	o.constant = nil
	fr := &Frame{locals: make([]Value, c.most+1), steps: foldSteps, bytes: foldBytes, text: new(strings.Builder)}
	v, ok := o.value(fr)
	if ok {
		if o.kind.optional || o.kind.kind == KindAny {
			return literal(v)
		}
		return literalOf(v, o.kind)
	}
	var failure *Failure
	if errors.As(fr.failed(), &failure) && failure.Reason != ReasonBudget {
		c.mistakeAt(failure.From, failure.To, "", "%s: %s", c.source.Text[failure.From:failure.To], failure.Message)
		return badOperand
	}
	return o
}

// constants returns a mark that fold looks for, if all operands are constants.
func constants(operands ...operand) *Value {
	if slices.ContainsFunc(operands, func(o operand) bool { return o.constant == nil }) {
		return nil
	}
	return &Value{}
}

// anyBad reports whether a mistake was found in one of the operands.
func anyBad(operands ...operand) bool {
	return slices.ContainsFunc(operands, func(o operand) bool { return o.bad })
}

// convert makes the whole expression's value one of the type want.
func (c *compiler) convert(n *node, o operand, want Type) operand {
	is := o.kind
	switch {
	case o.bad || want.kind == KindAny:
		return o
	case is.Equal(want):
		return o
	case !want.accepts(is):
		if is.optional && want.accepts(is.present()) {
			return c.absentMistake(n, is, want.String())
		}
		return c.mistake(n, conversionEdit(c.text(n), is, want), "%s is %s, and %s is expected", c.named(n), typeText(is), typeText(want))
	}
	converted := typed(want, c.site(n), checked(want, c.site(n), o.general()))
	converted.constant = o.constant
	if o.constant != nil {
		return c.fold(converted)
	}
	return converted
}

// absentMistake says that a value may be null or missing where it can't be.
func (c *compiler) absentMistake(n *node, is Type, want string) operand {
	text := c.text(n)
	if is.kind == KindNull {
		return c.mistake(n, "take it away, or test a value with == null", "%s can't stand where %s is needed", text, want)
	}
	if n.precedence() <= precedenceElse && text[0] != '(' {
		text = "(" + text + ")"
	}
	return c.mistake(n, fmt.Sprintf("write (%s ?? %s), or test it before: %s != null && …", text, example(is), text),
		"%s may be null or missing: its type is %s", c.text(n), is)
}

// example returns a default of a type, for messages.
func example(t Type) string {
	switch t.kind {
	case KindBool:
		return "false"
	case KindInt:
		return "0"
	case KindFloat:
		return "0.0"
	case KindString:
		return `""`
	case KindList:
		return "[]"
	case KindObject, KindMap:
		return "{}"
	case KindDuration:
		return `duration("0s")`
	case KindTime:
		return `time("2000-01-01T00:00:00Z")`
	}
	return "0"
}

// typeText returns a type as a message names it, such as: a string.
func typeText(t Type) string {
	switch t.kind {
	case KindInt, KindAny:
		return "an " + t.String()
	case KindNull:
		return "null"
	case KindObject:
		return "an object " + t.String()
	case KindList:
		return "a list " + t.String()
	case KindMap:
		return "an object with any keys"
	}
	return "a " + t.String()
}

// conversionEdit says how to convert a value of one type into another, or "".
func conversionEdit(text string, is, want Type) string {
	if is.optional && is.kind != KindNull {
		if want.kind == KindBool {
			return fmt.Sprintf("write %s != null", text)
		}
		is, text = is.present(), fmt.Sprintf("(%s ?? %s)", text, example(is))
	}
	// A literal is written as the other type at once.
	if unquoted := strings.Trim(text, `"`); is.kind == KindString && len(text) > 1 && unquoted != text {
		if (want.kind == KindInt || want.kind == KindFloat) && validNumber(unquoted) || want.kind == KindBool && (unquoted == "true" || unquoted == "false") {
			return "write " + unquoted
		}
		if want.kind == KindInt || want.kind == KindFloat {
			return ""
		}
	}
	switch {
	case want.kind == KindString && validNumber(text):
		return fmt.Sprintf("write %q", text)
	case want.kind == KindBool && (text == "0" || text == "1"):
		return fmt.Sprintf("write %v", text == "1")
	case (want.kind == KindInt || want.kind == KindFloat) && is.kind == KindBool:
		return fmt.Sprintf("write (%s ? 1 : 0)", text)
	case want.kind == KindList && is.kind == KindString:
		return fmt.Sprintf(`write split(%s, ",") for the parts of a text, or [%s]`, text, text)
	case want.kind == KindList && is.kind != KindObject && is.kind != KindMap:
		return fmt.Sprintf("write [%s] for a list of one", text)
	case want.kind == KindList:
		return fmt.Sprintf("write values(%s) or entries(%s)", text, text)
	case want.kind == KindDuration && is.kind == KindInt:
		return fmt.Sprintf(`write duration("1s") * %s`, text)
	case want.kind == KindString && (is.number() || is.kind == KindBool || is.kind == KindTime || is.kind == KindDuration):
		return fmt.Sprintf("write string(%s)", text)
	case want.kind == KindInt && is.kind == KindFloat:
		return fmt.Sprintf("write round(%s), or int(%s) if it has no fraction", text, text)
	case (want.kind == KindInt || want.kind == KindFloat) && is.kind == KindString:
		return fmt.Sprintf("write %s(%s)", want.kind, text)
	case want.kind == KindBool && (is.kind == KindInt || is.kind == KindFloat):
		return fmt.Sprintf("write %s != 0", text)
	case want.kind == KindBool && is.kind == KindString:
		return fmt.Sprintf(`write %s != ""`, text)
	case want.kind == KindBool && is.kind == KindList:
		return fmt.Sprintf("write len(%s) > 0", text)
	case (want.kind == KindTime || want.kind == KindDuration) && is.kind == KindString:
		return fmt.Sprintf("write %s(%s)", want.kind, text)
	case want.kind == KindTime && is.kind == KindInt:
		return fmt.Sprintf("write from_unix(%s)", text)
	}
	return ""
}

// let compiles let name = value; body.
func (c *compiler) let(n *node) operand {
	value := c.compile(n.kids[0])
	at := len(c.variables)
	c.enter(variable{n.names[0], value.kind, value.constant})
	defer c.exit(1)
	body := c.compile(n.kids[1])
	if anyBad(value, body) {
		return badOperand
	}
	if value.constant != nil {
		return body // its name stands for the constant
	}
	set := value.general()
	bind := func(fr *Frame) bool {
		v, ok := set(fr)
		fr.locals[at] = v
		return ok
	}
	switch {
	case body.b != nil:
		run := body.b
		return operand{kind: body.kind, b: func(fr *Frame) (bool, bool) {
			if !bind(fr) {
				return false, false
			}
			return run(fr)
		}}
	case body.i != nil:
		run := body.i
		return operand{kind: body.kind, i: func(fr *Frame) (int64, bool) {
			if !bind(fr) {
				return 0, false
			}
			return run(fr)
		}}
	case body.f != nil:
		run := body.f
		return operand{kind: body.kind, f: func(fr *Frame) (float64, bool) {
			if !bind(fr) {
				return 0, false
			}
			return run(fr)
		}}
	}
	run := body.v
	return operand{kind: body.kind, v: func(fr *Frame) (Value, bool) {
		if !bind(fr) {
			return Value{}, false
		}
		return run(fr)
	}}
}

// enter makes variables visible.
func (c *compiler) enter(v ...variable) {
	c.variables = append(c.variables, v...)
	c.most = max(c.most, len(c.variables))
}

// exit makes the innermost n variables invisible again, and forgets what was known of them.
func (c *compiler) exit(n int) {
	left := len(c.variables) - n
	c.variables = c.variables[:left]
	c.known = slices.DeleteFunc(c.known, func(path string) bool { return localIndex(path) >= left })
}

// list compiles [a, b].
func (c *compiler) list(n *node) operand {
	if len(n.kids) == 0 {
		return operand{kind: List(Any), constant: &Value{}, v: func(*Frame) (Value, bool) { return ListValue(nil), true }}
	}
	kids, parts := c.parts(n)
	if anyBad(kids...) {
		return badOperand
	}
	elem := kids[0].kind
	for _, kid := range kids[1:] {
		elem = elem.join(kid.kind)
	}
	at := c.site(n)
	if elem.kind == KindFloat { // so that the ints among them become floats, too
		for i, kid := range kids {
			if kid.kind.kind == KindInt {
				parts[i] = checked(elem, c.site(n.kids[i]), parts[i])
			}
		}
	}
	return operand{kind: List(elem), constant: constants(kids...), v: func(fr *Frame) (Value, bool) {
		if !fr.grow(&at, int64(len(parts))*valueSize) {
			return Value{}, false
		}
		values := fr.list(len(parts))
		for _, part := range parts {
			v, ok := part(fr)
			if !ok {
				return Value{}, false
			}
			values = append(values, v)
		}
		return ListValue(values), true
	}}
}

// parts compiles all parts of a node, in their general form.
func (c *compiler) parts(n *node) ([]operand, []valueFunc) {
	kids, parts := make([]operand, len(n.kids)), make([]valueFunc, len(n.kids))
	for i, kid := range n.kids {
		kids[i] = c.compile(kid)
		parts[i] = kids[i].general()
	}
	return kids, parts
}

// object compiles {name: value}. A field whose value is missing is left out.
func (c *compiler) object(n *node) operand {
	kids, parts := c.parts(n)
	if anyBad(kids...) {
		return badOperand
	}
	fields := make([]Field, len(kids))
	order := make([]int, len(kids))
	for i, kid := range kids {
		fields[i], order[i] = Field{n.names[i], kid.kind}, i
	}
	slices.SortFunc(order, func(a, b int) int { return slices.Compare([]string{n.names[a]}, []string{n.names[b]}) })
	names := make([]string, len(kids))
	sorted := make([]valueFunc, len(kids))
	for to, from := range order {
		names[to], sorted[to] = n.names[from], parts[from]
	}
	at := c.site(n)
	return operand{kind: Object(fields...), constant: constants(kids...), v: func(fr *Frame) (Value, bool) {
		if !fr.grow(&at, int64(len(sorted))*valueSize) {
			return Value{}, false
		}
		values, missing := fr.list(len(sorted)), false
		for _, part := range sorted {
			v, ok := part(fr)
			if !ok {
				return Value{}, false
			}
			missing = missing || v.kind == KindMissing
			values = append(values, v)
		}
		if missing {
			return newObject(slices.Clone(names), values), true
		}
		return Value{kind: KindObject, parts: &content{names, values}}, true
	}}
}
