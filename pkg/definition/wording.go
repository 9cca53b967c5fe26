package definition

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/kisgrid/kisgrid/pkg/expr"
)

// Suggest returns the end of a message, such as `; did you mean "x"?`, with the candidate that word probably misspells. It
// returns "" if no candidate is close enough.
func Suggest(word string, candidates []string) string { return suggest(word, candidates) }

// suggest does the work of Suggest, which is for other packages.
func suggest(word string, candidates []string) string {
	best := expr.Nearest(word, candidates)
	if best == "" {
		return ""
	}
	return "; did you mean " + quote(best) + "?"
}

// sortedKeys returns the keys of a map, sorted.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// quote returns a value from a document in double quotes, for messages. A value longer than 60 bytes is shortened.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		cut := most
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}
