package definition

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// MaxBytes is the largest size of all documents of a flow together, 1 MiB.
const MaxBytes = 1 << 20

// Kind is the kind of thing that a document describes: its `kistype`.
type Kind string

// The kinds of documents. A global document is for local runs only: it has no name and is never stored in a cluster.
const (
	KindFlow   Kind = "flow"
	KindFunc   Kind = "func"
	KindConn   Kind = "conn"
	KindGlobal Kind = "global"
)

// Document is one YAML document, as it is in a file or in etcd.
type Document struct {
	// Kind and Name say which thing the document describes, as the place where it is stored tells. Parse refuses a document whose YAML
	// says something else. Both are empty for a document that was read from a file and is not parsed yet. Name is empty for a global
	// document too.
	Kind Kind
	Name string
	YAML []byte
	// Revision is the etcd revision at which the document was written. 0 means that it is not from a cluster.
	Revision int64
	// Path is the file or etcd key that the document was read from, for messages. It may be empty.
	Path string
	// Line is the line of Path, from 1, at which YAML starts. 0 means 1.
	Line int
}

// String returns the name of the document in messages: its path, or its kind and name.
func (d Document) String() string {
	switch {
	case d.Path != "":
		return d.Path
	case d.Name != "":
		return string(d.Kind) + "/" + d.Name
	case d.Kind != "":
		return string(d.Kind)
	}
	return "document"
}

// LineOf returns the line of a key, given as a path such as option.cname, within the file or etcd value. It returns 0 if the document
// does not have the key.
func (d Document) LineOf(key string) int {
	node, line := d.node(), 0
	if node == nil {
		return 0
	}
	for name := range strings.SplitSeq(key, ".") {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		i := valueOf(node, name)
		if i < 0 {
			return 0
		}
		node, line = node.Content[i], node.Content[i-1].Line
	}
	return line + max(d.Line, 1) - 1
}

// valueOf returns the index of a key's value in the content of a mapping, or -1 if the mapping does not have the key.
func valueOf(mapping *yaml.Node, key string) int {
	if mapping.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return i + 1
		}
	}
	return -1
}

// named returns a copy of the document with another name.
func (d Document) named(name string) Document {
	d.Name = name
	return d
}

// title names the thing that the document describes, for messages, such as: the flow "A".
func (d Document) title() string {
	if d.Kind == KindGlobal {
		return "the global settings"
	}
	return "the " + kindTitles[d.Kind] + " " + quote(d.Name)
}

// kindTitles has the word that messages use for each kind of document. A global document has none.
var kindTitles = map[Kind]string{KindFlow: "flow", KindFunc: "function", KindConn: "connector"}

// Parsed is one parsed document. Exactly one of the fields is set.
type Parsed struct {
	Flow      *Flow
	Function  *Function
	Connector *Connector
	Global    *Global
}

// Document returns the document that was parsed, with its Kind and Name. For the zero Parsed it returns a zero Document.
func (p Parsed) Document() Document {
	switch {
	case p.Flow != nil:
		return p.Flow.Document
	case p.Function != nil:
		return p.Function.Document
	case p.Connector != nil:
		return p.Connector.Document
	case p.Global != nil:
		return p.Global.Document
	}
	return Document{}
}

// Mistake is one thing that is wrong with a document.
type Mistake struct {
	// Document is the name of the document, as Document.String returns it.
	Document string
	// Line is the line within the file or etcd value, from 1. 0 means the document as a whole.
	Line int
	// Column is the column of Line, from 1, counted in characters, for a mistake in an expression. 0 means that only the line is known.
	Column int
	// Key is the path of the key that is wrong, such as flows[1].fname. Empty means the document as a whole.
	Key     string
	Code    batch.Code
	Problem string
}

// Error returns the mistake as document:line: key: problem, or document:line:column: key: problem. A line or column of 0 and an empty key are
// left out.
func (m *Mistake) Error() string {
	s := m.Document
	if m.Line > 0 {
		s += ":" + strconv.Itoa(m.Line)
		if m.Column > 0 {
			s += ":" + strconv.Itoa(m.Column)
		}
	}
	if m.Key != "" {
		s += ": " + m.Key
	}
	return s + ": " + m.Problem
}

// Mistakes is a list of mistakes, in the order of the documents. An error of this package about what is wrong in documents is a
// *batch.Error that wraps a Mistakes: find it with errors.As.
type Mistakes []*Mistake

// Error returns one line for each mistake.
func (ms Mistakes) Error() string {
	var text []byte
	for i, m := range ms {
		if i > 0 {
			text = append(text, '\n')
		}
		text = append(text, m.Error()...)
	}
	return string(text)
}

// MistakesOf returns the mistakes that err has, and those of each error joined in it. It returns nil if there are none.
func MistakesOf(err error) (all Mistakes) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // made by errors.Join
		for _, e := range joined.Unwrap() {
			all = append(all, MistakesOf(e)...)
		}
		return all
	}
	all, _ = errors.AsType[Mistakes](err)
	return all
}

// cut shortens the mistakes of one document to the first maxMistakes, followed by one that says how many more there are.
func (ms Mistakes) cut() Mistakes {
	more := len(ms) - maxMistakes
	if more <= 0 {
		return ms
	}
	return append(ms[:maxMistakes:maxMistakes], &Mistake{Document: ms[0].Document, Code: ms[0].Code, Problem: fmt.Sprintf("has %d more mistakes", more)})
}

// err returns the mistakes as one *batch.Error, or nil if there are none. Its code is the code that all mistakes share, or else
// CodeBadDocument.
func (ms Mistakes) err() error {
	if len(ms) == 0 {
		return nil
	}
	code := ms[0].Code
	for _, m := range ms {
		if m.Code != code {
			code = batch.CodeBadDocument
		}
	}
	return batch.Errorf(code, "%w", ms)
}
