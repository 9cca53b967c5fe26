package expr

import (
	"slices"
	"strconv"
	"strings"
)

// A value whose type is optional has to be tested before it is used, as in x != null && x > 5. The compiler keeps the paths of values that such
// tests have found to be there, for the part of the expression behind the test. Paths are texts: "row.a.b" for a field, "$item.a" for a variable
// of the scope, "#2.a" for a variable of the expression.

// path returns the path of a part of the expression, or "" if it is not a name with fields behind it.
func (c *compiler) path(n *node) string {
	switch n.kind {
	case nodeName:
		if i := c.local(n.text); i >= 0 {
			return "#" + strconv.Itoa(i)
		}
		switch {
		case n.text == "row", n.text == "params":
			return n.text
		case slices.ContainsFunc(c.scope.variables, func(f Field) bool { return f.Name == n.text }):
			return "$" + n.text
		}
		return "row." + n.text
	case nodeField, nodeMaybe:
		if of := c.path(n.kids[0]); of != "" {
			return of + "." + n.text
		}
	case nodeIndex, nodeMaybeAt:
		if of := c.path(n.kids[0]); of != "" && n.kids[1].kind == nodeLiteral {
			return of + "." + literalText(n.kids[1].value)
		}
	}
	return ""
}

// localIndex returns the number of the variable that a path begins with, or -1.
func localIndex(path string) int {
	digits, ok := strings.CutPrefix(path, "#")
	if !ok {
		return -1
	}
	digits, _, _ = strings.Cut(digits, ".")
	i, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return i
}

// assume notes which values are there if a condition is met, or is not met. It returns the list of before, for restore.
func (c *compiler) assume(condition *node, met bool) []string {
	before := c.known
	c.known = append(slices.Clone(before), c.present(condition, met)...)
	return before
}

// present lists the paths of the values that are there if a condition is met, or is not met.
func (c *compiler) present(n *node, met bool) []string {
	switch {
	case n.kind == nodeUnary && n.text == "!":
		return c.present(n.kids[0], !met)
	case n.kind == nodeBinary && n.text == "&&" && met, n.kind == nodeBinary && n.text == "||" && !met:
		return append(c.present(n.kids[0], met), c.present(n.kids[1], met)...)
	case n.kind == nodeBinary && (n.text == "!=" && met || n.text == "==" && !met):
		for i, kid := range n.kids {
			if isNull(kid) {
				return c.withParents(n.kids[1-i])
			}
		}
	}
	return nil
}

// withParents lists the path of a value, and of the values that it was taken from with ?. on the way.
func (c *compiler) withParents(n *node) []string {
	var paths []string
	for {
		if path := c.path(n); path != "" {
			paths = append(paths, path)
		}
		if n.kind != nodeMaybe && n.kind != nodeMaybeAt && n.kind != nodeField && n.kind != nodeIndex {
			return paths
		}
		n = n.kids[0]
	}
}

// isNull reports whether a part is the literal null.
func isNull(n *node) bool { return n.kind == nodeLiteral && n.value.kind == KindNull }

// isMissing reports whether a part is the literal missing.
func isMissing(n *node) bool { return n.kind == nodeLiteral && n.value.kind == KindMissing }

// narrow makes an operand of a value that a test has found to be there one of a type that is not optional.
func (c *compiler) narrow(n *node, o operand) operand {
	if !o.kind.optional || o.kind.kind == KindNull || !slices.Contains(c.known, c.path(n)) {
		return o
	}
	return typed(o.kind.present(), c.site(n), checked(o.kind.present(), c.site(n), o.v))
}
