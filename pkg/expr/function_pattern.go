package expr

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// patternFunctions are the functions of regular expressions. Patterns are RE2, as in Go, whose time grows only with the length of the text, and are
// compiled with the expression.
var patternFunctions = []*function{
	{
		signature: "matches(text: string, pattern: constant string) -> bool", example: "matches(\"A-17\", `^[A-Z]-\\d+$`)", result: "true", run: runMatches, prepare: preparePattern,
		about: "Gives whether the pattern occurs in the text. Write ^ and $ to match the whole text.",
	},
	{
		signature: "find(text: string, pattern: constant string) -> string?", example: "find(\"order 17, 18\", `\\d+`) ?? \"none\"", result: `"17"`, run: runFind, prepare: preparePattern,
		about: "Gives the first part that matches; missing if there is none.",
	},
	{
		signature: "find_all(text: string, pattern: constant string) -> [string]", example: "find_all(\"order 17, 18\", `\\d+`)", result: `["17","18"]`, run: runFindAll, prepare: preparePattern,
		about: "Gives all parts that match.",
	},
	{
		signature: "captures(text: string, pattern: constant string) -> [string]?", example: "captures(\"a=1\", `(\\w+)=(\\w+)`)?.[2] ?? \"\"", result: `"1"`, run: runCaptures, prepare: preparePattern,
		about: "Gives the first part that matches, and then the parts in ( ) of the pattern; missing if nothing matches.",
	},
	{
		signature: "replace_pattern(text: string, pattern: constant string, by: string) -> string", example: "replace_pattern(\"2026-11\", `(\\d+)-(\\d+)`, \"$2/$1\")", result: `"11/2026"`, run: runReplacePattern, prepare: preparePattern,
		about: "Replaces each part that matches. In by, $1 stands for the first part in ( ), and $$ for $.",
	},
}

// pattern is a compiled regular expression.
type pattern struct {
	re   *regexp.Regexp
	size int64 // instructions of its program
}

// The bounds of a pattern: its length in bytes, and the size of its program.
const (
	maxPattern = 1000
	maxProgram = 2000
)

// compilePattern compiles a pattern of bounded size. The error is for the author of the expression.
func compilePattern(text string) (*pattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("is longer than %d bytes", maxPattern)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		if strings.Contains(text, "(?=") || strings.Contains(text, "(?!") || strings.Contains(text, "(?<=") || strings.Contains(text, "(?<!") {
			return nil, errors.New("looks ahead or behind, which RE2 can't do: use two patterns")
		}
		return nil, fmt.Errorf("is not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	size := programSize(tree)
	if size > maxProgram {
		return nil, fmt.Errorf("is too large: its repetitions multiply to more than %d steps", maxProgram)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("is not a regular expression: %w", err)
	}
	return &pattern{re, size}, nil
}

// programSize estimates how many instructions the program of a pattern has, before it is compiled.
func programSize(tree *syntax.Regexp) int64 {
	size := int64(1 + len(tree.Rune)/2)
	for _, sub := range tree.Sub {
		size += programSize(sub)
	}
	if tree.Op == syntax.OpRepeat {
		size *= int64(max(tree.Max, tree.Min, 1))
	}
	return min(size, 1<<40)
}

// preparePattern compiles the pattern of a call.
func preparePattern(c *compiler, n *node, call *call, args []operand) bool {
	if args[1].kind.kind != KindString {
		return true // argument has said so
	}
	p, err := compilePattern(args[1].constant.text)
	if err != nil {
		c.mistake(n.kids[1], "", "the pattern %s", err)
		return false
	}
	if c.patterns += p.size; c.patterns > 2*maxProgram {
		c.mistake(n.kids[1], "split the expression into several functions", "the patterns of the expression are too large together")
		return false
	}
	call.prepared = p
	return true
}

// scan counts the work of matching a text, and returns the pattern.
func (fr *Frame) scan(call *call, text string) (*regexp.Regexp, bool) {
	p := call.prepared.(*pattern)
	return p.re, fr.spend(&call.site, 1+int64(len(text))*p.size/64)
}

func runMatches(fr *Frame, call *call, args []Value) (Value, bool) {
	re, ok := fr.scan(call, args[0].text)
	if !ok {
		return Value{}, false
	}
	return BoolValue(re.MatchString(args[0].text)), true
}

func runFind(fr *Frame, call *call, args []Value) (Value, bool) {
	re, ok := fr.scan(call, args[0].text)
	if !ok {
		return Value{}, false
	}
	at := re.FindStringIndex(args[0].text)
	if at == nil {
		return Missing, true
	}
	return StringValue(args[0].text[at[0]:at[1]]), true
}

// findAll returns the places of all matches, each as offsets of the match and of its parts.
func (fr *Frame) findAll(call *call, text string) ([][]int, bool) {
	re, ok := fr.scan(call, text)
	if !ok {
		return nil, false
	}
	each := int64(64 + 16*(1+re.NumSubexp())) // bytes
	most := fr.bytes / each
	found := re.FindAllStringSubmatchIndex(text, int(most)+1)
	return found, fr.grow(&call.site, int64(len(found))*each)
}

func runFindAll(fr *Frame, call *call, args []Value) (Value, bool) {
	found, ok := fr.findAll(call, args[0].text)
	if !ok || !fr.grow(&call.site, int64(len(found))*valueSize) {
		return Value{}, false
	}
	values := fr.list(len(found))
	for _, at := range found {
		values = append(values, StringValue(args[0].text[at[0]:at[1]]))
	}
	return ListValue(values), true
}

func runCaptures(fr *Frame, call *call, args []Value) (Value, bool) {
	re, ok := fr.scan(call, args[0].text)
	if !ok {
		return Value{}, false
	}
	at := re.FindStringSubmatchIndex(args[0].text)
	if at == nil {
		return Missing, true
	}
	if !fr.grow(&call.site, int64(len(at)/2)*valueSize) {
		return Value{}, false
	}
	values := fr.list(len(at) / 2)
	for i := 0; i < len(at); i += 2 {
		if at[i] < 0 {
			values = append(values, StringValue(""))
			continue
		}
		values = append(values, StringValue(args[0].text[at[i]:at[i+1]]))
	}
	return ListValue(values), true
}

func runReplacePattern(fr *Frame, call *call, args []Value) (Value, bool) {
	text, by := args[0].text, args[2].text
	found, ok := fr.findAll(call, text)
	if !ok {
		return Value{}, false
	}
	re := call.prepared.(*pattern).re
	var b []byte
	from := 0
	for _, at := range found {
		// Each $ of by may stand for the whole match.
		most := at[0] - from + len(by) + strings.Count(by, "$")*(at[1]-at[0])
		if !fr.counted(&call.site, most) {
			return Value{}, false
		}
		b = append(b, text[from:at[0]]...)
		b = re.ExpandString(b, by, text, at)
		from = at[1]
	}
	if !fr.counted(&call.site, len(text)-from) {
		return Value{}, false
	}
	return StringValue(string(append(b, text[from:]...))), true
}
