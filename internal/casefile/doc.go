// Package casefile reads and runs test files of flows: the files *_test.yml beside the documents. A test file has cases. A case runs rows
// through one flow in this process, with all connectors in memory, and compares the output, the outcomes of the rows and the contents of
// the connectors with those that the case wants. docs/testing-flows.md describes the files to the people who write them.
//
//	file (read.go) ──► Case ──► Run (run.go) ──► actual ──► compare.go ──► Result ──► report.go, junit.go
//	                                                    └──► update.go ──► file
//
// The files, in reading order:
//
//   - case.go: Case, File and Suite: the tests of a folder.
//   - read.go: test files from YAML, with all mistakes in them.
//   - node.go: mappings with known keys.
//   - value.go: YAML values as JSON, and whether two JSON values are equal.
//   - run.go: runs one case in a flowexec.Local of its own.
//   - compare.go: differences between what a case wants and what has happened.
//   - difference.go: differences of two JSON values, field by field.
//   - update.go: test files written again, with what has happened.
//   - report.go: results as text and as JSON.
//   - junit.go: results as a JUnit file.
//   - schema.go: the keys of test files as a JSON Schema.
package casefile
