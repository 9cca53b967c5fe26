// Package rowfile reads rows that people and programs hand in: one JSON value in each line (NDJSON), a JSON array, or CSV with a header.
// Input that is compressed with gzip is recognized by its first bytes, and a byte-order mark is skipped. The command line and the
// HTTP server read rows with this package, so that both take the same.
//
// A [Reader] gives one row after the other, as JSON without line breaks, and holds one row at a time. A row that can't be read costs that row
// only: Next returns a [BadRow], and goes on behind it. Input that is something else altogether, such as JSON over several lines or UTF-16,
// is a [NotRows] at its first line, before any row was returned.
//
// CSV has no types, so the caller gives those of the flow's first function: see [Types].
//
// The files, in reading order:
//
//   - reader.go: Reader and its options; NDJSON.
//   - errors.go: the errors of a Reader.
//   - open.go: compression, byte-order marks, and which format the input has.
//   - lines.go: lines with a limit for their length.
//   - array.go: the rows of a JSON array.
//   - csv.go: the records of CSV.
//   - csv_cells.go: the cells of a record as JSON.
//   - types.go: Types, the types of the fields of rows.
//   - document.go: the types that documents declare.
//   - recognize.go: what input is that has no rows.
package rowfile
