package main

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// or returns s, or otherwise if s is empty.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// age returns the time since t as text, in whole seconds, such as 3m20s.
func age(t time.Time) string { return time.Since(t).Round(time.Second).String() }

// firstLine returns the first line of a text, cut after 100 bytes. An ellipsis shows that something was left out.
func firstLine(text string) string {
	line, _, cut := strings.Cut(text, "\n")
	if cut || len(line) > 100 {
		line = strings.ToValidUTF8(line[:min(len(line), 100)], "") + " …"
	}
	return line
}

// sortedValues returns the values of a map, in the order of their keys.
func sortedValues(m map[string]any) (values []any) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[key])
	}
	return values
}
