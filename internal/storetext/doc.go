// Package storetext turns Go values into the texts that connectors store, and turns such texts back into values. A value that a Save
// writes comes back as an equal value of the same type when a Load reads it; a value for which that can't be promised is refused when
// it is written.
//
// The text for a value never changes from release to release, because workers of different releases read each other's texts.
//
// The files, in reading order:
//
//   - write.go: Write, from a value to its text.
//   - roundtrip.go: the check, before a text is stored, that it is read as the value that it was written from.
//   - read.go: Reader, from a text to a value.
//   - types.go: questions about types: which methods they have, and which fields encoding/json looks at.
package storetext
