package casefile

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// maxNodes is the largest number of YAML nodes that are read from one file, those behind aliases counted each time.
const maxNodes = 200_000

// reader reads one test file, and collects the mistakes in it.
type reader struct {
	path     string
	set      *definition.Set
	mistakes definition.Mistakes
	nodes    int // read so far
}

// mistake adds a mistake at a line. key is the path of the key.
func (r *reader) mistake(line int, key, format string, args ...any) {
	r.mistakes = append(r.mistakes, &definition.Mistake{
		Document: r.path, Line: line, Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(format, args...),
	})
}

// follow returns the node that an alias stands for, and any other node as it is.
func (r *reader) follow(n *yaml.Node) *yaml.Node {
	if r.nodes++; r.nodes == maxNodes {
		r.mistake(n.Line, "", "has over %d values: put rows into a file of their own, and name it under rows_file", maxNodes)
	}
	if r.nodes >= maxNodes {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// entry is one key of a mapping, with its value.
type entry struct {
	name  string
	key   *yaml.Node
	value *yaml.Node
	path  string // of keys, for messages
}

// entries returns the keys and values of a mapping, in their order. A value that is no mapping, and a key that comes twice, are mistakes.
func (r *reader) entries(n *yaml.Node, path string) []entry {
	if n.Kind != yaml.MappingNode {
		r.mistake(n.Line, path, "wants keys with values, not %s", describe(n))
		return nil
	}
	var all []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := r.follow(n.Content[i])
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null" || key.ShortTag() == "!!merge" {
			r.mistake(key.Line, path, "has %s for a key: write a name", describe(key))
			continue
		}
		e := entry{name: key.Value, key: key, path: join(path, key.Value)}
		if line, twice := seen[e.name]; twice {
			r.mistake(key.Line, e.path, "is written twice, first on line %d", line)
			continue
		}
		seen[e.name] = key.Line
		e.value = r.follow(n.Content[i+1])
		all = append(all, e)
	}
	return all
}

// object reads a mapping whose keys must be among those given. Any other key is a mistake.
func (r *reader) object(n *yaml.Node, path string, keys ...string) map[string]entry {
	all := map[string]entry{}
	for _, e := range r.entries(n, path) {
		if !slices.Contains(keys, e.name) {
			r.mistake(e.key.Line, e.path, "is not a key here; the keys are %s%s", strings.Join(keys, ", "), definition.Suggest(e.name, keys))
			continue
		}
		all[e.name] = e
	}
	return all
}

// text returns a scalar as it is written; "" with a mistake for anything else.
func (r *reader) text(e entry) string {
	if e.value.Kind != yaml.ScalarNode || e.value.ShortTag() == "!!null" {
		r.mistake(e.value.Line, e.path, "wants a text, not %s", describe(e.value))
		return ""
	}
	return e.value.Value
}

// list returns the elements of a list; a value that is no list is a mistake.
func (r *reader) list(e entry) ([]*yaml.Node, bool) {
	if e.value.Kind != yaml.SequenceNode {
		hint := ""
		if e.value.ShortTag() == "!!null" {
			hint = ": write [] for none, or take the key out"
		}
		r.mistake(e.value.Line, e.path, "wants a list, not %s%s", describe(e.value), hint)
		return nil, false
	}
	nodes := make([]*yaml.Node, len(e.value.Content))
	for i, n := range e.value.Content {
		nodes[i] = r.follow(n)
	}
	return nodes, true
}

// join appends a key to a path of keys.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// describe says what a node is, for a message that wants something else in its place.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.ShortTag() == "!!null" {
		return "nothing"
	}
	return fmt.Sprintf("%q", n.Value)
}
