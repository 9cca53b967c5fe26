// Package terminal helps programs that print for people: it shows control characters instead of sending them, and knows how wide a terminal is
// and whether it shows colours.
//
// The files, in reading order:
//
//   - text.go: control characters, widths of terminals, whether to use colours.
//   - writer.go: a writer that shows control characters; colours.
//   - json.go: control characters in JSON.
//   - table.go: tables.
package terminal
