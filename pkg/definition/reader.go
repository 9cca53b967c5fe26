package definition

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

const (
	// maxAliased bounds the nodes that are read through aliases (*name), so that a small document can't stand for a huge one.
	maxAliased = 10_000
	// maxMistakes bounds the mistakes that are told of one document.
	maxMistakes = 100
)

// reader walks one document's nodes and gathers its mistakes.
type reader struct {
	document string
	storedAs string // the name that the document must have; empty: any
	offset   int    // of the document's first line within its file
	aliased  int
	mistakes Mistakes
	doubts   Mistakes // what people read in two ways: no mistake of a document that was taken in already
}

func (r *reader) mistake(line int, key, format string, args ...any) {
	r.mistakes = append(r.mistakes, r.wrong(line, key, format, args...))
}

func (r *reader) wrong(line int, key, format string, args ...any) *Mistake {
	if line > 0 {
		line += r.offset
	}
	return &Mistake{Document: r.document, Line: line, Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(format, args...)}
}

// follow is the node that an alias stands for; any other node is itself. Past maxAliased it is nothing.
func (r *reader) follow(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.AliasNode {
		return n
	}
	if r.aliased += 1 + len(n.Alias.Content); r.aliased > maxAliased {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
	}
	return n.Alias
}

// finish is the document's mistakes by line.
func (r *reader) finish() Mistakes {
	if r.aliased > maxAliased {
		r.mistakes = nil // they may be of what follow left out
		r.mistake(0, "", "reads over %d values through aliases (*name): write them out, or take some away", maxAliased)
	}
	slices.SortStableFunc(r.mistakes, func(a, b *Mistake) int { return a.Line - b.Line })
	return r.mistakes.cut()
}

// value is one node with the path of keys that leads to it.
type value struct {
	r    *reader
	path string
	node *yaml.Node
}

func (v value) mistake(format string, args ...any) { v.r.mistake(v.node.Line, v.path, format, args...) }

// doubt notes a value that is read as it ever was, and that people read in two ways.
func (v value) doubt(format string, args ...any) {
	v.r.doubts = append(v.r.doubts, v.r.wrong(v.node.Line, v.path, format, args...))
}

// null reports a value that is not there: KisFlow's documents write `params:` or `load: null` for none.
func (v value) null() bool { return v.node.ShortTag() == "!!null" }

// fields reads a mapping into its keys and values; nil if it is none. Keys are told apart by their text.
func (v value) fields() []field {
	if v.node.Kind != yaml.MappingNode {
		v.mistake("wants keys with values, not %s", describe(v.node))
		return nil
	}
	var fields []field
	lines := make(map[string]int, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.r.follow(v.node.Content[i])
		var name string
		if key.Kind != yaml.ScalarNode || key.Decode(&name) != nil || name != key.Value || key.ShortTag() == "!!null" {
			v.r.mistake(key.Line, v.path, "has %s for a key", describe(key))
			continue
		}
		if key.ShortTag() == "!!merge" {
			v.r.mistake(key.Line, v.path, "has the merge key <<, which definitions do not have: write the keys out")
			continue
		}
		f := field{name: name, line: key.Line}
		path := join(v.path, f.name)
		if first, again := lines[f.name]; again {
			v.r.mistake(f.line, path, "is written twice, first on line %d", first+v.r.offset)
			continue
		}
		lines[f.name] = f.line
		f.value = value{r: v.r, path: path, node: v.r.follow(v.node.Content[i+1])}
		fields = append(fields, f)
	}
	return fields
}

type field struct {
	name  string
	line  int
	value value
}

// object is a mapping with a known set of keys.
type object struct {
	value
	values map[string]value
	nulls  map[string]value // keys that say null, in any of its spellings; to all but one it means that they are not there
}

// object reads a mapping that may have the keys named and no others.
func (v value) object(keys ...string) object {
	o := object{value: v, values: make(map[string]value, len(keys)), nulls: map[string]value{}}
	for _, f := range v.fields() {
		if !slices.Contains(keys, f.name) {
			hint := suggest(f.name, keys)
			if slices.Contains(keys, "option") && slices.Contains(optionKeys, f.name) {
				hint = "; it belongs under option"
			}
			v.r.mistake(f.line, join(v.path, f.name), "is no key here; the keys are %s%s", strings.Join(keys, ", "), hint)
			continue
		}
		switch {
		case !f.value.null():
			o.values[f.name] = f.value
		case f.value.node.Value != "":
			o.nulls[f.name] = f.value
			f.value.doubtNull(f.name)
		}
	}
	return o
}

// manyValued are the keys with a list or keys of their own, of which KisFlow's documents write null for none.
var manyValued = []string{"flows", "params", "source", "must", "option", "default_params", "save", "load", "set", "incr", "append"}

// doubtNull doubts a null that is spelled out for one value: is it a text, none, or the default? on_missing has a null of its own.
func (v value) doubtNull(key string) {
	switch {
	case slices.Contains(manyValued, key), key == "on_missing" && v.node.Value == "null":
	case key == "on_missing":
		v.doubt("is %s, which is read as if on_missing were not there: write null, or take the key out", quote(v.node.Value))
	default:
		v.doubt("is %s, which is read as if the key were not there: take the key out, or put the text in quotes", quote(v.node.Value))
	}
}

// require is the value of a key that must be there.
func (o object) require(key, what string) (value, bool) {
	v, ok := o.values[key]
	if !ok && o.node.Kind == yaml.MappingNode {
		o.r.mistake(o.node.Line, join(o.path, key), "is missing: write %s", what)
	}
	return v, ok
}

// object reads the mapping under a key; it has no values if the key is not there.
func (o object) object(key string, keys ...string) object {
	if v, ok := o.values[key]; ok {
		return v.object(keys...)
	}
	return object{}
}

// text is a scalar as it is written, as KisFlow reads it: 101 and true are texts too. false: it is none.
func (v value) text() (s string, ok bool) {
	if v.node.Kind != yaml.ScalarNode {
		v.mistake("wants a text, not %s", describe(v.node))
		return "", false
	}
	switch tag := v.node.ShortTag(); tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge":
	default:
		v.mistake("wants a text, not one tagged %s", tag)
		return "", false
	}
	if err := v.node.Decode(&s); err != nil {
		v.mistake("is not what its tag says: %v", err)
		return "", false
	}
	return s, true
}

// text reads a text; empty if the key is not there.
func (o object) text(key string) (s string) {
	if v, ok := o.values[key]; ok {
		s, _ = v.text()
	}
	return s
}

// name reads the required name of a flow, function or connector.
func (o object) name(key, what string) string {
	v, ok := o.require(key, what)
	if !ok {
		return ""
	}
	name, ok := v.text()
	if problem := nameProblem(name); ok && problem != "" {
		v.mistake("%s", problem)
	}
	return name
}

// ownName reads the name of what the document describes.
func (o object) ownName(key, what string) string {
	name := o.name(key, what)
	if name != "" && o.r.storedAs != "" && name != o.r.storedAs {
		o.values[key].mistake("is %s, but the document is stored as %s: the two must be the same", quote(name), quote(o.r.storedAs))
	}
	return name
}

// oneOf reads a text that must be one of allowed.
func (v value) oneOf(allowed ...string) string {
	s, ok := v.text()
	if slices.Contains(allowed, s) {
		return s
	}
	if ok {
		v.mistake("is %s; it may be %s%s", quote(s), strings.Join(allowed, ", "), suggest(s, allowed))
	}
	return ""
}

// integer reads a whole number from least to most; 0 if the key is not there.
func (o object) integer(key string, least, most int) int {
	v, ok := o.values[key]
	if !ok {
		return 0
	}
	var n int
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!int" || v.node.Decode(&n) != nil {
		v.mistake("wants a whole number, not %s", describe(v.node))
		return 0
	}
	if n < least || n > most {
		v.mistake("is %d; it may be %d to %d", n, least, most)
		return 0
	}
	if v.node.Value != strconv.Itoa(n) {
		v.doubt("is %s, which is read as %d and could be meant otherwise: write %d, or the number that you mean, in decimal digits alone", v.node.Value, n, n)
	}
	return n
}

// flags are what every reader of YAML takes for true or false.
var flags = []string{"true", "True", "TRUE", "false", "False", "FALSE"}

// flag reads true or false; false if the key is not there.
func (o object) flag(key string) bool {
	var b bool
	v, ok := o.values[key]
	switch {
	case !ok:
	case v.node.Kind != yaml.ScalarNode || v.node.Decode(&b) != nil:
		v.mistake("wants true or false, not %s", describe(v.node))
	case !slices.Contains(flags, v.node.Value):
		v.doubt("is %s, which is read as %t here and as a text elsewhere: write %t", quote(v.node.Value), b, b)
	}
	return b
}

// duration reads a Go duration over 0; otherwise is what it is when the key is not there.
func (o object) duration(key string, otherwise time.Duration) time.Duration {
	v, ok := o.values[key]
	if !ok {
		return otherwise
	}
	d, ok := v.duration()
	if ok && d <= 0 {
		v.mistake("is %s; it must be over 0", v.node.Value)
	}
	return d
}

func (v value) duration() (time.Duration, bool) {
	if v.node.Kind != yaml.ScalarNode {
		v.mistake("wants a duration such as 30s, not %s", describe(v.node))
		return 0, false
	}
	if tag := v.node.ShortTag(); tag == "!!int" || tag == "!!float" {
		v.mistake("is %s, without a unit: write a duration such as 30s or 500ms", quote(v.node.Value))
		return 0, false
	}
	text, ok := v.text()
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		v.mistake("is %s, which is no duration: write one such as 30s or 1m30s", quote(text))
		return 0, false
	}
	return d, true
}

// milliseconds reads a whole number of milliseconds, 0 or more.
func (o object) milliseconds(key string) time.Duration {
	const most = math.MaxInt64 / int(time.Millisecond)
	return time.Duration(o.integer(key, 0, most)) * time.Millisecond
}

// texts reads a list of texts.
func (o object) texts(key string) []string {
	var texts []string
	for _, v := range o.list(key) {
		if v.null() {
			v.mistake("is empty: write a text, or take the entry out")
			continue
		}
		if s, ok := v.text(); ok {
			texts = append(texts, s)
		}
	}
	return texts
}

func (o object) list(key string) []value {
	v, ok := o.values[key]
	if !ok {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		v.mistake("wants a list, not %s", describe(v.node))
		return nil
	}
	values := make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		values[i] = value{r: v.r, path: v.path + "[" + strconv.Itoa(i) + "]", node: v.r.follow(n)}
	}
	return values
}

// textMap reads keys of the document's own choice, with texts; nil without any.
func (o object) textMap(key string) map[string]string {
	v, ok := o.values[key]
	if !ok {
		return nil
	}
	var texts map[string]string
	for _, f := range v.fields() {
		if texts == nil {
			texts = make(map[string]string)
		}
		texts[f.name] = "" // what KisFlow gives a parameter that is null
		switch {
		case !f.value.null():
			texts[f.name], _ = f.value.text()
		case f.value.node.Value != "":
			f.value.doubt("is %s, which is read as an empty text: write \"\", or put the text in quotes", quote(f.value.node.Value))
		}
	}
	return texts
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// describe says what a node is, for a message that wants something else.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "nothing"
		}
		return quote(n.Value)
	}
	return "nothing"
}

// quote shows a value of the document, cut where it is long.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		cut := most
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}

// nameProblem says why a flow, function or connector can't have a name; empty if it can.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "is empty: write a name"
	case len(name) > 253:
		return fmt.Sprintf("has %d bytes; a name has at most 253", len(name))
	case strings.Contains(name, "/"):
		return fmt.Sprintf("is %s; a name can't have a /", quote(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Sprintf("is %s; a name can't have control characters", quote(name))
	}
	return ""
}
