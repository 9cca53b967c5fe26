package definition

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Suggest returns `; did you mean "x"?` for the candidate of which word is probably a misspelling, or "" if there is none. It is
// for the end of a message.
func Suggest(word string, candidates []string) string { return suggest(word, candidates) }

// suggest does the work of Suggest, for this package.
func suggest(word string, candidates []string) string {
	best, least := "", min(len(word)/3, 3)+1
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + quote(best) + "?"
}

// distance returns the number of letters to add, drop, change or swap with their neighbour to make b of a. Upper and lower case
// do not matter.
func distance(a, b string) int {
	const most = 64 // longer words are not compared letter by letter
	if len(a) > most || len(b) > most {
		return most
	}
	var previous, before [most + 1]int
	row := [most + 1]int{}
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, previous = previous, row
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := previous[j-1]
			if lower(a[i-1]) != lower(b[j-1]) {
				change++
			}
			row[j] = min(change, previous[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && lower(a[i-1]) == lower(b[j-2]) && lower(a[i-2]) == lower(b[j-1]) {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// lower returns a letter in lower case.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// sortedKeys returns the keys of a map, sorted.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// quote returns a document's value in quotes, cut if it is long.
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
