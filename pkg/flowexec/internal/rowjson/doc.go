// Package rowjson reads rows from JSON, writes them, and turns rows of one type into rows of another. It does all of this as encoding/json
// does, with one difference: it writes '<', '>' and '&' as they are, as they stand in rows that pass through a flow unchanged.
//
// It is faster than encoding/json. For structs of plain fields (strings, bools, numbers) it has code that is compiled once for each type.
// That code handles the common cases only. Where it can't be sure to do as encoding/json does, such as for a string with an escape or a number
// of many digits, it returns false; the comments say that the value is in doubt. Then encoding/json handles that row from the start. So
// the outcome is always that of encoding/json, and only the time differs.
//
// The files, callers first:
//
//   - convert.go: Converter, which turns rows of one struct type into another, field by field.
//   - nested.go: how a Converter turns fields that are not plain: structs, pointers, slices and maps.
//   - project.go: Projection, which takes the fields of a narrow struct type out of a wide one.
//   - codec.go: Codec, which reads and writes rows of one type.
//   - decode.go: the compiled reader of structs.
//   - members.go: the reader of rows that are a map from names to values of any type.
//   - encode.go: the compiled writer of structs.
//   - msgpack.go: rows of MessagePack, written as JSON.
//   - fallback.go: encoding/json, for rows that compiled code is not sure of.
//   - made.go: struct types for rows of expressions.
//   - dynamic.go: Dynamic, a field of a type that is not known before.
//   - scan.go: where JSON values end, and the numbers that digits mean.
//   - misfit.go: why a row can't be read, in the words of JSON.
//   - fields.go: the fields that a struct type has in JSON.
package rowjson
