// Package httpapi is the HTTP API of a coordinator: rows over plain HTTP, for programs without the SDK, and the calls of the command line as JSON. docs/http.md shows it to users.
//
// A request that submits rows becomes a call Stream of the service Ingest, made in the coordinator's own process. So windows, budgets,
// credit, rights and errors are those of clients that speak gRPC, and are coded once:
//
//	            ┌────────────┐  batches   ┌───────────────┐
//	body ─────► │ submitter  │ ─────────► │ Ingest.Stream │ ◄───► scheduler
//	answer ◄─── │            │ ◄───────── │               │
//	            └────────────┘  answers   └───────────────┘
//
// The files, in reading order:
//
//   - api.go: API, its configuration and its paths.
//   - guard.go: requests that pages of other sites make with somebody's browser.
//   - session.go: who calls, and signing in with a browser.
//   - metrics.go: counts requests.
//   - problem.go: errors as problem documents.
//   - rows.go: what a request asks for that submits rows; the call that it becomes.
//   - submitter.go: the client of that call: batches and credit.
//   - body.go: the body of a request: rows, and patience with its client.
//   - keys.go: keys of idempotency.
//   - answer.go: the lines of an answer, written while they come.
//   - admin.go: the calls of the command line as JSON.
//   - readable.go: bytes in answers that are JSON themselves.
//   - tap.go: rows as they pass, as server-sent events.
//   - inprocess.go: a gRPC client and its service in one process.
package httpapi
