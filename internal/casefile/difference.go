package casefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// maxShown is the most bytes of one value that a difference shows.
const maxShown = 400

// fieldDifference is one place where two JSON values differ. An empty got or want stands for a field that is not there.
type fieldDifference struct{ path, got, want string }

// compareFields finds where two JSON values differ, field by field, in the order of the names.
func compareFields(path string, got, want any) []fieldDifference {
	if equal(got, want) {
		return nil
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		names := maps.Clone(w)
		maps.Copy(names, g)
		var all []fieldDifference
		for _, name := range slices.Sorted(maps.Keys(names)) {
			at := join(path, fieldName(name))
			inGot, isGot := g[name]
			inWant, isWant := w[name]
			switch {
			case !isGot:
				all = append(all, fieldDifference{at, "", show(inWant)})
			case !isWant:
				all = append(all, fieldDifference{at, show(inGot), ""})
			default:
				all = append(all, compareFields(at, inGot, inWant)...)
			}
		}
		return all
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		var all []fieldDifference
		for i := range max(len(g), len(w)) {
			at := path + "[" + strconv.Itoa(i) + "]"
			switch {
			case i >= len(g):
				all = append(all, fieldDifference{at, "", show(w[i])})
			case i >= len(w):
				all = append(all, fieldDifference{at, show(g[i]), ""})
			default:
				all = append(all, compareFields(at, g[i], w[i])...)
			}
		}
		return all
	}
	return []fieldDifference{{path, show(got), show(want)}}
}

// fieldName returns the name of a field in a path: in quotes if it is no word.
func fieldName(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

// show returns a value as JSON, cut short if it is long.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return cut(string(text))
}

// cut shortens a text for a message.
func cut(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:maxShown], len(text))
}
