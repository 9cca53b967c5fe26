package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// pathTemplate is the text of -o jsonpath, in the notation of kubectl: text, and paths in braces, such as {[*].name} or {.status.state}. A template
// without braces is one path. A path has names (.name or ['name']), numbers of elements ([0], [-1] for the last one), and [*] for all elements.
type pathTemplate []part

// part is a piece of a template: a text, or a path.
type part struct {
	text string
	path []step // nil for a text
}

// step is one step of a path.
type step struct {
	name  string // of a field; empty for elements
	index int
	all   bool
}

// parseTemplate reads a template.
func parseTemplate(text string) (t pathTemplate, err error) {
	if !strings.Contains(text, "{") {
		path, err := parsePath(text)
		return pathTemplate{{path: path}}, err
	}
	for text != "" {
		before, rest, ok := strings.Cut(text, "{")
		if before != "" {
			t = append(t, part{text: strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(before)})
		}
		if !ok {
			return t, nil
		}
		inside, behind, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, fmt.Errorf("the template %q has a { without its }", text)
		}
		if quoted, err := strconv.Unquote(inside); err == nil { // {"\n"} is a text
			t = append(t, part{text: quoted})
		} else {
			path, err := parsePath(inside)
			if err != nil {
				return nil, err
			}
			t = append(t, part{path: path})
		}
		text = behind
	}
	return t, nil
}

// parsePath reads a path.
func parsePath(text string) ([]step, error) {
	steps := []step{}
	rest := strings.TrimPrefix(strings.TrimSpace(text), "$")
	if rest != "" && rest[0] != '.' && rest[0] != '[' {
		rest = "." + rest
	}
	for rest != "" {
		if name, ok := strings.CutPrefix(rest, "."); ok {
			end := strings.IndexAny(name, ".[")
			if end < 0 {
				end = len(name)
			}
			if name, rest = name[:end], name[end:]; name == "*" {
				steps = append(steps, step{all: true})
			} else if name != "" {
				steps = append(steps, step{name: name})
			}
			continue
		}
		inside, behind, ok := strings.Cut(rest[1:], "]")
		if rest[0] != '[' || !ok {
			return nil, fmt.Errorf("the path %q can't be read at %q: write fields as .name, elements as [0] or [*]", text, rest)
		}
		rest = behind
		number, err := strconv.Atoi(inside)
		switch quote := strings.Trim(inside, `'"`); {
		case inside == "*":
			steps = append(steps, step{all: true})
		case err == nil:
			steps = append(steps, step{index: number})
		case len(inside) == len(quote)+2:
			steps = append(steps, step{name: quote})
		default:
			return nil, fmt.Errorf("the path %q has [%s]: write a number, *, or a name in quotes", text, inside)
		}
	}
	return steps, nil
}

// expand returns the text of a template for a value. Several values of one path stand one after the other, with spaces between them; a path that
// leads nowhere gives no text.
func (t pathTemplate) expand(v any) string {
	var b strings.Builder
	for _, p := range t {
		if p.path == nil {
			b.WriteString(p.text)
			continue
		}
		var texts []string
		for _, found := range follow(v, p.path) {
			switch f := found.(type) {
			case string:
				texts = append(texts, f)
			default:
				text, err := json.Marshal(f)
				if err == nil { // it was made from JSON
					texts = append(texts, string(text))
				}
			}
		}
		b.WriteString(strings.Join(texts, " "))
	}
	return b.String()
}

// follow returns the values to which a path leads.
func follow(v any, path []step) []any {
	if len(path) == 0 {
		return []any{v}
	}
	s, rest := path[0], path[1:]
	switch v := v.(type) {
	case map[string]any:
		if s.all {
			return followAll(sortedValues(v), rest)
		}
		if next, ok := v[s.name]; ok && s.name != "" {
			return follow(next, rest)
		}
	case []any:
		i := s.index
		if i < 0 {
			i += len(v)
		}
		switch {
		case s.all:
			return followAll(v, rest)
		case s.name == "items": // kubectl's lists have their elements there
			return follow(v, rest)
		case s.name == "" && i >= 0 && i < len(v):
			return follow(v[i], rest)
		}
	}
	return nil
}

// followAll follows a path from each of the values.
func followAll(values []any, path []step) (found []any) {
	for _, v := range values {
		found = append(found, follow(v, path)...)
	}
	return found
}
