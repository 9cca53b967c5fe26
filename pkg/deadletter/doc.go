// Package deadletter keeps dead letters in Redis. A dead letter is a row that could not be done, as it was when it entered the function in
// which it died. Each flow has one Redis stream of letters, with limits for their number and age. A coordinator keeps the letters of
// a batch before it answers the client, and runs them again when an operator asks for a redrive.
//
// The package is exported for the project's own programs and changes with them: see docs/stability.md.
//
// # Files
//
// In reading order:
//
//   - store.go: Config, Store, Open and Ping.
//   - keep.go: letters are kept, up to the limits, and old ones forgotten.
//   - full.go: flows without room for letters are remembered, so that Redis need not be asked for each letter.
//   - change.go: letters are edited, redriven, settled and dropped.
//   - list.go: letters are listed in pages, found by id, and counted.
//   - lock.go: the lock that a redrive or an edit of a flow's letters needs.
//   - letter.go: Letter, its states, its id, and its JSON in Redis.
//   - encode.go: the JSON of a letter is written.
//   - call.go: calls to Redis, their timeouts, and the codes of their errors.
//   - scripts.go: the keys in Redis, and the Lua scripts that change several of them at once.
//   - points.go: the points, which count how often rare branches were reached.
package deadletter
