// Package yamltext reads YAML documents with go.yaml.in/yaml/v3, and takes a ? within a plain text as YAML 1.2 does.
//
// The library follows YAML 1.1 there: within { } and [ ] it ends a plain text at each ?, so that {name: string?} is no YAML for it. Documents of flows
// have such texts: a type that ends in ?, and the operators ?. and ?? of expressions.
package yamltext

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// standIn takes the place of a ? while the library reads a text. It is one character for private use, so that lines and columns stay as they are.
const standIn = "\ue03f"

// Unmarshal does the work of yaml.Unmarshal.
func Unmarshal(text []byte, into any) error {
	nodes, err := Nodes(text, 1)
	if err != nil || len(nodes) == 0 {
		return err
	}
	return nodes[0].Decode(into)
}

// Nodes returns the first documents of a text, at most as many as most says. The error is the library's; the documents before the mistake are
// returned beside it.
func Nodes(text []byte, most int) ([]*yaml.Node, error) {
	nodes, err := read(text, most)
	if err == nil || bytes.IndexByte(text, '?') < 0 || bytes.Contains(text, []byte(standIn)) {
		return nodes, err
	}
	again, failed := read(hide(text), most)
	if failed != nil {
		return nodes, err
	}
	for _, n := range again {
		show(n)
	}
	return again, nil
}

// read reads documents as the library does.
func read(text []byte, most int) (nodes []*yaml.Node, err error) {
	in := yaml.NewDecoder(bytes.NewReader(text))
	for len(nodes) < most {
		n := new(yaml.Node)
		if err := in.Decode(n); errors.Is(err, io.EOF) {
			return nodes, nil
		} else if err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// hide puts stand-ins in the place of each ? that may be a part of a plain text, because something other than an indicator of YAML is before it on
// its line. A ? within quotes, blocks and comments gets one, too: that does no harm, since show takes all of them back.
func hide(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		within := false // whether a text goes on here
		for _, c := range line {
			switch c {
			case '{', '[', ',', ':', '-':
				within = false
			case '?':
				if within {
					b.WriteString(standIn)
					continue
				}
			case ' ', '\t':
			default:
				within = true
			}
			b.WriteByte(c)
		}
	}
	return b.Bytes()
}

// show takes the stand-ins out of a node and all nodes in it.
func show(n *yaml.Node) {
	for _, text := range []*string{&n.Value, &n.Tag, &n.HeadComment, &n.LineComment, &n.FootComment} {
		*text = strings.ReplaceAll(*text, standIn, "?")
	}
	for _, child := range n.Content {
		show(child)
	}
}
