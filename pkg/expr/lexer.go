package expr

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind is the kind of a token.
type tokenKind uint8

// The kinds of tokens.
const (
	tokenEnd tokenKind = iota
	tokenName
	tokenKeyword
	tokenNumber
	tokenText
	tokenMark // an operator or another mark of punctuation
)

// token is one word of an expression.
type token struct {
	kind     tokenKind
	from, to int    // offsets in the text
	text     string // the name, the mark, or the content of a text
	value    Value  // of a number
}

// keywords are the words that can't be names of variables.
var keywords = map[string]bool{
	"true": true, "false": true, "null": true, "missing": true, "let": true, "in": true, "not": true, "and": true, "or": true, "row": true, "params": true,
}

// marks are the operators and other marks, the longest first.
var marks = []string{"?.", "??", "=>", "==", "!=", "<=", ">=", "&&", "||", "+", "-", "*", "/", "<", ">", "=", "!", "?", ":", ".", ",", ";", "(", ")", "[", "]", "{", "}"}

// foreignMarks are marks of other languages, with the edit.
var foreignMarks = []struct{ mark, message, edit string }{
	{"===", "=== is no operator", "write =="},
	{"!==", "!== is no operator", "write !="},
	{"<>", "<> is no operator", "write !="},
	{"=~", "=~ is no operator", "write matches(text, pattern)"},
	{":=", ":= is no operator", "write let name = value; and the expression behind it"},
	{"//", "// is no operator, and there are no comments in an expression", "write div(a, b) for a whole quotient, or # for a comment on a YAML line of its own"},
	{"**", "** is no operator", "write a * a"},
	{"++", "++ is no operator", "write + 1"},
	{"->", "-> is no operator", "write name => value"},
	{"%", "% is no operator", "write mod(a, b)"},
	{"^", "^ is no operator", "write a * a"},
	{"&", "& is no operator", "write &&"},
	{"|", "| is no operator", "write ||, or put one function into the other: f(g(x))"},
	{"~", "~ is no operator", "write matches(text, pattern)"},
	{"@", "@ means nothing in an expression", "write the field's name alone, or row[\"@name\"] if it is a part of the name"},
	{"$", "$ means nothing in an expression", "write the field's name alone, or row[\"$name\"] if it is a part of the name"},
	{"#", "# means nothing in an expression", "put a comment on a YAML line of its own"},
	{"\\", "\\ is only for escapes in texts", "write it within quotes"},
}

// isName reports whether a text can be written as a name: a letter or _, and then letters, digits and _.
func isName(text string) bool {
	for i, c := range text {
		if c != '_' && !unicode.IsLetter(c) && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return text != "" && utf8.ValidString(text)
}

// lexer cuts a text into tokens. at is the offset of the next byte.
type lexer struct {
	source *Source
	at     int
}

// mistake makes a mistake about a part of the text.
func (l *lexer) mistake(from, to int, message, edit string) *Mistake {
	return &Mistake{Source: l.source, From: from, To: to, Message: message, Edit: edit}
}

// tokens cuts the whole text. The last token is tokenEnd.
func (l *lexer) tokens() ([]token, *Mistake) {
	for i, c := range l.source.Text {
		if c == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(l.source.Text[i:]); size == 1 {
				return nil, l.mistake(i, i+1, "a byte is not UTF-8", "save the document as UTF-8")
			}
		}
	}
	var tokens []token
	for {
		t, mistake := l.next()
		if mistake != nil {
			return nil, mistake
		}
		tokens = append(tokens, t)
		if t.kind == tokenEnd {
			return tokens, nil
		}
	}
}

// next reads one token.
func (l *lexer) next() (token, *Mistake) {
	text := l.source.Text
	for l.at < len(text) && strings.IndexByte(" \t\r\n", text[l.at]) >= 0 {
		l.at++
	}
	from := l.at
	if from == len(text) {
		return token{kind: tokenEnd, from: from, to: from}, nil
	}
	c, size := utf8.DecodeRuneInString(text[from:])
	switch {
	case c == '_' || unicode.IsLetter(c):
		for l.at < len(text) {
			c, size := utf8.DecodeRuneInString(text[l.at:])
			if c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
				break
			}
			l.at += size
		}
		t := token{kind: tokenName, from: from, to: l.at, text: text[from:l.at]}
		if keywords[t.text] {
			t.kind = tokenKeyword
		}
		return t, nil
	case '0' <= c && c <= '9':
		return l.number()
	case c == '"' || c == '\'':
		return l.quoted(byte(c))
	case c == '`':
		end := strings.IndexByte(text[from+1:], '`')
		if end < 0 {
			return token{}, l.mistake(from, len(text), "this text has no end", "write a ` behind it")
		}
		l.at = from + 1 + end + 1
		return token{kind: tokenText, from: from, to: l.at, text: text[from+1 : l.at-1]}, nil
	}
	mark := ownMark(text[from:])
	for _, foreign := range foreignMarks {
		if len(foreign.mark) > len(mark) && strings.HasPrefix(text[from:], foreign.mark) {
			return token{}, l.mistake(from, from+len(foreign.mark), foreign.message, foreign.edit)
		}
	}
	if mark != "" {
		l.at += len(mark)
		return token{kind: tokenMark, from: from, to: l.at, text: mark}, nil
	}
	if c == '“' || c == '”' || c == '‘' || c == '’' || c == '„' {
		return token{}, l.mistake(from, from+size, "this is a printer's quotation mark", `write " or '`)
	}
	return token{}, l.mistake(from, from+size, fmt.Sprintf("%q means nothing in an expression", c), "")
}

// ownMark returns the mark of this language with which a text begins, or "".
func ownMark(text string) string {
	for _, mark := range marks {
		if strings.HasPrefix(text, mark) {
			return mark
		}
	}
	return ""
}

// number reads a number: 12, 1_000, 0x1F, 1.5 or 2e-3.
func (l *lexer) number() (token, *Mistake) {
	text, from, float := l.source.Text, l.at, false
	digits := func() {
		for l.at < len(text) && ('0' <= text[l.at] && text[l.at] <= '9' || text[l.at] == '_') {
			l.at++
		}
	}
	hex := strings.HasPrefix(text[from:], "0x") || strings.HasPrefix(text[from:], "0X")
	if hex {
		l.at += 2
	}
	digits()
	if !hex && l.at+1 < len(text) && text[l.at] == '.' && '0' <= text[l.at+1] && text[l.at+1] <= '9' {
		float = true
		l.at++
		digits()
	}
	if !hex && l.at < len(text) && (text[l.at] == 'e' || text[l.at] == 'E') {
		float = true
		l.at++
		if l.at < len(text) && (text[l.at] == '+' || text[l.at] == '-') {
			l.at++
		}
		digits()
	}
	for l.at < len(text) { // letters that belong to no number, so that the message shows them
		c, size := utf8.DecodeRuneInString(text[l.at:])
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			break
		}
		l.at += size
	}
	t := token{kind: tokenNumber, from: from, to: l.at, text: text[from:l.at]}
	written := t.text
	if !hex && len(written) > 1 && written[0] == '0' && !float {
		return token{}, l.mistake(from, l.at, written+" begins with 0, which means base 8 in other languages", "leave the 0 away, or write quotes around it if it is a text")
	}
	if float {
		f, err := strconv.ParseFloat(strings.ReplaceAll(written, "_", ""), 64)
		if err != nil {
			return token{}, l.mistake(from, l.at, written+" is not a number that a float can hold", "write a number such as 1.5 or 2e-3")
		}
		t.value = floatValue(f)
		return t, nil
	}
	n, err := strconv.ParseInt(written, 0, 64)
	if err != nil {
		message, edit := written+" is not a number", "write a number such as 12 or 1.5; a name can't begin with a digit: write row[\"2nd\"] for such a field"
		if strings.Trim(written, "0123456789_") == "" || hex && strings.Trim(written[2:], "0123456789abcdefABCDEF_") == "" && len(written) > 2 {
			message, edit = written+" is outside of 64 bits", "the greatest int is 9223372036854775807"
		}
		for _, unit := range []string{"ns", "us", "ms", "s", "m", "h"} {
			if digits, ok := strings.CutSuffix(written, unit); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
				message, edit = written+" is not a number", fmt.Sprintf("write duration(%q)", written)
			}
		}
		return token{}, l.mistake(from, l.at, message, edit)
	}
	t.value = IntValue(n)
	return t, nil
}

// quoted reads a text within quotes, with the escapes of JSON, and \' as well.
func (l *lexer) quoted(quote byte) (token, *Mistake) {
	text, from := l.source.Text, l.at
	var b strings.Builder
	l.at++
	for {
		if l.at >= len(text) || text[l.at] == '\n' {
			return token{}, l.mistake(from, l.at, "this text has no end on its line", fmt.Sprintf("write a %c behind it, and \\n for a line break within", quote))
		}
		c := text[l.at]
		switch {
		case c == quote:
			l.at++
			return token{kind: tokenText, from: from, to: l.at, text: b.String()}, nil
		case c != '\\':
			_, size := utf8.DecodeRuneInString(text[l.at:])
			b.WriteString(text[l.at : l.at+size])
			l.at += size
		default:
			size := l.escape(&b)
			if size == 0 {
				to := min(l.at+2, len(text))
				return token{}, l.mistake(l.at, to, text[l.at:to]+" is no escape", "write \\\\ for a backslash, or put a pattern between backquotes: `\\d+`")
			}
			l.at += size
		}
	}
}

// escape reads an escape and writes the character that it stands for. It returns the length of the escape, or 0 if there is no such escape.
func (l *lexer) escape(b *strings.Builder) int {
	rest := l.source.Text[l.at:]
	if len(rest) < 2 {
		return 0
	}
	if i := strings.IndexByte(`"'\/bfnrt`, rest[1]); i >= 0 {
		b.WriteByte("\"'\\/\b\f\n\r\t"[i])
		return 2
	}
	unit := func(s string) rune {
		if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(s[2:6], 16, 32)
		if err != nil {
			return -1
		}
		return rune(n)
	}
	first := unit(rest)
	if first < 0 {
		return 0
	}
	if 0xD800 <= first && first < 0xDC00 { // the first half of a character outside of the basic plane
		if second := unit(rest[6:]); 0xDC00 <= second && second < 0xE000 {
			b.WriteRune((first-0xD800)<<10 + (second - 0xDC00) + 0x10000)
			return 12
		}
	}
	b.WriteRune(first) // an unpaired half becomes U+FFFD, as in JSON
	return 6
}
