package definition

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// writer builds a YAML mapping. Its methods, except put, leave out values that are empty, zero, false or at their default.
type writer struct{ node *yaml.Node }

// newWriter makes a writer of an empty mapping.
func newWriter() writer { return writer{&yaml.Node{Kind: yaml.MappingNode}} }

// put adds a key and its value to the mapping.
func (w writer) put(key string, n *yaml.Node) {
	w.node.Content = append(w.node.Content, textNode(key), n)
}

// text adds a key with a text, unless the text is empty.
func (w writer) text(key, s string) {
	if s != "" {
		w.put(key, textNode(s))
	}
}

// integer adds a key with a number, unless the number is 0.
func (w writer) integer(key string, n int) {
	if n != 0 {
		w.put(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)})
	}
}

// flag adds a key with the value true. It adds nothing if b is false.
func (w writer) flag(key string, b bool) {
	if b {
		w.put(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	}
}

// duration adds a key with a duration, unless the duration is 0 or byDefault.
func (w writer) duration(key string, d, byDefault time.Duration) {
	if d != 0 && d != byDefault {
		w.text(key, d.String())
	}
}

// texts adds a key with a list of texts, unless the list is empty.
func (w writer) texts(key string, texts []string) {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, s := range texts {
		list.Content = append(list.Content, textNode(s))
	}
	w.list(key, list)
}

// list adds a key with a list, unless the list is empty.
func (w writer) list(key string, list *yaml.Node) {
	if len(list.Content) > 0 {
		w.put(key, list)
	}
}

// textMap adds a key with a mapping from names to texts, sorted by name, unless the mapping is empty.
func (w writer) textMap(key string, texts map[string]string) {
	object := newWriter()
	for _, name := range sortedKeys(texts) {
		object.put(name, textNode(texts[name]))
	}
	w.object(key, object)
}

// object adds a key with the mapping of another writer, unless that is empty.
func (w writer) object(key string, object writer) {
	if len(object.node.Content) > 0 {
		w.put(key, object.node)
	}
}

// textNode makes the YAML node of a text. The text is put in double quotes if a reader of YAML 1.1 or 1.2 would take it for
// something other than a text. So is a text with control characters: the YAML library would write some of these as a block, which
// it can't always read again.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: s}
	if n.ShortTag() != "!!str" || oldBool(s) || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// oldBool reports whether YAML 1.1 takes a text for true or false.
func oldBool(s string) bool {
	return slices.ContainsFunc([]string{"y", "n", "yes", "no", "on", "off"}, func(b string) bool { return strings.EqualFold(s, b) })
}

// document writes the mapping as a YAML document, and parses that. The error is that of Parse.
func (w writer) document() (Document, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(w.node), encoder.Close()); err != nil {
		return Document{}, batch.Errorf(batch.CodeBadDocument, "writing a document: %w", err)
	}
	p, err := Parse(Document{YAML: out.Bytes()})
	return p.Document(), err
}
