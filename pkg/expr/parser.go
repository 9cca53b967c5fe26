package expr

import (
	"fmt"
	"slices"
)

// The bounds of one expression.
const (
	// MaxText is the greatest length of an expression in bytes.
	MaxText = 16 << 10
	// MaxNodes is the greatest number of names, literals, operators and calls in an expression.
	MaxNodes = 2000
	// maxDepth is the deepest nesting of parentheses, operators and calls.
	maxDepth = 100
)

// parser reads tokens as a tree. at is the number of the next token.
type parser struct {
	source *Source
	tokens []token
	at     int
	depth  int
	nodes  int
}

// parse reads an expression.
func parse(source *Source) (*node, *Mistake) {
	if len(source.Text) > MaxText {
		return nil, &Mistake{Source: source, Message: fmt.Sprintf("the expression is longer than %d bytes", MaxText), Edit: "split it into several functions"}
	}
	tokens, mistake := (&lexer{source: source}).tokens()
	if mistake != nil {
		return nil, mistake
	}
	p := &parser{source: source, tokens: tokens}
	if tokens[0].kind == tokenEnd {
		return nil, p.mistake(tokens[0], "the expression is empty", "write one such as score > 60")
	}
	n, mistake := p.expression()
	if mistake != nil {
		return nil, mistake
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, p.surplus(t)
	}
	return n, nil
}

// surplus says that a token stands behind the end of an expression.
func (p *parser) surplus(t token) *Mistake {
	edit := "put an operator before it, or take it away"
	switch {
	case t.text == ")" || t.text == "]" || t.text == "}":
		return p.mistake(t, t.text+" closes nothing", "take it away, or write its opening mark")
	case t.text == "=":
		return p.mistake(t, "= does not compare", "write ==")
	case t.text == ";":
		edit = "write ; only behind let name = value"
	case t.text == "=>":
		edit = "a function such as x => x + 1 stands only within a call, as in map(list, x => x + 1)"
	case t.text == "is", t.text == "eq", t.text == "equals":
		edit = "write =="
	case t.text == "if", t.text == "then", p.at > 0 && p.tokens[p.at-1].text == "if", t.text == "else", t.text == "when":
		edit = "write condition ? value : other"
	}
	return p.mistake(t, fmt.Sprintf("the expression should end before %s", t.shown()), edit)
}

// shown returns the token as a message names it.
func (t token) shown() string {
	switch t.kind {
	case tokenEnd:
		return "the end"
	case tokenText:
		return "this text"
	}
	return t.text
}

// mistake makes a mistake about a token.
func (p *parser) mistake(t token, message, edit string) *Mistake {
	return &Mistake{Source: p.source, From: t.from, To: t.to, Message: message, Edit: edit}
}

// peek returns the next token without taking it.
func (p *parser) peek() token { return p.tokens[p.at] }

// ahead returns the token behind the next n ones.
func (p *parser) ahead(n int) token { return p.tokens[min(p.at+n, len(p.tokens)-1)] }

// is reports whether the token is this mark or keyword.
func (t token) is(text string) bool {
	return (t.kind == tokenMark || t.kind == tokenKeyword) && t.text == text
}

// take takes the next token if it is this mark or keyword.
func (p *parser) take(text string) bool {
	if p.peek().is(text) {
		p.at++
		return true
	}
	return false
}

// closing takes the mark that closes an opened one.
func (p *parser) closing(open token, mark string) *Mistake {
	if p.take(mark) {
		return nil
	}
	t := p.peek()
	if t.kind == tokenEnd {
		return p.mistake(open, fmt.Sprintf("this %s has no %s", open.text, mark), "write "+mark+" where it ends")
	}
	if t.is("=") || t.is("=>") {
		return p.surplus(t)
	}
	return p.mistake(t, fmt.Sprintf("%s is expected here; found %s", mark, t.shown()), fmt.Sprintf("write %s, or a comma or an operator before %s", mark, t.shown()))
}

// node counts a node and returns it. The size of an expression is bounded.
func (p *parser) node(n node) (*node, *Mistake) {
	if p.nodes++; p.nodes > MaxNodes {
		return nil, &Mistake{Source: p.source, From: n.from, To: n.to, Message: fmt.Sprintf("the expression has more than %d parts", MaxNodes), Edit: "split it into several functions"}
	}
	return &n, nil
}

// enter counts one more level of nesting. leave has to follow.
func (p *parser) enter() *Mistake {
	if p.depth++; p.depth > maxDepth {
		return p.mistake(p.peek(), fmt.Sprintf("the expression is nested more than %d deep", maxDepth), "give a part of it a name: let name = value; and the rest behind it")
	}
	return nil
}

// leave ends a level of nesting.
func (p *parser) leave() { p.depth-- }

// expression reads a let, a function or a choice.
func (p *parser) expression() (*node, *Mistake) {
	if mistake := p.enter(); mistake != nil {
		return nil, mistake
	}
	defer p.leave()
	switch t := p.peek(); {
	case t.is("let"):
		return p.let()
	case t.kind == tokenName && p.ahead(1).is("=>"):
		p.at += 2
		return p.function(t, []string{t.text})
	case t.is("("):
		if names, length := p.parameters(); length > 0 {
			p.at += length
			return p.function(t, names)
		}
	case t.kind == tokenKeyword && p.ahead(1).is("=>"):
		return nil, p.mistake(t, t.text+" can't be the name of a variable", "take another name")
	}
	return p.choice()
}

// parameters reports whether (a, b) => comes next, and how many tokens that is.
func (p *parser) parameters() (names []string, length int) {
	for length = 1; p.ahead(length).kind == tokenName; length += 2 {
		names = append(names, p.ahead(length).text)
		if !p.ahead(length + 1).is(",") {
			if p.ahead(length+1).is(")") && p.ahead(length+2).is("=>") {
				return names, length + 3
			}
			break
		}
	}
	return nil, 0
}

// function reads the body of a function whose parameters have been read.
func (p *parser) function(first token, names []string) (*node, *Mistake) {
	body, mistake := p.expression()
	if mistake != nil {
		return nil, mistake
	}
	return p.node(node{kind: nodeFunction, from: first.from, to: body.to, names: names, kids: []*node{body}})
}

// let reads let name = value; body.
func (p *parser) let() (*node, *Mistake) {
	first := p.peek()
	p.at++
	name := p.peek()
	if name.kind != tokenName {
		return nil, p.mistake(name, fmt.Sprintf("let needs a name; found %s", name.shown()), "write let name = value; and the expression behind it")
	}
	p.at++
	if t := p.peek(); !p.take("=") {
		return nil, p.mistake(t, fmt.Sprintf("= is expected here; found %s", t.shown()), "write let "+name.text+" = value; and the expression behind it")
	}
	value, mistake := p.choice()
	if mistake != nil {
		return nil, mistake
	}
	if t := p.peek(); !p.take(";") {
		return nil, p.mistake(t, fmt.Sprintf("; is expected here; found %s", t.shown()), "write let "+name.text+" = value; and the expression behind it")
	}
	body, mistake := p.expression()
	if mistake != nil {
		return nil, mistake
	}
	return p.node(node{kind: nodeLet, from: first.from, to: body.to, names: []string{name.text}, kids: []*node{value, body}})
}

// choice reads condition ? value : other, or only a condition.
func (p *parser) choice() (*node, *Mistake) {
	condition, mistake := p.binary(precedenceElse)
	if mistake != nil || !p.peek().is("?") {
		return condition, mistake
	}
	mark := p.peek()
	p.at++
	kids := []*node{condition, nil, nil}
	for i := 1; i <= 2; i++ {
		if i == 2 && !p.take(":") {
			t := p.peek()
			return nil, p.mistake(mark, fmt.Sprintf("this ? has no : before %s", t.shown()), "write condition ? value : other")
		}
		if mistake := p.enter(); mistake != nil {
			return nil, mistake
		}
		if kids[i], mistake = p.choice(); mistake != nil {
			return nil, mistake
		}
		p.leave()
	}
	return p.node(node{kind: nodeChoice, from: condition.from, to: kids[2].to, kids: kids})
}

// operator returns the binary operator that comes next, and how many tokens it is; "" if none comes.
func (p *parser) operator() (text string, length int) {
	t := p.peek()
	switch {
	case t.is("and"):
		return "&&", 1
	case t.is("or"):
		return "||", 1
	case t.is("not") && p.ahead(1).is("in"):
		return "not in", 2
	case t.kind == tokenMark || t.is("in"):
		if binaries[t.text] > 0 {
			return t.text, 1
		}
	}
	return "", 0
}

// binary reads operators that bind at least as closely as least.
func (p *parser) binary(least int) (*node, *Mistake) {
	left, mistake := p.unary()
	if mistake != nil {
		return nil, mistake
	}
	for {
		mark := p.peek()
		text, length := p.operator()
		precedence := binaries[text]
		if length == 0 || precedence < least {
			return left, nil
		}
		p.at += length
		next := precedence + 1
		if text == "??" {
			next = precedence
		}
		if mistake := p.enter(); mistake != nil {
			return nil, mistake
		}
		right, mistake := p.binary(next)
		if mistake != nil {
			return nil, mistake
		}
		p.leave()
		if precedence == precedenceCompare {
			if again, length := p.operator(); length > 0 && binaries[again] == precedenceCompare {
				return nil, p.mistake(p.peek(), "comparisons can't follow one another", "write a < b && b < c, or parentheses around one of them")
			}
		}
		if left, mistake = p.node(node{kind: nodeBinary, text: text, from: left.from, to: right.to, kids: []*node{left, right}, names: []string{mark.text}}); mistake != nil {
			return nil, mistake
		}
	}
}

// unary reads a sign or a negation, and the value behind it.
func (p *parser) unary() (*node, *Mistake) {
	t := p.peek()
	text := t.text
	switch {
	case t.is("not"):
		text = "!"
	case t.is("+"):
		return nil, p.mistake(t, "a number has no + before it", "leave the + away")
	case !t.is("-") && !t.is("!"):
		return p.suffix()
	}
	p.at++
	if mistake := p.enter(); mistake != nil {
		return nil, mistake
	}
	defer p.leave()
	kid, mistake := p.unary()
	if mistake != nil {
		return nil, mistake
	}
	return p.node(node{kind: nodeUnary, text: text, from: t.from, to: kid.to, kids: []*node{kid}})
}

// suffix reads a value and the fields and elements that are taken of it.
func (p *parser) suffix() (*node, *Mistake) {
	n, mistake := p.primary()
	for mistake == nil {
		t := p.peek()
		switch {
		case t.is(".") || t.is("?."):
			p.at++
			name := p.peek()
			if t.is("?.") && name.is("[") {
				n, mistake = p.index(n, nodeMaybeAt)
				continue
			}
			if name.kind != tokenName && name.kind != tokenKeyword {
				edit := "write the field's name behind it, or [\"name\"] for a name with other characters"
				if name.kind == tokenNumber {
					edit = "write [" + name.text + "] for an element of a list"
				}
				return nil, p.mistake(name, fmt.Sprintf("a field's name is expected behind %s; found %s", t.text, name.shown()), edit)
			}
			p.at++
			if open := p.peek(); open.is("(") {
				args := ", …"
				if p.ahead(1).is(")") {
					args = ""
				}
				edit := fmt.Sprintf("write %s(%s%s)", name.text, p.source.Text[n.from:n.to], args)
				return nil, &Mistake{Source: p.source, From: t.from, To: open.to, Message: "values have no functions of their own", Edit: edit}
			}
			kind := nodeField
			if t.is("?.") {
				kind = nodeMaybe
			}
			n, mistake = p.node(node{kind: kind, text: name.text, from: n.from, to: name.to, kids: []*node{n}})
		case t.is("["):
			n, mistake = p.index(n, nodeIndex)
		case t.is("("):
			return nil, p.mistake(t, "only a function can be called", "write an operator between them, or a function's name before the (")
		default:
			return n, nil
		}
	}
	return nil, mistake
}

// index reads [element] behind a value.
func (p *parser) index(of *node, kind nodeKind) (*node, *Mistake) {
	open := p.peek()
	p.at++
	element, mistake := p.expression()
	if mistake != nil {
		return nil, mistake
	}
	if p.peek().is(":") {
		return nil, p.mistake(p.peek(), ": can't stand within [ ]", "write slice(list, from, to) for a part of a list, or substring(text, from, to)")
	}
	if mistake := p.closing(open, "]"); mistake != nil {
		return nil, mistake
	}
	return p.node(node{kind: kind, from: of.from, to: p.tokens[p.at-1].to, kids: []*node{of, element}})
}

// primary reads a literal, a name, a call, a list, an object, or an expression within parentheses.
func (p *parser) primary() (*node, *Mistake) {
	t := p.peek()
	p.at++
	switch {
	case t.kind == tokenNumber:
		return p.node(node{kind: nodeLiteral, from: t.from, to: t.to, value: t.value})
	case t.kind == tokenText:
		return p.node(node{kind: nodeLiteral, from: t.from, to: t.to, value: StringValue(t.text)})
	case t.kind == tokenName && p.peek().is("("):
		return p.call(t)
	case t.kind == tokenName, t.is("row"), t.is("params"):
		return p.node(node{kind: nodeName, text: t.text, from: t.from, to: t.to})
	case t.kind == tokenKeyword:
		if i := slices.Index([]string{"missing", "null", "false", "true"}, t.text); i >= 0 {
			return p.node(node{kind: nodeLiteral, from: t.from, to: t.to, value: []Value{Missing, Null, BoolValue(false), BoolValue(true)}[i]})
		}
	case t.is("("):
		n, mistake := p.expression()
		if mistake != nil {
			return nil, mistake
		}
		mistake = p.closing(t, ")")
		n.from, n.to = t.from, p.tokens[p.at-1].to // so that texts and carets have the parentheses
		return n, mistake
	case t.is("["):
		kids, mistake := p.list(t, "]")
		if mistake != nil {
			return nil, mistake
		}
		return p.node(node{kind: nodeList, from: t.from, to: p.tokens[p.at-1].to, kids: kids})
	case t.is("{"):
		return p.object(t)
	}
	p.at--
	edit := "write a name, a number, a text within quotes, or a call"
	if t.kind == tokenKeyword {
		edit = fmt.Sprintf("write row[%q] if it is a field's name", t.text)
	}
	return nil, p.mistake(t, fmt.Sprintf("a value is expected here; found %s", t.shown()), edit)
}

// call reads the arguments of a function.
func (p *parser) call(name token) (*node, *Mistake) {
	open := p.peek()
	p.at++
	kids, mistake := p.list(open, ")")
	if mistake != nil {
		return nil, mistake
	}
	return p.node(node{kind: nodeCall, text: name.text, from: name.from, to: p.tokens[p.at-1].to, kids: kids})
}

// list reads expressions with commas between them, up to the closing mark. A comma may follow the last one.
func (p *parser) list(open token, mark string) ([]*node, *Mistake) {
	var kids []*node
	for !p.peek().is(mark) {
		kid, mistake := p.expression()
		if mistake != nil {
			return nil, mistake
		}
		kids = append(kids, kid)
		if !p.take(",") {
			break
		}
	}
	return kids, p.closing(open, mark)
}

// object reads {name: value, "other name": value}.
func (p *parser) object(open token) (*node, *Mistake) {
	n := node{kind: nodeObject, from: open.from}
	for !p.peek().is("}") {
		name := p.peek()
		if name.kind != tokenName && name.kind != tokenKeyword && name.kind != tokenText {
			edit := "write {name: value} or {\"name\": value}"
			if name.is("{") {
				edit = "write the name alone: an expression needs no {{ }}"
			}
			return nil, p.mistake(name, fmt.Sprintf("a field's name is expected here; found %s", name.shown()), edit)
		}
		p.at++
		if t := p.peek(); !p.take(":") {
			return nil, p.mistake(t, fmt.Sprintf(": is expected behind the field's name; found %s", t.shown()), "write {name: value}")
		}
		if slices.Contains(n.names, name.text) {
			return nil, p.mistake(name, fmt.Sprintf("the object has the field %s twice", fieldText(name.text)), "leave one of them")
		}
		value, mistake := p.expression()
		if mistake != nil {
			return nil, mistake
		}
		n.names, n.kids = append(n.names, name.text), append(n.kids, value)
		if !p.take(",") {
			break
		}
	}
	if mistake := p.closing(open, "}"); mistake != nil {
		return nil, mistake
	}
	n.to = p.tokens[p.at-1].to
	return p.node(n)
}
