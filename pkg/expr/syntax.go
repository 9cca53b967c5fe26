package expr

import (
	"strconv"
	"strings"
)

// nodeKind is the kind of a node of the syntax tree.
type nodeKind uint8

// The kinds of nodes, with an example of each.
const (
	nodeLiteral  nodeKind = iota // 12: value
	nodeName                     // score: text
	nodeField                    // kids[0].text
	nodeMaybe                    // kids[0]?.text
	nodeIndex                    // kids[0][kids[1]]
	nodeMaybeAt                  // kids[0]?.[kids[1]]
	nodeCall                     // text(kids...)
	nodeFunction                 // (names...) => kids[0]
	nodeUnary                    // text kids[0]
	nodeBinary                   // kids[0] text kids[1]
	nodeChoice                   // kids[0] ? kids[1] : kids[2]
	nodeList                     // [kids...]
	nodeObject                   // {names[i]: kids[i]}
	nodeLet                      // let names[0] = kids[0]; kids[1]
)

// node is a node of the syntax tree.
type node struct {
	kind     nodeKind
	from, to int // offsets in the text
	text     string
	value    Value
	names    []string
	kids     []*node
}

// The precedence of operators. An operator of a greater precedence binds closer.
const (
	precedenceLet = iota // also functions
	precedenceChoice
	precedenceElse // ??
	precedenceOr
	precedenceAnd
	precedenceCompare
	precedenceSum
	precedenceProduct
	precedenceUnary
	precedenceSuffix
)

// binaries are the precedences of binary operators.
var binaries = map[string]int{
	"??": precedenceElse, "||": precedenceOr, "&&": precedenceAnd,
	"==": precedenceCompare, "!=": precedenceCompare, "<": precedenceCompare, "<=": precedenceCompare, ">": precedenceCompare, ">=": precedenceCompare,
	"in": precedenceCompare, "not in": precedenceCompare, "+": precedenceSum, "-": precedenceSum, "*": precedenceProduct, "/": precedenceProduct,
}

// precedence returns how closely the outermost operator of a node binds.
func (n *node) precedence() int {
	switch n.kind {
	case nodeLet, nodeFunction:
		return precedenceLet
	case nodeChoice:
		return precedenceChoice
	case nodeBinary:
		return binaries[n.text]
	case nodeUnary:
		return precedenceUnary
	}
	return precedenceSuffix
}

// String returns the canonical text of the expression: the same tree, with single spaces and no needless parentheses.
func (n *node) String() string {
	var b strings.Builder
	n.write(&b, precedenceLet)
	return b.String()
}

// write writes the node, within parentheses if it binds less closely than least.
func (n *node) write(b *strings.Builder, least int) {
	if n.precedence() < least {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	switch n.kind {
	case nodeLiteral:
		b.WriteString(literalText(n.value))
	case nodeName:
		b.WriteString(n.text)
	case nodeField, nodeMaybe:
		n.kids[0].write(b, precedenceSuffix)
		if n.kind == nodeMaybe {
			b.WriteByte('?')
		}
		b.WriteString("." + n.text)
	case nodeIndex, nodeMaybeAt:
		n.kids[0].write(b, precedenceSuffix)
		if n.kind == nodeMaybeAt {
			b.WriteString("?.")
		}
		b.WriteByte('[')
		n.kids[1].write(b, precedenceLet)
		b.WriteByte(']')
	case nodeCall:
		b.WriteString(n.text + "(")
		printList(b, n.kids)
		b.WriteByte(')')
	case nodeFunction:
		if len(n.names) == 1 {
			b.WriteString(n.names[0])
		} else {
			b.WriteString("(" + strings.Join(n.names, ", ") + ")")
		}
		b.WriteString(" => ")
		n.kids[0].write(b, precedenceLet)
	case nodeUnary:
		b.WriteString(n.text)
		n.kids[0].write(b, precedenceUnary)
	case nodeBinary:
		left, right := binaries[n.text], binaries[n.text]+1
		if n.text == "??" {
			left, right = right, left
		}
		if binaries[n.text] == precedenceCompare {
			left++ // comparisons do not follow one another
		}
		n.kids[0].write(b, left)
		b.WriteString(" " + n.text + " ")
		n.kids[1].write(b, right)
	case nodeChoice:
		n.kids[0].write(b, precedenceElse)
		b.WriteString(" ? ")
		n.kids[1].write(b, precedenceChoice)
		b.WriteString(" : ")
		n.kids[2].write(b, precedenceChoice)
	case nodeList:
		b.WriteByte('[')
		printList(b, n.kids)
		b.WriteByte(']')
	case nodeObject:
		b.WriteByte('{')
		for i, name := range n.names {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(fieldText(name) + ": ")
			n.kids[i].write(b, precedenceLet)
		}
		b.WriteByte('}')
	case nodeLet:
		b.WriteString("let " + n.names[0] + " = ")
		n.kids[0].write(b, precedenceLet)
		b.WriteString("; ")
		n.kids[1].write(b, precedenceLet)
	}
}

// printList writes nodes with commas between them.
func printList(b *strings.Builder, nodes []*node) {
	for i, n := range nodes {
		if i > 0 {
			b.WriteString(", ")
		}
		n.write(b, precedenceLet)
	}
}

// literalText returns a literal as it is written in an expression.
func literalText(v Value) string {
	switch v.kind {
	case KindMissing:
		return "missing"
	case KindString:
		return textLiteral(v.text)
	case KindFloat:
		text := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text
	}
	text, _ := appendJSON(nil, v, nil) // other literals are null, true, false and ints
	return string(text)
}

// textLiteral returns a text within double quotes, as it is written in an expression.
func textLiteral(text string) string {
	return string(appendQuoted(nil, text))
}
