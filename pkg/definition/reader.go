package definition

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

const (
	// maxAliased is the largest number of nodes of a document that are read through aliases (*name), so that a small document can't stand
	// for a huge one.
	maxAliased = 10_000
	// maxMistakes is the largest number of mistakes of one document that an error lists.
	maxMistakes = 100
)

// reader reads the YAML nodes of one document, and collects the mistakes in it.
type reader struct {
	document string
	storedAs string // the name that the document must have; empty means any
	offset   int    // lines of the file before the document
	source   []byte // the document
	aliased  int    // nodes that were read through aliases
	mistakes Mistakes
	doubts   Mistakes // values that people may read in another way than this package; they are mistakes only at intake
}

// mistake adds a mistake to the reader's list. line is the line in the document, not in its file; 0 stands for the document as a whole.
// key is the path of the key; format and args make the problem's text.
func (r *reader) mistake(line int, key, format string, args ...any) {
	r.mistakes = append(r.mistakes, r.wrong(line, key, format, args...))
}

// wrong makes a Mistake, with the same parameters as mistake, without adding it to a list.
func (r *reader) wrong(line int, key, format string, args ...any) *Mistake {
	if line > 0 {
		line += r.offset
	}
	return &Mistake{Document: r.document, Line: line, Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(format, args...)}
}

// follow returns the node that an alias stands for. Any other node it returns as it is. Once more than maxAliased nodes were read through
// aliases, it returns a null node instead.
func (r *reader) follow(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.AliasNode {
		return n
	}
	if r.aliased += 1 + len(n.Alias.Content); r.aliased > maxAliased {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
	}
	return n.Alias
}

// finish returns the mistakes of the document, sorted by line, at most maxMistakes of them. If too many nodes were read through aliases,
// that is the only mistake.
func (r *reader) finish() Mistakes {
	if r.aliased > maxAliased {
		r.mistakes = nil // they may be about nodes that follow left out
		r.mistake(0, "", "reads over %d values through aliases (*name): write them out, or take some away", maxAliased)
	}
	slices.SortStableFunc(r.mistakes, func(a, b *Mistake) int { return a.Line - b.Line })
	return r.mistakes.cut()
}

// value is one node of the document, with the path of keys that leads to it, such as option.cname.
type value struct {
	r    *reader
	path string
	node *yaml.Node
}

// mistake adds a mistake about the value, at its line.
func (v value) mistake(format string, args ...any) { v.r.mistake(v.node.Line, v.path, format, args...) }

// doubt notes that people may read the value in another way than this package does. The value is used as this package reads it; only
// Intake makes a mistake of the doubt.
func (v value) doubt(format string, args ...any) {
	v.r.doubts = append(v.r.doubts, v.r.wrong(v.node.Line, v.path, format, args...))
}

// null reports whether the value is null in YAML. Documents written for KisFlow have `params:` or `load: null` for a key without a value.
func (v value) null() bool { return v.node.ShortTag() == "!!null" }

// fields returns the keys and values of a mapping. If the node is not a mapping, it adds a mistake and returns nil. A key that
// comes twice is a mistake.
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

// field is one key of a mapping, with its value. line is the line of the key in the document.
type field struct {
	name  string
	line  int
	value value
}

// object is a mapping that was read and whose keys are known: a mapping with any other key is a mistake.
type object struct {
	value
	values map[string]value
	nulls  map[string]value // keys whose value is null in any spelling; except for on_missing, they count as not there
}

// object reads a mapping whose keys must be among those given. Any other key is a mistake. If the value is not a mapping, that is a
// mistake, and the object has no values.
func (v value) object(keys ...string) object {
	o := object{value: v, values: make(map[string]value, len(keys)), nulls: map[string]value{}}
	for _, f := range v.fields() {
		if !slices.Contains(keys, f.name) {
			hint := suggest(f.name, keys)
			if slices.Contains(keys, "option") && slices.Contains(optionKeys, f.name) {
				hint = "; it belongs under option"
			}
			v.r.mistake(f.line, join(v.path, f.name), "is not a key here; the keys are %s%s", strings.Join(keys, ", "), hint)
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

// manyValued are the keys whose value is a list or a mapping. Documents written for KisFlow have null for an empty one, so that null is
// no doubt there.
var manyValued = []string{"flows", "params", "source", "must", "option", "default_params", "save", "load", "set", "incr", "append"}

// doubtNull notes a doubt about a null that is written out, such as `key: null`: it may be meant as the text "null", as no value, or as
// the default. It notes none for lists and mappings, nor for on_missing: null, where null is a proper value.
func (v value) doubtNull(key string) {
	switch {
	case slices.Contains(manyValued, key), key == "on_missing" && v.node.Value == "null":
	case key == "on_missing":
		v.doubt("is %s, which is read as if on_missing were not there: write null, or take the key out", quote(v.node.Value))
	default:
		v.doubt("is %s, which is read as if the key were not there: take the key out, or put the text in quotes", quote(v.node.Value))
	}
}

// require returns the value of a key. If the key is missing, it adds a mistake and returns false. content describes the value for the
// message, such as "the flow's name".
func (o object) require(key, content string) (value, bool) {
	v, ok := o.values[key]
	if !ok && o.node.Kind == yaml.MappingNode {
		o.r.mistake(o.node.Line, join(o.path, key), "is missing: write %s", content)
	}
	return v, ok
}

// object reads the mapping under a key, whose own keys must be among keys. If the key is not there, it returns an object without values.
func (o object) object(key string, keys ...string) object {
	if v, ok := o.values[key]; ok {
		return v.object(keys...)
	}
	return object{}
}

// join appends a key to a path of keys, with a dot between them.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// describe says what a node is, such as "a list", for a message that wants something else in its place.
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
