package definition

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Suggest returns the end of a message, such as `; did you mean "x"?`, with the candidate that word probably misspells. It
// returns "" if no candidate is close enough.
func Suggest(word string, candidates []string) string { return suggest(word, candidates) }

// suggest does the work of Suggest, which is for other packages.
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

// distance returns in how many letters two words differ: the number of letters to add, drop, change or swap with their
// neighbour to make b of a. Upper and lower case count as equal. If a word is longer than 64 bytes, it returns 64.
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

// lower converts an ASCII letter to lower case. It returns any other byte as it is.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
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
