package rowjson

import (
	"reflect"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// Field describes one field that encoding/json reads and writes for a struct type. A field of an embedded struct counts as a field of the
// outer struct, as in JSON.
type Field struct {
	Name string
	Type reflect.Type
	// Index leads from the struct to the field, as reflect.Value.FieldByIndex takes it.
	Index []int
	// Offset is the field's place in the struct, in bytes. ThroughPointer says that the way leads through an embedded pointer: then Offset
	// means nothing.
	Offset         uintptr
	ThroughPointer bool
	// OmitEmpty, OmitZero and Quoted are the options omitempty, omitzero and string of the field's tag.
	OmitEmpty, OmitZero, Quoted bool
	// Hidden says that the field is an embedded struct of an unexported type, to which the tag gives a name. Reflection can read and set
	// the fields of that struct, but not the struct itself.
	Hidden bool

	// tagged says that the name comes from the tag. made says that the struct was made by Made.
	tagged, made bool
}

// Fields returns the fields of a struct type that encoding/json reads and writes, in the order of their declaration.
func Fields(t reflect.Type) []Field {
	type level struct {
		t      reflect.Type
		index  []int
		offset uintptr
		far    bool
	}
	var fields []Field
	visited := make(map[reflect.Type]bool)
	for current := []level{{t: t}}; len(current) > 0; {
		var deeper []level
		var found []Field
		count := make(map[reflect.Type]int)
		for _, l := range current {
			count[l.t]++
		}
		for _, l := range current {
			if visited[l.t] {
				continue
			}
			visited[l.t] = true
			for i := range l.t.NumField() {
				sf := l.t.Field(i)
				inner := sf.Type
				if inner.Kind() == reflect.Pointer && inner.Name() == "" {
					inner = inner.Elem()
				}
				tag := sf.Tag.Get("json")
				embedded := sf.Anonymous && inner.Kind() == reflect.Struct
				if tag == "-" || !sf.IsExported() && !embedded {
					continue
				}
				name, options, _ := strings.Cut(tag, ",")
				if !jsonrule.ValidName(name) {
					name = ""
				}
				index := append(slices.Clip(l.index), i)
				if embedded && name == "" {
					if count[inner] == 0 || !visited[inner] {
						deeper = append(deeper, level{inner, index, l.offset + sf.Offset, l.far || sf.Type.Kind() == reflect.Pointer})
					}
					continue
				}
				f := Field{Name: name, Type: sf.Type, Index: index, Offset: l.offset + sf.Offset, ThroughPointer: l.far,
					Hidden: !sf.IsExported(), tagged: name != "", made: sf.Tag.Get(madeTag) != ""}
				if name == "" {
					f.Name = sf.Name
				}
				for option := range strings.SplitSeq(options, ",") {
					switch option {
					case "omitempty":
						f.OmitEmpty = true
					case "omitzero":
						f.OmitZero = true
					case "string":
						f.Quoted = quotable(sf.Type)
					}
				}
				found = append(found, f)
				if count[l.t] > 1 {
					// The struct is embedded twice at this depth, so that its fields hide each other: dominant sees each twice.
					found = append(found, f)
				}
			}
		}
		fields = append(fields, found...)
		current = deeper
	}
	fields = dominant(fields)
	slices.SortFunc(fields, func(a, b Field) int { return slices.Compare(a.Index, b.Index) })
	return fields
}

// dominant chooses among fields with the same name as encoding/json does, and returns the fields chosen. The field that is embedded least
// deep wins; among several of these, the only one that has a tag; otherwise all fields of the name are left out.
func dominant(fields []Field) []Field {
	byName := make(map[string][]Field)
	var names []string
	for _, f := range fields {
		if byName[f.Name] == nil {
			names = append(names, f.Name)
		}
		byName[f.Name] = append(byName[f.Name], f)
	}
	var kept []Field
	for _, name := range names {
		same := byName[name]
		depth := len(slices.MinFunc(same, func(a, b Field) int { return len(a.Index) - len(b.Index) }).Index)
		same = slices.DeleteFunc(same, func(f Field) bool { return len(f.Index) > depth })
		if tagged := slices.DeleteFunc(slices.Clone(same), func(f Field) bool { return !f.tagged }); len(tagged) > 0 {
			same = tagged
		}
		if len(same) == 1 {
			kept = append(kept, same[0])
		}
	}
	return kept
}

// quotable reports whether the option string of a json tag has an effect on a field of type t: it has one on strings, numbers and bools,
// and on pointers to them.
func quotable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer && t.Name() == "" {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.String:
		return true
	}
	return false
}

// Find returns the field into which encoding/json reads a value with the given name: the field of that name, or else the first one whose
// name differs only in the case of letters. It returns false if there is none.
func Find(fields []Field, name string) (Field, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f, true
		}
	}
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return Field{}, false
}
