package expr

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ReadJSON reads those fields of a row of JSON that the expressions of the scope read, and sets them as inputs of the frame. Where a field occurs
// twice, the last one counts. As in encoding/json, a name that differs only in the case of letters counts too, unless an expression reads a field of just
// that name; but the keys of the row as a whole are as they are spelled. Variables of the scope are not set. The error is a *Failure: the row is not an
// object of JSON, or a field has another type than declared.
func (s *Scope) ReadJSON(fr *Frame, row string) error {
	r := reader{text: row, fr: fr, at: rowSite}
	if !r.row(s.inputs) {
		return fr.failed()
	}
	return nil
}

// rowSite stands for the row as a whole, which is no part of an expression.
var rowSite = &site{source: &Source{}}

// reader reads JSON. next is the offset of the next byte, and depth the number of lists and objects around it. Failures are at the site at.
type reader struct {
	text  string
	next  int
	depth int
	fr    *Frame
	at    *site
}

// fail notes that the text is not JSON.
func (r *reader) fail() bool {
	return r.fr.fail(r.at, ReasonValue, "the text is not JSON")
}

// space skips white space, and returns the next byte; 0 at the end.
func (r *reader) space() byte {
	for r.next < len(r.text) {
		switch c := r.text[r.next]; c {
		case ' ', '\t', '\r', '\n':
			r.next++
		default:
			return c
		}
	}
	return 0
}

// document reads one value that is the whole text.
func (r *reader) document() (Value, bool) {
	v, ok := r.value()
	if ok && (r.space() != 0 || r.next < len(r.text)) {
		return Value{}, r.fail()
	}
	return v, ok
}

// row reads an object into the inputs.
func (r *reader) row(inputs []Input) bool {
	wholeRow := -1
	for i := range inputs {
		if inputs[i].Name == "" && !inputs[i].Variable {
			wholeRow = i
		}
	}
	if wholeRow >= 0 {
		v, ok := r.document()
		switch {
		case !ok:
			return false
		case v.kind != KindObject:
			return r.fr.fail(r.at, ReasonType, "the row is "+withArticle(v.kind)+", and no object")
		}
		if v, ok = r.fit(v, inputs[wholeRow].Type, "the row"); !ok {
			return false
		}
		r.fr.inputs[wholeRow] = v
		r.next = 0 // single fields are read once more, by the rules for their names
	}
	if r.space() != '{' {
		return r.fr.fail(r.at, ReasonType, "the row is no object of JSON")
	}
	r.next++
	if r.space() == '}' {
		r.next++
		return r.end()
	}
	expected := 0 // rows mostly have their fields in one order, so the next input is tried first
	for {
		i := expected
		ok := i < len(inputs) && !inputs[i].Variable && inputs[i].Name != "" && r.keyIs(inputs[i].Name)
		var name string
		if ok {
			name = inputs[i].Name
		} else {
			if name, ok = r.key(); !ok {
				return false
			}
			i = findInput(inputs, name)
		}
		if i < 0 {
			if !r.skip() {
				return false
			}
		} else {
			if r.fr.inputs[i], ok = r.typed(inputs[i].Type, name); !ok {
				return false
			}
			expected = i + 1
		}
		switch r.space() {
		case ',':
			r.next++
		case '}':
			r.next++
			return r.end()
		default:
			return r.fail()
		}
	}
}

// findInput returns the number of the input for a field of the row, or -1. The input without a name is the row as a whole.
func findInput(inputs []Input, name string) int {
	for i := range inputs {
		if inputs[i].Name == name && !inputs[i].Variable && name != "" {
			return i
		}
	}
	for i := range inputs {
		if has := inputs[i].Name; has != "" && !inputs[i].Variable && (len(has) == len(name) || !isASCII(has) || !isASCII(name)) && strings.EqualFold(has, name) {
			return i
		}
	}
	return -1
}

// isASCII reports whether a text has only characters of ASCII.
func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// end checks that nothing stands behind the row.
func (r *reader) end() bool {
	if r.space(); r.next < len(r.text) {
		return r.fail()
	}
	return true
}

// keyIs reads the name of a field and the colon behind it, if they come next in the most frequent form: without escapes and spaces.
func (r *reader) keyIs(name string) bool {
	end := r.next + 1 + len(name)
	if end+1 < len(r.text) && r.text[r.next] == '"' && r.text[r.next+1:end] == name && r.text[end] == '"' && r.text[end+1] == ':' && isName(name) {
		r.next = end + 2
		return true
	}
	return false
}

// key reads the name of a field and the colon behind it.
func (r *reader) key() (string, bool) {
	if r.space() != '"' {
		return "", r.fail()
	}
	name, ok := r.quoted()
	if !ok {
		return "", false
	}
	if r.space() != ':' {
		return "", r.fail()
	}
	r.next++
	return name, true
}

// typed reads the value of a field that has the type t.
func (r *reader) typed(t Type, name string) (Value, bool) {
	c := r.space()
	if t.kind == KindInt && (c == '-' || '0' <= c && c <= '9') {
		if n, ok := r.shortInt(); ok {
			return IntValue(n), true
		}
	}
	v, ok := r.value()
	if !ok {
		return v, false
	}
	return r.fit(v, t, fieldText(name))
}

// shortInt reads an int of at most 18 digits, if one comes next.
func (r *reader) shortInt() (int64, bool) {
	i, n := r.next, int64(0)
	negative := r.text[i] == '-'
	if negative {
		i++
	}
	first := i
	for i < len(r.text) && '0' <= r.text[i] && r.text[i] <= '9' {
		n = n*10 + int64(r.text[i]-'0')
		if i++; i-first > 18 {
			return 0, false
		}
	}
	if i == first || i-first > 1 && r.text[first] == '0' || i < len(r.text) && (r.text[i] == '.' || r.text[i] == 'e' || r.text[i] == 'E') {
		return 0, false
	}
	r.next = i
	if negative {
		n = -n
	}
	return n, true
}

// fit turns a value as it stands in JSON into one of the type t: a text into a time or a duration, an int into a float. It fails if the value has
// another type. Null and missing pass: an expression that needs the value says so. of names the value in messages.
func (r *reader) fit(v Value, t Type, of string) (Value, bool) {
	if v.Absent() {
		return v, true
	}
	fail := func(message string) (Value, bool) {
		return Value{}, r.fr.fail(r.at, ReasonType, of+" is "+withArticle(v.kind)+" and was declared as "+t.String()+message)
	}
	switch kind := t.kind; {
	case kind == KindAny:
		return v, true
	case kind == KindTime && v.kind == KindString:
		at, err := time.Parse(time.RFC3339, v.text)
		if err != nil {
			return fail(", and it is not a time of RFC 3339")
		}
		return r.fr.bounded(r.at, TimeValue(at))
	case kind == KindDuration && v.kind == KindString:
		d, err := time.ParseDuration(v.text)
		if err != nil {
			return fail(", and it is not a duration such as 1h30m")
		}
		return DurationValue(d), true
	case kind == KindFloat && v.kind == KindInt:
		f, ok := exactFloat(int64(v.bits))
		if !ok {
			return fail(", which can't hold it exactly")
		}
		return floatValue(f), true
	case kind == KindList && v.kind == KindList:
		return r.fitParts(v, of, func(int) Type { return t.Elem() })
	case kind == KindMap && v.kind == KindObject:
		return r.fitParts(v, of, func(int) Type { return t.Elem() })
	case kind == KindObject && v.kind == KindObject:
		return r.fitParts(v, of, func(i int) Type {
			if f, ok := t.field(v.parts.keys[i]); ok {
				return f
			}
			return Any
		})
	case kind != v.kind:
		return fail("")
	}
	return v, true
}

// fitParts fits the elements of a list or the fields of an object.
func (r *reader) fitParts(v Value, of string, types func(i int) Type) (Value, bool) {
	row := of == "the row"
	if !row && !strings.HasPrefix(of, "a part of ") {
		of = "a part of " + of
	}
	out := v
	for i, part := range v.parts.values {
		if row {
			of = fieldText(v.parts.keys[i])
		}
		fitted, ok := r.fit(part, types(i), of)
		if !ok {
			return Value{}, false
		}
		if fitted.kind != part.kind {
			if out.parts == v.parts {
				out.parts = &content{v.parts.keys, append([]Value(nil), v.parts.values...)}
			}
			out.parts.values[i] = fitted
		}
	}
	return out, true
}

// value reads a value of any kind.
func (r *reader) value() (Value, bool) {
	switch c := r.space(); {
	case c == '"':
		text, ok := r.quoted()
		return StringValue(text), ok
	case c == '-' || '0' <= c && c <= '9':
		return r.number()
	case c == '{':
		return r.object()
	case c == '[':
		return r.list()
	}
	for _, word := range []struct {
		text  string
		value Value
	}{{"null", Null}, {"true", BoolValue(true)}, {"false", BoolValue(false)}} {
		if strings.HasPrefix(r.text[r.next:], word.text) {
			r.next += len(word.text)
			return word.value, true
		}
	}
	return Value{}, r.fail()
}

// scanNumber returns the offset behind the number that begins at an offset, and whether it has a fraction or an exponent. Without a number it
// returns the offset itself.
func scanNumber(text string, from int) (end int, float bool) {
	digits := func(i int) int {
		for i < len(text) && '0' <= text[i] && text[i] <= '9' {
			i++
		}
		return i
	}
	first := from
	if first < len(text) && text[first] == '-' {
		first++
	}
	end = digits(first)
	if end == first || text[first] == '0' && end > first+1 {
		return from, false
	}
	if end < len(text) && text[end] == '.' {
		behind := digits(end + 1)
		if behind == end+1 {
			return from, false
		}
		end, float = behind, true
	}
	if end < len(text) && (text[end] == 'e' || text[end] == 'E') {
		at := end + 1
		if at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		behind := digits(at)
		if behind == at {
			return from, false
		}
		end, float = behind, true
	}
	return end, float
}

// number reads a number: an int if it has neither fraction nor exponent, or else a float. One that neither can hold stays as its digits.
func (r *reader) number() (Value, bool) {
	end, float := scanNumber(r.text, r.next)
	digits := r.text[r.next:end]
	if digits == "" {
		return Value{}, r.fail()
	}
	r.next = end
	if !float {
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return IntValue(n), true
		}
		return Value{kind: KindNumber, text: digits}, true
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsInf(f, 0) {
		return Value{kind: KindNumber, text: digits}, true
	}
	return floatValue(f + 0), true
}

// quoted reads a text.
func (r *reader) quoted() (string, bool) {
	from := r.next + 1
	for i := from; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			r.next = i + 1
			if text := r.text[from:i]; utf8.ValidString(text) {
				return text, true
			}
			return string([]rune(r.text[from:i])), true // each wrong byte becomes U+FFFD, as in encoding/json
		case c == '\\':
			return r.escaped(from, i)
		case c < ' ':
			return "", r.fail()
		}
	}
	return "", r.fail()
}

// escaped reads a text with escapes. from is where it begins, and i where its first escape is.
func (r *reader) escaped(from, i int) (string, bool) {
	end := i
	for end < len(r.text) && r.text[end] != '"' {
		if r.text[end] < ' ' {
			return "", r.fail()
		}
		if r.text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(r.text) {
		return "", r.fail()
	}
	if !r.fr.grow(r.at, int64(end-from)) {
		return "", false
	}
	var b strings.Builder
	l := lexer{source: &Source{Text: r.text[:end]}, at: i}
	b.WriteString(string([]rune(r.text[from:i])))
	for l.at < end {
		if r.text[l.at] != '\\' {
			c, size := utf8.DecodeRuneInString(r.text[l.at:end])
			b.WriteRune(c)
			l.at += size
			continue
		}
		size := l.escape(&b)
		if size == 0 || r.text[l.at+1] == '\'' {
			return "", r.fail()
		}
		l.at += size
	}
	r.next = end + 1
	return b.String(), true
}

// enter counts a list or an object.
func (r *reader) enter() bool {
	if r.depth++; r.depth > maxNesting {
		return r.fr.fail(r.at, ReasonBudget, "the JSON is nested too deep")
	}
	r.next++
	return true
}

// list reads a list.
func (r *reader) list() (Value, bool) {
	if !r.enter() {
		return Value{}, false
	}
	defer func() { r.depth-- }()
	if r.space() == ']' {
		r.next++
		return ListValue(nil), true
	}
	var values []Value
	for {
		if !r.fr.grow(r.at, valueSize) || !r.fr.spend(r.at, 1) {
			return Value{}, false
		}
		v, ok := r.value()
		if !ok {
			return v, false
		}
		values = append(values, v)
		switch r.space() {
		case ',':
			r.next++
		case ']':
			r.next++
			return ListValue(values), true
		default:
			return Value{}, r.fail()
		}
	}
}

// object reads an object. Where a name occurs twice, the last one counts.
func (r *reader) object() (Value, bool) {
	if !r.enter() {
		return Value{}, false
	}
	defer func() { r.depth-- }()
	if r.space() == '}' {
		r.next++
		return newObject(nil, nil), true
	}
	var keys []string
	var values []Value
	for {
		if !r.fr.grow(r.at, 2*valueSize) || !r.fr.spend(r.at, 1) {
			return Value{}, false
		}
		name, ok := r.key()
		if !ok {
			return Value{}, false
		}
		v, ok := r.value()
		if !ok {
			return v, false
		}
		keys, values = append(keys, name), append(values, v)
		switch r.space() {
		case ',':
			r.next++
		case '}':
			r.next++
			return lastOnes(newObject(keys, values)), true
		default:
			return Value{}, r.fail()
		}
	}
}

// lastOnes leaves the last one of fields with equal names, which stand side by side in their order.
func lastOnes(v Value) Value {
	p, kept := v.parts, 0
	for i, key := range p.keys {
		if i+1 < len(p.keys) && p.keys[i+1] == key {
			continue
		}
		p.keys[kept], p.values[kept] = key, p.values[i]
		kept++
	}
	p.keys, p.values = p.keys[:kept], p.values[:kept]
	return v
}

// skip reads a value that nobody needs. It has to be JSON all the same.
func (r *reader) skip() bool {
	switch c := r.space(); {
	case c == '-' || '0' <= c && c <= '9':
		end, _ := scanNumber(r.text, r.next)
		if end == r.next {
			return r.fail()
		}
		r.next = end
		return true
	case c == '"':
		_, ok := r.quoted()
		return ok
	}
	_, ok := r.value()
	return ok
}
