package expr

import (
	"strings"
)

// didYouMean returns the end of a message, such as `; did you mean "score_1"?`, with the candidate that a word probably misspells. It returns ""
// if no candidate is close enough. The first one of several that are equally close wins, so sort candidates.
func didYouMean(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// Nearest returns the candidate that a word probably misspells, or "". The first one of several that are equally close wins, so sort candidates.
func Nearest(word string, candidates []string) string {
	best, least := "", min(len(word)/3, 3)+1
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance returns how many letters have to be added, dropped, changed or swapped with their neighbour to make b of a. It returns 64 for words of
// more than 64 bytes.
func distance(a, b string) int {
	const most = 64
	if len(a) > most || len(b) > most {
		return most
	}
	var rows [3][most + 1]int
	before, previous, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := previous[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, previous[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, previous, row = previous, row, before
	}
	return previous[len(b)]
}
