// Package access decides who a caller is and what it may do, by a file that an operator writes.
//
// A coordinator opens the file as a Guard. The guard's interceptors find the caller of each gRPC call in the call's context: by its
// certificate, by a bearer token, or by the header of a proxy that is itself known. They refuse callers that the file does not know,
// and calls for which the caller lacks the right. Calls that concern several flows ask the Identity further questions themselves.
//
//	certificate ─┐
//	token       ─┼─► Guard.Identify ──► Identity ──► Identity.May(right, flow)
//	proxy header ┘       └─ unknown: UNAUTHENTICATED      └─ no: PERMISSION_DENIED
//
// The files of the package, in the order in which a reader may want them:
//
//   - right.go: the rights, and patterns of flow names.
//   - file.go: the access file and the rules that it has to keep.
//   - identity.go: one caller, its rights, and the fields that are masked for it.
//   - grants.go: tells others what a caller may do.
//   - mask.go: hides fields of a row.
//   - token.go: makes tokens and their hashes.
//   - guard.go: keeps the content of the file current.
//   - caller.go: finds out who calls.
//   - brake.go: slows down callers that guess.
//   - process.go: proves that a process is a coordinator or a worker.
//   - intercept.go: the interceptors of a gRPC server.
package access
