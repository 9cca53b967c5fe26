// Package forms has the flows of simulated clusters: their documents, and the functions behind them. A form says which functions a flow
// has. A row says itself what each function does with it, so that a model can tell a row's outcome from the row and its flow's form alone.
//
// The files, in reading order:
//
//   - form.go: the forms, step by step.
//   - row.go: rows, and the actions that a row asks for.
//   - draw.go: rows made at random for a client.
//   - documents.go: the documents of a flow.
//   - functions.go: the functions of a worker's build.
//   - act.go: how a function records its call and carries out an action.
package forms
