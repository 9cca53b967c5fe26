// Package definition reads KisFlow's YAML documents: flows, functions, connectors and the settings of a process. It parses them strictly,
// checks that the documents fit together, bundles a flow with the documents that it needs, writes documents, and shows how two states of
// documents differ. Types Flow, Function, Connector and Global have a field for each key of a document.
//
//	set, docs, err := definition.Load("conf") // all documents of a folder; err has all mistakes of all files
//	bundle, err := set.Bundle("CalStuAvgScore")
//
// Names of flows, functions and connectors are parts of etcd keys: 1 to 253 bytes of UTF-8, without '/' and control characters.
//
// A mistake in a document is told as document:line: key: problem. A rule that is younger than documents which run is checked only when a
// document is taken in (Set.Intake), so that a document that was accepted once goes on running.
//
// The files, in reading order:
//
//   - types.go: the types that documents are parsed into.
//   - folder.go: documents of files and folders.
//   - set.go: documents that belong together, and the checks between them.
//   - bundle.go: one flow with the documents that it needs.
//   - export.go: documents written from the types, and into folders.
//   - writer.go: YAML mappings being written.
//   - shard_key.go: the shard key of a document that may be wrong otherwise.
//   - intake.go: rules for documents that are taken in.
//   - row_types.go: the row types of a flow, as its expressions have them.
//   - redis_params.go: the parameters of a Redis connector, and warnings.
//   - cuts.go: notes on results that depend on how rows are cut into batches.
//   - keys.go: the keys of each kind of document.
//   - schema.go: Schema, the same keys as a JSON Schema.
//   - parse.go: Parse: from a document's text to its type.
//   - parse_documents.go: the keys of flows, connectors and global settings.
//   - parse_function.go: the keys of functions.
//   - parse_expression.go: expressions of functions, types of fields, and params with their types.
//   - reader.go: mappings with known keys, and the mistakes in them.
//   - scalars.go: texts, numbers, durations and lists.
//   - template.go: keys with fields of the row in them.
//   - access.go: variables and files that connectors' documents may read.
//   - access_address.go: addresses to which connectors may connect.
//   - resolve.go: ${NAME} in connectors' documents.
//   - redact.go: values of ${NAME} taken out of messages.
//   - diff.go: the difference between two states of documents.
//   - digest.go: a hash over documents.
//   - document.go: Document, and mistakes in documents.
//   - wording.go: quoted values and suggestions in messages.
package definition
