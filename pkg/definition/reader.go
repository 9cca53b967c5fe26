package definition

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

const (
	// maxAliased bounds the nodes that are read through aliases (*name), so that a small document can't stand for a huge one.
	maxAliased = 10_000
	// maxMistakes bounds the mistakes that are told of one document.
	maxMistakes = 100
)

// reader walks the nodes of one document, and collects its mistakes.
type reader struct {
	document string
	storedAs string // the name that the document must have; empty means any
	offset   int    // lines of the file before the document
	aliased  int    // nodes that were read through aliases
	mistakes Mistakes
	doubts   Mistakes // values that people may read in another way; no mistakes in a document that was accepted before
}

// mistake adds a mistake of the document. line is that in the document, not in its file; 0 means the document as a whole.
func (r *reader) mistake(line int, key, format string, args ...any) {
	r.mistakes = append(r.mistakes, r.wrong(line, key, format, args...))
}

// wrong makes a Mistake of the document. line is that in the document, not in its file; 0 means the document as a whole.
func (r *reader) wrong(line int, key, format string, args ...any) *Mistake {
	if line > 0 {
		line += r.offset
	}
	return &Mistake{Document: r.document, Line: line, Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(format, args...)}
}

// follow returns the node that an alias stands for, and any other node itself. After maxAliased nodes it returns an empty node.
func (r *reader) follow(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.AliasNode {
		return n
	}
	if r.aliased += 1 + len(n.Alias.Content); r.aliased > maxAliased {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
	}
	return n.Alias
}

// finish returns the document's mistakes, sorted by line.
func (r *reader) finish() Mistakes {
	if r.aliased > maxAliased {
		r.mistakes = nil // they may be about nodes that follow left out
		r.mistake(0, "", "reads over %d values through aliases (*name): write them out, or take some away", maxAliased)
	}
	slices.SortStableFunc(r.mistakes, func(a, b *Mistake) int { return a.Line - b.Line })
	return r.mistakes.cut()
}

// value is one node, and the path of keys that leads to it.
type value struct {
	r    *reader
	path string
	node *yaml.Node
}

// mistake adds a mistake about the value, at its line.
func (v value) mistake(format string, args ...any) { v.r.mistake(v.node.Line, v.path, format, args...) }

// doubt notes that people may read the value in another way. It goes on being read as it always was.
func (v value) doubt(format string, args ...any) {
	v.r.doubts = append(v.r.doubts, v.r.wrong(v.node.Line, v.path, format, args...))
}

// null reports whether the value is null. KisFlow's documents write `params:` or `load: null` for a key that has no value.
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

// field is a key of a mapping, with its line and value.
type field struct {
	name  string
	line  int
	value value
}

// object is a mapping with a known set of keys.
type object struct {
	value
	values map[string]value
	nulls  map[string]value // keys whose value is null in any spelling; except for on_missing, they count as not there
}

// object reads a mapping that may have these keys and no others. Any other key is a mistake.
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

// manyValued are the keys whose value is a list or a mapping. KisFlow's documents write null for an empty one.
var manyValued = []string{"flows", "params", "source", "must", "option", "default_params", "save", "load", "set", "incr", "append"}

// doubtNull doubts a null that is written out for a key with one value: it may be meant as a text, as none, or as the default.
// For on_missing null is a value.
func (v value) doubtNull(key string) {
	switch {
	case slices.Contains(manyValued, key), key == "on_missing" && v.node.Value == "null":
	case key == "on_missing":
		v.doubt("is %s, which is read as if on_missing were not there: write null, or take the key out", quote(v.node.Value))
	default:
		v.doubt("is %s, which is read as if the key were not there: take the key out, or put the text in quotes", quote(v.node.Value))
	}
}

// require returns the value of a key, and adds a mistake if the key is missing. content describes the missing value, such as "the
// flow's name".
func (o object) require(key, content string) (value, bool) {
	v, ok := o.values[key]
	if !ok && o.node.Kind == yaml.MappingNode {
		o.r.mistake(o.node.Line, join(o.path, key), "is missing: write %s", content)
	}
	return v, ok
}

// object returns the mapping under a key. If the key is not there, the mapping is empty.
func (o object) object(key string, keys ...string) object {
	if v, ok := o.values[key]; ok {
		return v.object(keys...)
	}
	return object{}
}

// join adds a key to a path of keys.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// describe names the type of a node, for messages that want another one: "a list".
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
