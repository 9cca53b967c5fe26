// Package definition reads KisFlow's YAML documents: flows, functions and connectors. It parses strictly, checks what the
// documents say of each other, bundles a flow with what it needs, writes documents back, and tells how two states differ.
//
// Names of flows, functions and connectors are parts of etcd keys: 1 to 253 bytes of UTF-8 without '/' and without control
// characters. Everything a document may say is described at Flow, Function, Connector and Global.
package definition

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// MaxBytes bounds a flow's documents together, and so each document: 1 MiB.
const MaxBytes = 1 << 20

// Kind is what a document describes: its `kistype`.
type Kind string

// The kinds. A global document rules local runs only; it has no name and is never stored in a cluster.
const (
	KindFlow   Kind = "flow"
	KindFunc   Kind = "func"
	KindConn   Kind = "conn"
	KindGlobal Kind = "global"
)

// Document is one YAML document as it stands in a file or in etcd.
type Document struct {
	// Kind and Name are what the place says that the document describes: Parse refuses one that says otherwise. Both may be
	// empty; a Document that comes from this package has them filled in.
	Kind Kind
	Name string
	YAML []byte
	// Revision is the etcd revision it was written at; 0 outside a cluster.
	Revision int64
	// Path is the file or the etcd key it was read from, for messages; empty for neither.
	Path string
	// Line is where YAML starts within Path, from 1; 0 means 1.
	Line int
}

// String is how messages name the document: its path, or its kind and name.
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

// LineOf is the line of a key, such as option.cname, within the file or etcd value; 0 if the document does not have it.
func (d Document) LineOf(key string) int {
	var root yaml.Node
	if err := yaml.Unmarshal(d.YAML, &root); err != nil || len(root.Content) == 0 {
		return 0
	}
	node, line := root.Content[0], 0
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

// valueOf is where the value of a key stands in a mapping's content; -1 if it has none.
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

// named is the document with its name filled in.
func (d Document) named(name string) Document {
	d.Name = name
	return d
}

// title names what the document describes.
func (d Document) title() string {
	if d.Kind == KindGlobal {
		return "the global settings"
	}
	return "the " + kindTitles[d.Kind] + " " + quote(d.Name)
}

var kindTitles = map[Kind]string{KindFlow: "flow", KindFunc: "function", KindConn: "connector"}

// Parsed is what one document says: one of the four is set.
type Parsed struct {
	Flow      *Flow
	Function  *Function
	Connector *Connector
	Global    *Global
}

// Document is the document that was parsed, with Kind and Name filled in.
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
	// Document is the document's String.
	Document string
	// Line is counted from 1 within the file or etcd value; 0 for the document as a whole.
	Line int
	// Key is the path of the key concerned, such as flows[1].fname; empty for the document as a whole.
	Key     string
	Code    batch.Code
	Problem string
}

// Error is document:line: key: problem.
func (m *Mistake) Error() string {
	s := m.Document
	if m.Line > 0 {
		s += ":" + strconv.Itoa(m.Line)
	}
	if m.Key != "" {
		s += ": " + m.Key
	}
	return s + ": " + m.Problem
}

// Mistakes are all the mistakes that were found, in the order of the documents. The errors of this package that are about
// documents are a *batch.Error with Mistakes as their cause: get at them with errors.As.
type Mistakes []*Mistake

// Error is one line for each mistake.
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

// cut keeps the first maxMistakes of one document, and says how many more there were.
func (ms Mistakes) cut() Mistakes {
	more := len(ms) - maxMistakes
	if more <= 0 {
		return ms
	}
	return append(ms[:maxMistakes:maxMistakes], &Mistake{Document: ms[0].Document, Code: ms[0].Code, Problem: fmt.Sprintf("has %d more mistakes", more)})
}

// err is nil without mistakes, else one *batch.Error with the code they share, or CodeBadDocument.
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
