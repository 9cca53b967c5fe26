package expr

import (
	"fmt"
	"slices"
)

// objectFunctions are the functions of objects.
var objectFunctions = []*function{
	{
		signature: "keys(object: object) -> [string]", example: "keys({b: 1, a: 2})", result: `["a","b"]`, run: runKeys,
		about: "Gives the names of the fields, sorted by their bytes.",
	},
	{
		signature: "values(object: object) -> [T]", gives: valuesOf, example: "values({b: 1, a: 2})", result: "[2,1]", run: runValues,
		about: "Gives the values of the fields, in the order of their names.",
	},
	{
		signature: "merge(object...: object) -> object", gives: merged, example: "merge({a: 1, b: 1}, {b: 2})", result: `{"a":1,"b":2}`, run: runMerge,
		about: "Gives an object with the fields of all; where several have a field, the last one wins.",
	},
	{
		signature: "pick(object: object, name...: constant string) -> object", gives: anyFields, prepare: prepareNames, example: `pick({a: 1, b: 2, c: 3}, "a", "c")`, result: `{"a":1,"c":3}`, run: runPick,
		about: "Gives an object with these fields alone. Those that it does not have are left out.",
	},
	{
		signature: "without(object: object, name...: constant string) -> object", gives: anyFields, prepare: prepareNames, example: `without({a: 1, b: 2}, "a")`, result: `{"b":2}`, run: runWithout,
		about: "Gives the object without these fields.",
	},
	{
		signature: "entries(object: object) -> [{key: string, value: T}]", gives: entriesOf, example: "entries({a: 1})", result: `[{"key":"a","value":1}]`, run: runEntries,
		about: "Gives the fields as a list of objects with key and value, sorted by key.",
	},
	{
		signature: "from_entries(list: list) -> {*: T}", gives: fromEntries, example: `from_entries([{key: "b", value: 2}, {key: "a", value: 1}])`, result: `{"a":1,"b":2}`, run: runFromEntries,
		about: "Gives an object with a field for each element, which has key and value. Where keys are equal, the last one wins.",
	},
}

// fieldType gives a type that has the values of all fields of an object.
func fieldType(t Type) Type {
	switch {
	case t.kind == KindMap:
		return t.Elem()
	case len(t.fields) == 0:
		return Any
	}
	all := t.fields[0].Type
	for _, f := range t.fields[1:] {
		all = all.join(f.Type)
	}
	return all
}

// valuesOf gives the type of values. Fields that are missing are not among them, but null may be.
func valuesOf(args []Type) Type { return List(fieldType(args[0])) }

// entriesOf gives the type of entries.
func entriesOf(args []Type) Type {
	return List(Object(Field{"key", String}, Field{"value", fieldType(args[0])}))
}

// fromEntries gives the type of from_entries.
func fromEntries(args []Type) Type {
	if value, ok := args[0].Elem().field("value"); ok {
		return Map(value)
	}
	return Map(Any)
}

// merged gives the type of merge.
func merged(args []Type) Type {
	fields := map[string]Type{}
	for _, t := range args {
		if t.kind != KindObject {
			return Map(Any)
		}
		for _, f := range t.fields {
			if before, ok := fields[f.Name]; ok && f.Type.optional { // it may be missing there, so that the earlier one stays
				f.Type = before.join(f.Type)
			}
			fields[f.Name] = f.Type
		}
	}
	list := make([]Field, 0, len(fields))
	for _, name := range sortedNames(fields) {
		list = append(list, Field{name, fields[name]})
	}
	return Object(list...)
}

// anyFields gives the type of an object with some fields of another one. prepareNames makes a more exact one.
func anyFields(args []Type) Type {
	if args[0].kind == KindMap {
		return args[0].present()
	}
	return Map(Any)
}

// prepareNames checks the names of pick and without.
func prepareNames(c *compiler, n *node, _ *call, args []operand) bool {
	of := args[0].kind
	if of.kind != KindObject {
		return true
	}
	for i, name := range args[1:] {
		if _, ok := of.field(name.constant.text); !ok {
			names := make([]string, len(of.fields))
			for i, f := range of.fields {
				names[i] = f.Name
			}
			edit := "its fields are " + listNames(names)
			if near := Nearest(name.constant.text, names); near != "" {
				edit = fmt.Sprintf("write %q", near)
			}
			c.mistake(n.kids[i+1], edit, "%s has no field %s", c.text(n.kids[0]), fieldText(name.constant.text))
			return false
		}
	}
	return true
}

func runKeys(fr *Frame, call *call, args []Value) (Value, bool) {
	keys := args[0].Keys()
	if !fr.grow(&call.site, int64(len(keys))*valueSize) {
		return Value{}, false
	}
	values := fr.list(len(keys))
	for _, key := range keys {
		values = append(values, StringValue(key))
	}
	return ListValue(values), true
}

func runValues(_ *Frame, _ *call, args []Value) (Value, bool) {
	return ListValue(args[0].Elements()), true
}

func runMerge(fr *Frame, call *call, args []Value) (Value, bool) {
	n := 0
	for _, v := range args {
		n += len(v.Keys())
	}
	if !fr.grow(&call.site, int64(n)*2*valueSize) || !fr.spend(&call.site, int64(n)) {
		return Value{}, false
	}
	keys, values := args[0].Keys(), args[0].Elements()
	for _, v := range args[1:] {
		keys, values = mergeFields(keys, values, v.Keys(), v.Elements())
	}
	return Value{kind: KindObject, parts: &content{keys, values}}, true
}

// mergeFields puts two sorted lists of fields together. The fields of the second one win.
func mergeFields(aKeys []string, a []Value, bKeys []string, b []Value) ([]string, []Value) {
	keys, values := make([]string, 0, len(a)+len(b)), make([]Value, 0, len(a)+len(b))
	for len(aKeys) > 0 || len(bKeys) > 0 {
		switch {
		case len(bKeys) == 0 || len(aKeys) > 0 && aKeys[0] < bKeys[0]:
			keys, values, aKeys, a = append(keys, aKeys[0]), append(values, a[0]), aKeys[1:], a[1:]
		default:
			if len(aKeys) > 0 && aKeys[0] == bKeys[0] {
				aKeys, a = aKeys[1:], a[1:]
			}
			keys, values, bKeys, b = append(keys, bKeys[0]), append(values, b[0]), bKeys[1:], b[1:]
		}
	}
	return keys, values
}

func runPick(fr *Frame, call *call, args []Value) (Value, bool) {
	return fr.choose(call, args, true)
}

func runWithout(fr *Frame, call *call, args []Value) (Value, bool) {
	return fr.choose(call, args, false)
}

// choose returns the object with those fields that are named, or with all others.
func (fr *Frame) choose(call *call, args []Value, named bool) (Value, bool) {
	n := int64(len(args[0].Keys()))
	if !fr.grow(&call.site, n*(valueSize+16)) || !fr.spend(&call.site, n*int64(len(args))) {
		return Value{}, false
	}
	keys, values := make([]string, 0, n), make([]Value, 0, n)
	for i, key := range args[0].Keys() {
		if slices.ContainsFunc(args[1:], func(name Value) bool { return name.text == key }) == named {
			keys, values = append(keys, key), append(values, args[0].Elements()[i])
		}
	}
	return Value{kind: KindObject, parts: &content{keys, values}}, true
}

// entryKeys are the names of an entry's fields.
var entryKeys = []string{"key", "value"}

func runEntries(fr *Frame, call *call, args []Value) (Value, bool) {
	keys := args[0].Keys()
	if !fr.grow(&call.site, int64(len(keys))*4*valueSize) {
		return Value{}, false
	}
	entries := fr.list(len(keys))
	for i, key := range keys {
		entry := append(fr.list(2), StringValue(key), args[0].Elements()[i])
		entries = append(entries, Value{kind: KindObject, parts: &content{entryKeys, entry}})
	}
	return ListValue(entries), true
}

func runFromEntries(fr *Frame, call *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	if !fr.grow(&call.site, int64(len(list))*3*valueSize) {
		return Value{}, false
	}
	fields := map[string]Value{}
	for _, entry := range list {
		key := entry.Field("key")
		if key.kind != KindString {
			return Value{}, fr.failKind(&call.site, key.kind, "a string in the field key of each element")
		}
		fields[key.text] = entry.Field("value")
	}
	return ObjectValue(fields), true
}
