package main

import (
	"encoding/json"
	"io"
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

// printJSON writes a value as one line of JSON.
func printJSON(out io.Writer, v any) error { return json.NewEncoder(out).Encode(v) }

// printIndented writes a value as JSON over several lines.
func printIndented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
