package expr

import (
	"fmt"
	"strings"
)

// function is a function that expressions may call. All of them are in the map functions.
type function struct {
	name string
	// signature is how it is called, such as: substring(text: string, from: int, to?: int) -> string. The parameters are read from it, and the type
	// of the result, unless gives is set.
	signature string
	// about says what it gives, in one sentence. example and result are an expression and its value as JSON, which a test compares.
	about, example, result string
	// params are the parameters, read from the signature.
	params []parameter
	// gives returns the type of the result for arguments of these types.
	gives func(args []Type) Type
	// elements returns the types of the values that a parameter such as x => bool is called with. Set by default to the list's elements.
	elements func(args []Type) []Type
	// prepare checks constant arguments and sets what the call needs of them. nil for most functions. It returns false after a mistake.
	prepare func(c *compiler, n *node, call *call, args []operand) bool
	// run computes the result. The arguments have kinds that the signature allows, and their size has been counted. It must not keep args.
	run func(fr *Frame, call *call, args []Value) (Value, bool)
}

// parameter is a parameter of a function.
type parameter struct {
	name     string
	kinds    kindSet
	optional bool // it may be left out
	rest     bool // it may come several times
	constant bool // it has to be the same for every row
	absent   bool // it may be null or missing
	arity    int  // how many values the function takes that this argument is; 0 for a value
	test     bool // that function gives a bool
}

// kindSet is a set of kinds.
type kindSet uint16

// has reports whether the set has a kind.
func (s kindSet) has(k Kind) bool {
	return s&(1<<min(k, 15)) != 0 || k == KindMap && s&(1<<KindObject) != 0
}

// wants says which values a parameter takes, such as: a string or a list.
func (p *parameter) wants() string {
	var names []string
	for k := KindBool; k <= KindObject; k++ {
		switch {
		case k == KindFloat && p.kinds.has(KindInt):
		case k == KindInt && p.kinds.has(KindFloat):
			names = append(names, "a number")
		case p.kinds.has(k):
			names = append(names, withArticle(k))
		}
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// parameter returns the parameter that takes argument i.
func (f *function) parameter(i int) *parameter { return &f.params[min(i, len(f.params)-1)] }

// counts returns how many arguments a call may have.
func (f *function) counts() (least, most int) {
	for _, p := range f.params {
		switch {
		case p.rest:
			return least + 1, MaxNodes
		case !p.optional:
			least++
		}
		most++
	}
	return least, most
}

// arity returns the number of values that the function's own function takes; 0 if it takes none.
func (f *function) arity() int {
	for _, p := range f.params {
		if p.arity > 0 {
			return p.arity
		}
	}
	return 0
}

// kindWords are the words for kinds of arguments in signatures.
var kindWords = map[string]kindSet{
	"bool": 1 << KindBool, "int": 1 << KindInt, "number": 1<<KindInt | 1<<KindFloat, "string": 1 << KindString, "time": 1 << KindTime,
	"duration": 1 << KindDuration, "list": 1 << KindList, "object": 1 << KindObject, "any": 0xFFFF,
}

// readSignature fills in name, parameters and result from the signature.
func (f *function) readSignature() error {
	open, end := strings.IndexByte(f.signature, '('), strings.LastIndex(f.signature, ") -> ")
	if open < 0 || end < 0 {
		return fmt.Errorf("%s: has no ( or no ) -> ", f.signature)
	}
	f.name = f.signature[:open]
	if params := f.signature[open+1 : end]; params != "" {
		for text := range strings.SplitSeq(strings.ReplaceAll(params, "(all, x)", "(all x)"), ", ") {
			name, kinds, _ := strings.Cut(text, ": ")
			p := parameter{name: strings.Trim(name, "?.")}
			p.optional, p.rest = strings.HasSuffix(name, "?"), strings.HasSuffix(name, "...")
			switch {
			case strings.HasPrefix(kinds, "x => "):
				p.arity, p.test = 1, strings.HasSuffix(kinds, "bool")
			case strings.HasPrefix(kinds, "(all x) => "):
				p.arity = 2
			default:
				kinds, p.constant = strings.CutPrefix(kinds, "constant ")
				p.absent = kinds == "any"
				for word := range strings.SplitSeq(kinds, "|") {
					if kindWords[word] == 0 {
						return fmt.Errorf("%s: %q is no kind", f.signature, word)
					}
					p.kinds |= kindWords[word]
				}
			}
			f.params = append(f.params, p)
		}
	}
	if f.gives == nil {
		t, err := ParseType(f.signature[end+5:])
		if err != nil {
			return fmt.Errorf("%s: %w", f.signature, err)
		}
		f.gives = func([]Type) Type { return t }
	}
	if f.elements == nil {
		f.elements = func(args []Type) []Type { return []Type{args[0].Elem()} }
	}
	return nil
}

// group is a group of functions in the documentation.
type group struct {
	title     string
	functions []*function
}

// groups are all functions, in the order of the documentation.
var groups = []group{
	{"Conversions", conversions}, {"Numbers", numberFunctions}, {"Text", textFunctions}, {"Regular expressions", patternFunctions},
	{"Lists", listFunctions}, {"Each element of a list", eachFunctions}, {"Objects", objectFunctions}, {"Times and durations", timeFunctions},
}

// functions are all functions by name.
var functions map[string]*function

// init fills functions, which can't be initialized where it is declared: functions call expressions, and expressions call functions.
func init() { //nolint:gochecknoinits // see above
	functions = map[string]*function{}
	for _, g := range groups {
		for _, f := range g.functions {
			if err := f.readSignature(); err != nil {
				panic(err)
			}
			functions[f.name] = f
		}
	}
}

// sameAs gives the type of the first argument.
func sameAs(args []Type) Type { return args[0].present() }

// elementOf gives the type of a list's elements.
func elementOf(args []Type) Type { return args[0].Elem() }

// maybeElementOf gives the type of a list's elements, which may be missing.
func maybeElementOf(args []Type) Type { return Optional(args[0].Elem()) }

// otherNames are names that functions have in other languages, with the edit.
var otherNames = map[string]string{
	"if": "write condition ? value : other", "iif": "write condition ? value : other", "case": "write condition ? value : other", "when": "write condition ? value : other",
	"coalesce": "write a ?? b", "ifnull": "write a ?? b", "nvl": "write a ?? b", "isnull": "write x == null", "is_null": "write x == null", "defined": "write has(x)",
	"exists": "write has(x), or any(list, x => …)", "isset": "write has(x)", "isempty": "write len(x) == 0", "empty": "write len(x) == 0",
	"length": "write len", "size": "write len", "strlen": "write len", "str": "write string", "tostring": "write string", "to_string": "write string",
	"number": "write int or float", "parseint": "write int", "parsefloat": "write float", "to_int": "write int", "integer": "write int", "double": "write float",
	"tolower": "write lower", "lowercase": "write lower", "lcase": "write lower", "toupper": "write upper", "uppercase": "write upper", "ucase": "write upper",
	"concat": "write a + b, or join(list, separator)", "strip": "write trim", "substr": "write substring", "mid": "write substring", "left": "write substring(text, 0, n)",
	"right": "write substring(text, len(text) - n)", "startswith": "write starts_with", "hasprefix": "write starts_with", "endswith": "write ends_with", "hassuffix": "write ends_with",
	"includes": "write contains", "indexof": "write index_of", "position": "write index_of", "regex": "write matches", "regexp": "write matches", "match": "write matches",
	"regexp_replace": "write replace_pattern", "re_replace": "write replace_pattern", "gsub": "write replace_pattern",
	"pow": "write a * a", "power": "write a * a", "exp": "it has no exact result, so it is not there", "log": "it has no exact result, so it is not there",
	"ceiling": "write ceil", "average": "write avg", "mean": "write avg", "modulo": "write mod", "int_div": "write div", "quotient": "write div",
	"now": "an expression gives the same for a row at any time: take the time from a field", "today": "an expression gives the same for a row at any time: take the time from a field",
	"date": "write time, or parse_time(text, layout)", "timestamp": "write time, or unix(time)", "strptime": "write parse_time(text, layout)", "strftime": "write format_time(time, layout)",
	"to_date": "write parse_time(text, layout)", "todate": "write parse_time(text, layout)", "date_trunc": "write start_of(time, unit)", "dayofweek": "write weekday",
	"random": "an expression gives the same for a row at any time: take a hash, such as sha256(key)", "rand": "an expression gives the same for a row at any time: take a hash, such as sha256(key)",
	"uuid": "an expression gives the same for a row at any time: take a hash, such as sha256(key)",
	"md5":  "write sha256", "sha1": "write sha256", "hash": "write sha256", "tojson": "write json", "to_json": "write json", "fromjson": "write parse_json", "from_json": "write parse_json",
	"where": "write filter(list, x => …)", "select": "write map(list, x => …)", "foreach": "write map(list, x => …)", "fold": "write reduce", "some": "write any(list, x => …)",
	"every": "write all(list, x => …)", "distinct": "write unique", "uniq": "write unique", "sorted": "write sort", "order_by": "write sort_by", "groupby": "write group_by",
	"head": "write first(list)", "tail": "write slice(list, 1)", "append": "write list + [value]", "push": "write list + [value]", "omit": "write without(object, name)",
	"omitempty": "write missing for a field that is left out", "get": "write object[name] ?? default", "typeof": "write type",
}
