// Package rows is the memory that the rows of a run live in while they go through their flow, function by function.
//
// Rows that go through a function together are a Set: one vector of one Go type, and beside it lists with what is known of each row, above all
// the input row that it comes from. Functions make new Sets of old ones, and a Set knows the one that it was made from, so that a row can
// jump back to what it was. All of it is handed out by a Memory, which takes it back when the run has ended.
//
// Its files, in reading order:
//   - join.go: Sets put in the order of their rows' origins, or joined into one.
//   - own.go: rows as they came to a step, and rows in memory of their own, for those that outlive the run.
//   - derive.go: the Set of the input, and those made of another Set.
//   - path.go: how rows that come from one input row are told apart.
//   - memory.go: Memory, which hands out Sets, lists and vectors.
//   - set.go: Set, rows on their way to their next function.
//   - numbers.go: a type for each way in which a row is counted.
package rows
