package definition

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/yamltext"
)

// Parse reads one document. It is strict: it is an error if a key is unknown, written twice or missing, or has a bad value; the
// error lists each with document and line. A key that is left out gets its default.
func Parse(d Document) (Parsed, error) {
	parsed, mistakes := parse(d)
	if err := mistakes.err(); err != nil {
		return Parsed{}, err
	}
	return parsed, nil
}

// parse does the same as Parse, and returns the mistakes as a list. If there are mistakes, the Parsed may be filled in part.
func parse(d Document) (Parsed, Mistakes) {
	p, r := read(d)
	return p, r.finish()
}

// doubts returns the values of a document that people may read in another way than Parse does, sorted by line. For Parse they
// are no mistakes.
func (d Document) doubts() Mistakes {
	_, r := read(d)
	slices.SortStableFunc(r.doubts, func(a, b *Mistake) int { return a.Line - b.Line })
	return r.doubts.cut()
}

// read parses a document, without regard to mistakes. The reader that it returns has the mistakes and doubts.
func read(d Document) (Parsed, *reader) {
	r := &reader{document: d.String(), storedAs: d.Name, offset: max(d.Line, 1) - 1, source: d.YAML}
	var p Parsed
	if root := r.root(d.YAML); root != nil {
		v := value{r: r, node: root}
		d.Kind = v.kind(d.Kind)
		switch d.Kind {
		case KindFlow:
			p.Flow = parseFlow(v)
			p.Flow.Document = d.named(p.Flow.Name)
		case KindFunc:
			p.Function = parseFunction(v)
			p.Function.Document = d.named(p.Function.Name)
		case KindConn:
			p.Connector = parseConnector(v)
			p.Connector.Document = d.named(p.Connector.Name)
		case KindGlobal:
			p.Global = parseGlobal(v)
			p.Global.Document = d.named("")
		}
	}
	return p, r
}

// root returns the root node of a text with one YAML document. If the text is none, it adds a mistake and returns nil.
func (r *reader) root(text []byte) *yaml.Node {
	switch {
	case len(text) > MaxBytes:
		r.mistake(0, "", "has %d bytes, over the limit of %d bytes for a flow's documents together", len(text), MaxBytes)
		return nil
	case !utf8.Valid(text):
		r.mistake(0, "", "is not UTF-8: save it as UTF-8")
		return nil
	}
	nodes, err := yamltext.Nodes(text, 2)
	switch {
	case err != nil:
		r.syntax(err)
		return nil
	case len(nodes) == 0:
		r.mistake(0, "", "is empty: write a document that starts with kistype")
		return nil
	case len(nodes) > 1:
		r.mistake(nodes[1].Line, "", "is a second document: store each one on its own")
		return nil
	}
	root := r.follow(nodes[0].Content[0])
	if root.ShortTag() == "!!null" {
		r.mistake(0, "", "is empty: write a document that starts with kistype")
		return nil
	}
	return root
}

// countedFrom0 are the error messages of the YAML library in which it counts lines from 0. In all others it counts lines from
// 1.
var countedFrom0 = []string{
	"did not find expected <document start>", "did not find expected node content", "did not find expected '-' indicator",
	"did not find expected key", "did not find expected ',' or ']'", "did not find expected ',' or '}'", "found undefined tag handle",
}

// syntax adds a mistake for err, the error with which the YAML library refused the text. It takes the line out of the error's
// text, which reads "yaml: line 3: …", or has no line if that is 0.
func (r *reader) syntax(err error) {
	problem, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if rest, found := strings.CutPrefix(problem, "line "); found {
		number, after, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, problem = n, after
		}
	}
	switch {
	case slices.Contains(countedFrom0, problem):
		line++
	case line == 0 && !strings.HasPrefix(problem, "unknown anchor"):
		line = 1
	}
	r.mistake(line, "", "is not YAML: %s%s", problem, yamlHint(problem, r.line(line)))
}

// line returns a line of the document, from 1; an empty one if there is no such line.
func (r *reader) line(number int) string {
	for line := range strings.Lines(string(r.source)) {
		if number--; number == 0 {
			return line
		}
	}
	return ""
}

// yamlHint says how to write a value that the YAML library does not take, if line, where its error is, has a value of a kind that people often write,
// such as an expression. problem is the text of its error.
func yamlHint(problem, line string) string {
	key, value, _ := strings.Cut(line, ": ")
	if value = strings.TrimSpace(value); value == "" {
		key, value = "", strings.TrimSpace(key)
	}
	first := value[:min(1, len(value))]
	const orBlock = " into single quotes, or write it as a block: | here, and the value on the next line"
	switch problem {
	case "did not find expected ',' or '}'", "did not find expected ',' or ']'":
		return "; within { } and [ ], put a value with any of , : ? [ ] { } # into quotes, or write each key on a line of its own"
	case "did not find expected whitespace or line break", "did not find expected alphabetic or numeric character":
		if strings.Contains(value, "!") {
			return "; YAML takes ! at the beginning of a value for a tag: write not, or put the value" + orBlock
		}
	case "mapping values are not allowed in this context":
		if strings.Contains(value, ": ") {
			return `; YAML takes ": " for the end of a key: put the value` + orBlock
		}
	case "found character that cannot start any token":
		if strings.Contains("@%`", first) && key != "" {
			return "; YAML has no value that begins with " + first + ": put the value" + orBlock
		}
	case "did not find expected key":
		if strings.Contains(`"'[{`, first) && key != "" {
			return "; YAML takes a value that begins with " + first + " to end with its counterpart: put the whole value" + orBlock
		}
	case "did not find expected comment or line break":
		return "; YAML takes > and | at the beginning of a value for a block: put the value into single quotes"
	}
	return ""
}

// kinds lists the kinds of documents, in the order in which documents are sorted.
var kinds = []string{string(KindFlow), string(KindFunc), string(KindConn), string(KindGlobal)}

// kind returns the value of the key kistype of the document v. storedAs is the kind under which the document is stored, or "".
// If kistype is missing, or another kind, that is a mistake; if it is missing or no kind at all, kind returns storedAs.
func (v value) kind(storedAs Kind) Kind {
	if v.node.Kind != yaml.MappingNode {
		v.mistake("wants keys with values, not %s", describe(v.node))
		return ""
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value != "kistype" {
			continue
		}
		k := value{r: v.r, path: "kistype", node: v.r.follow(v.node.Content[i+1])}
		if k.null() {
			break
		}
		kind := Kind(k.oneOf(kinds...))
		if kind == "" {
			return storedAs
		}
		if storedAs != "" && kind != storedAs {
			k.mistake("is %s, but the document is stored as a %s: the two must be the same", kind, storedAs)
		}
		return kind
	}
	v.r.mistake(v.node.Line, "kistype", "is missing: write one of %s", strings.Join(kinds, ", "))
	return storedAs
}
