package expr

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is the kind of a value, or of a type.
type Kind uint8

// The kinds. KindMissing is the kind of a field that the row does not have, and KindNumber that of a number that neither 64 bits nor a float
// can hold, and of floats that are infinite or not a number: both are kinds of values only. KindAny and KindMap are kinds of types only.
const (
	KindMissing Kind = iota
	KindNull
	KindBool
	KindInt
	KindFloat
	KindString
	KindTime
	KindDuration
	KindList
	KindObject
	KindNumber
	KindAny
	KindMap
)

// kindNames are the names of kinds in documents and messages.
var kindNames = [...]string{"missing", "null", "bool", "int", "float", "string", "time", "duration", "list", "object", "number", "any", "map"}

// String returns the name of the kind.
func (k Kind) String() string { return kindNames[k] }

// Type is the type of a value. The zero Type is the type of null and of missing fields, and nothing else. A Type never changes.
type Type struct {
	kind     Kind
	optional bool
	elem     *Type   // of a list or a map
	fields   []Field // of an object, sorted by name
	parts    int     // how many types it consists of, beside itself
}

// maxTypeParts bounds a type. A type with more parts is one of less detail: hostile expressions make types that double again and again.
const maxTypeParts = 2000

// Field is a field of an object, or a variable, with its type.
type Field struct {
	Name string
	Type Type
}

// The types without parts.
var (
	Any      = Type{kind: KindAny}
	Bool     = Type{kind: KindBool}
	Int      = Type{kind: KindInt}
	Float    = Type{kind: KindFloat}
	String   = Type{kind: KindString}
	Time     = Type{kind: KindTime}
	Duration = Type{kind: KindDuration}
	nullType = Type{kind: KindNull, optional: true}
)

// List returns the type of lists with elements of one type.
func List(elem Type) Type {
	if elem.parts >= maxTypeParts {
		elem = Any
	}
	return Type{kind: KindList, elem: &elem, parts: elem.parts + 1}
}

// Map returns the type of objects with any keys, and with values of one type.
func Map(elem Type) Type {
	if elem.parts >= maxTypeParts {
		elem = Any
	}
	return Type{kind: KindMap, elem: &elem, parts: elem.parts + 1}
}

// Object returns the type of objects that have these fields. The names have to differ.
func Object(fields ...Field) Type {
	sorted := slices.Clone(fields)
	slices.SortFunc(sorted, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	parts := len(sorted)
	for _, f := range sorted {
		parts += f.Type.parts
	}
	if parts > maxTypeParts {
		return Map(Any)
	}
	return Type{kind: KindObject, fields: sorted, parts: parts}
}

// Optional returns the type of values of t that may be null or missing. Any is so already.
func Optional(t Type) Type {
	t.optional = t.kind != KindAny
	return t
}

// Kind returns the kind of the type.
func (t Type) Kind() Kind { return t.kind }

// IsOptional reports whether values may be null or missing. For Any it returns false: nothing is known of those.
func (t Type) IsOptional() bool { return t.optional }

// Elem returns the type of a list's elements, or of a map's values. For another type it returns Any.
func (t Type) Elem() Type {
	if t.elem == nil {
		return Any
	}
	return *t.elem
}

// Fields returns the fields of an object, sorted by name. The caller must not change them.
func (t Type) Fields() []Field { return t.fields }

// field returns the type of a field, and false if the object has no field of this name.
func (t Type) field(name string) (Type, bool) {
	i, ok := slices.BinarySearchFunc(t.fields, name, func(f Field, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return Type{}, false
	}
	return t.fields[i].Type, true
}

// present returns the type without null and missing.
func (t Type) present() Type {
	t.optional = false
	return t
}

// number reports whether the type is int or float, and never absent.
func (t Type) number() bool { return !t.optional && (t.kind == KindInt || t.kind == KindFloat) }

// String returns the type as documents write it, such as {id: int, tags: [string], note: string?}.
func (t Type) String() string {
	var text string
	switch t.kind {
	case KindNull, KindMissing:
		return "null"
	case KindList:
		text = "[" + t.Elem().String() + "]"
	case KindMap:
		text = "{*: " + t.Elem().String() + "}"
	case KindObject:
		parts := make([]string, len(t.fields))
		for i, f := range t.fields {
			parts[i] = fieldText(f.Name) + ": " + f.Type.String()
		}
		text = "{" + strings.Join(parts, ", ") + "}"
	default:
		text = t.kind.String()
	}
	if t.optional {
		text += "?"
	}
	return text
}

// fieldText returns the name of a field as it is written before a colon.
func fieldText(name string) string {
	if isName(name) {
		return name
	}
	return strconv.Quote(name)
}

// Equal reports whether two types are the same.
func (t Type) Equal(u Type) bool {
	if t.kind != u.kind || t.optional != u.optional || (t.elem == nil) != (u.elem == nil) || len(t.fields) != len(u.fields) {
		return false
	}
	for i := range t.fields {
		if t.fields[i].Name != u.fields[i].Name || !t.fields[i].Type.Equal(u.fields[i].Type) {
			return false
		}
	}
	return t.elem == nil || t.elem.Equal(*u.elem)
}

// join returns a type that has the values of both types: int for two ints, int? for an int and null, any where they have nothing in common.
// A choice between an int and a float is a float, as in arithmetic.
func (t Type) join(u Type) Type {
	optional := t.optional || u.optional
	switch a, b := t.present(), u.present(); {
	case t.kind == KindNull:
		return Optional(u)
	case u.kind == KindNull:
		return Optional(t)
	case a.Equal(b):
		t = a
	case a.number() && b.number():
		t = Float
	case a.kind == KindList && b.kind == KindList:
		t = List(a.Elem().join(b.Elem()))
	case a.holds() && b.holds():
		t = Map(Any)
	default:
		return Any
	}
	if optional {
		return Optional(t)
	}
	return t
}

// holds reports whether values of the type have fields.
func (t Type) holds() bool { return t.kind == KindObject || t.kind == KindMap }

// accepts reports whether every value of u is also one of t. Any accepts all, and is accepted by all: such values are checked row by row.
func (t Type) accepts(u Type) bool {
	switch {
	case t.kind == KindAny || u.kind == KindAny:
		return true
	case u.optional && !t.optional:
		return false
	case u.kind == KindNull:
		return true
	case t.kind == KindMap && u.kind == KindObject:
		return !slices.ContainsFunc(u.fields, func(f Field) bool { return !t.Elem().accepts(f.Type) })
	case t.kind == KindObject && u.kind == KindMap:
		return u.Elem().kind == KindAny
	case t.kind != u.kind:
		return t.kind == KindFloat && u.kind == KindInt
	case t.kind == KindList, t.kind == KindMap:
		return t.Elem().accepts(u.Elem())
	case t.kind == KindObject:
		for _, f := range t.fields {
			has, ok := u.field(f.Name)
			if !ok && !f.Type.optional && f.Type.kind != KindAny || ok && !f.Type.accepts(has) {
				return false
			}
		}
	}
	return true
}

// typeNames are the names of types without parts, as documents write them.
var typeNames = map[string]Type{"any": Any, "bool": Bool, "int": Int, "float": Float, "string": String, "time": Time, "duration": Duration}

// maxTypeDepth is the deepest nesting of a type in a document.
const maxTypeDepth = 50

// ParseType reads a type as documents write it: int, float, string, bool, time, duration or any, [T] for lists, {name: T} for objects, {*: T} for
// objects with any keys, and T? for values that may be null or missing.
func ParseType(text string) (Type, error) {
	p := typeParser{text: text}
	t, err := p.read(0)
	if p.space(); err == nil && p.at < len(text) {
		err = fmt.Errorf("%q is left behind the type", text[p.at:])
	}
	return t, err
}

// typeParser reads a type. at is the offset of the next byte.
type typeParser struct {
	text string
	at   int
}

// space skips white space.
func (p *typeParser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take skips a character if it comes next.
func (p *typeParser) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// word reads a name up to the next mark of punctuation, or a text in double quotes.
func (p *typeParser) word() string {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == '"' {
		if quoted, err := strconv.QuotedPrefix(p.text[p.at:]); err == nil {
			p.at += len(quoted)
			word, _ := strconv.Unquote(quoted) // QuotedPrefix has checked it
			return word
		}
	}
	from := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n[]{}:,?\"", p.text[p.at]) < 0 {
		p.at++
	}
	return p.text[from:p.at]
}

// read reads one type. depth counts the types around it.
func (p *typeParser) read(depth int) (t Type, err error) {
	switch {
	case depth > maxTypeDepth:
		return t, fmt.Errorf("is nested more than %d deep", maxTypeDepth)
	case p.take('['):
		if t, err = p.read(depth + 1); err != nil {
			return t, err
		}
		if !p.take(']') {
			return t, fmt.Errorf("a [ has no ]: write a list as [%s]", t)
		}
		t = List(t)
	case p.take('{'):
		if t, err = p.readObject(depth); err != nil {
			return t, err
		}
	default:
		word := p.word()
		var ok bool
		if t, ok = typeNames[word]; !ok {
			return t, fmt.Errorf("%q is not a type%s: write int, float, string, bool, time, duration, any, [T], {name: T}, or T? for a value that may be null or missing",
				word, didYouMean(word, sortedNames(typeNames)))
		}
	}
	for p.take('?') {
		t = Optional(t)
	}
	return t, nil
}

// readObject reads the type of an object, after its opening brace.
func (p *typeParser) readObject(depth int) (Type, error) {
	var fields []Field
	for !p.take('}') {
		if len(fields) > 0 && !p.take(',') {
			return Type{}, errors.New("a { has no }: write an object as {name: T, name: T}")
		}
		name := p.word()
		if !p.take(':') {
			return Type{}, fmt.Errorf("the field %q has no type: write %s: T", name, fieldText(name))
		}
		t, err := p.read(depth + 1)
		if err != nil {
			return Type{}, err
		}
		if slices.ContainsFunc(fields, func(f Field) bool { return f.Name == name }) {
			return Type{}, fmt.Errorf("the field %q has two types: leave one", name)
		}
		fields = append(fields, Field{name, t})
	}
	if len(fields) == 1 && fields[0].Name == "*" {
		return Map(fields[0].Type), nil
	}
	return Object(fields...), nil
}
