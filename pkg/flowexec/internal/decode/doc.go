// Package decode turns rows into the Go types that functions read, and back into bytes when they leave the flow.
//
// Rows come as JSON, MessagePack or protobuf in the columns of their part, or as values of the process, and functions pass on rows of any Go type. A
// Reader makes the rows of a run readable for each step that they come to, as all types that the step's function reads. A row that does not fit
// ends alone, as dead.
//
// Types of rows may have code of their own, such as an UnmarshalJSON method, which may be slow, panic or never return. The Host of a Reader watches
// over such code, as it does over functions.
//
// Its files, in reading order:
//   - input.go: Input, what is known when a flow is compiled of how a step reads rows.
//   - read.go: Reader.Read, which makes rows readable for a step.
//   - encoded.go: rows that came as MessagePack or protobuf.
//   - views.go: rows as one of the types that a function reads.
//   - wide.go: rows decoded once, for the step that reads the most of their fields.
//   - convert.go: rows of one Go type turned into rows of another.
//   - serializer.go: row types that read rows themselves, as KisFlow's Serialize.
//   - must.go: rows that lack a field which source.must names.
//   - write.go: rows turned into bytes, for the output and for dead letters.
//   - shown.go: rows turned into JSON for somebody who looks at them.
//   - loaded.go: texts that a connector stored, read into fields of a row.
//   - stored.go: texts that a connector stored, read as a Go type.
//   - object.go: a row as the fields of its JSON object.
//   - reader.go: Reader, its Host and its Source.
//   - fields.go: the fields that a Go type has in JSON.
//   - own_code.go: whether a Go type has code of its own.
//   - types.go: Types, the codecs of a plan.
//   - reason.go: the text of an outcome, trimmed.
package decode
