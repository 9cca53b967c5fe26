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
)

// text returns a scalar as it is written in the document. As in KisFlow, 101 and true are texts too. Anything else, such as a
// list, null or binary data, is a mistake; ok is false then.
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

// text returns the text under a key of the mapping. It returns "" if the key is not there.
func (o object) text(key string) (s string) {
	if v, ok := o.values[key]; ok {
		s, _ = v.text()
	}
	return s
}

// name returns the name of a flow, function or connector under a key. A missing key and a name that is not allowed are
// mistakes. content describes the name for the message, such as "the flow's name".
func (o object) name(key, content string) string {
	v, ok := o.require(key, content)
	if !ok {
		return ""
	}
	name, ok := v.text()
	if problem := nameProblem(name); ok && problem != "" {
		v.mistake("%s", problem)
	}
	return name
}

// ownName reads the name of the thing that the document itself describes. It is a mistake if the document is stored under
// another name.
func (o object) ownName(key, content string) string {
	name := o.name(key, content)
	if name != "" && o.r.storedAs != "" && name != o.r.storedAs {
		o.values[key].mistake("is %s, but the document is stored as %s: the two must be the same", quote(name), quote(o.r.storedAs))
	}
	return name
}

// oneOf returns the value, if it is one of the allowed texts. If not, it adds a mistake and returns "".
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

// integer returns the whole number under a key. It returns 0 if the key is not there, and with a mistake if the value is no
// number from least to most.
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

// flags are the texts that every reader of YAML takes for true or false.
var flags = []string{"true", "True", "TRUE", "false", "False", "FALSE"}

// flag returns the bool under a key. It returns false if the key is not there.
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

// duration returns the duration under a key, such as 30s. It returns otherwise, the default, if the key is not there. A
// duration that is not over 0 is a mistake.
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

// duration returns the value as a Go duration, such as 30s. If it is none, it adds a mistake and returns false.
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
		v.mistake("is %s, which is not a duration: write one such as 30s or 1m30s", quote(text))
		return 0, false
	}
	return d, true
}

// milliseconds returns the duration under a key whose value is a whole number of milliseconds. It returns 0 if the key is not
// there.
func (o object) milliseconds(key string) time.Duration {
	const most = math.MaxInt64 / int(time.Millisecond)
	return time.Duration(o.integer(key, 0, most)) * time.Millisecond
}

// texts returns the list of texts under a key. It returns nil if the key is not there. An element that is no text is a mistake,
// and left out.
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

// list returns the elements of the list under a key. It returns nil if the key is not there, and with a mistake if the value is
// no list.
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

// textMap returns the mapping from names to texts under a key. The document may choose any names. It returns nil if the mapping
// is empty or not there.
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
		texts[f.name] = "" // KisFlow reads a null parameter as an empty text
		switch {
		case !f.value.null():
			texts[f.name], _ = f.value.text()
		case f.value.node.Value != "":
			f.value.doubt("is %s, which is read as an empty text: write \"\", or put the text in quotes", quote(f.value.node.Value))
		}
	}
	return texts
}

// nameProblem returns what is wrong with the name of a flow, function or connector, or "" if nothing is.
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
