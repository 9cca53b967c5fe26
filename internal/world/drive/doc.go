// Package drive runs many scenarios of a simulated cluster, each in a process of its own, and says what came of them. A process that
// panics, or that does not end, breaks a promise too, and costs no other scenario. A scenario that breaks a promise is shrunk to few lines.
//
// A test hands its function that lives through one scenario to Life, and starts the others with Drive or Replay:
//
//	parent test --- script (stdin) ---> child: the same test binary, one scenario
//	            <-- outcome (JSON) ----
//
// Files, in reading order:
//
//   - outcome.go: what is known of one life.
//   - life.go: the child's side: one scenario from standard input.
//   - child.go: the parent's side: starts a child, waits for it, and reads from its output why it ended.
//   - watchdog.go: ends a child that hangs.
//   - drive.go: lives through many seeds.
//   - breach.go: shrinks the scenario of a breach, prints it and keeps it in a file.
//   - tally.go: adds outcomes up, for the table at the end.
//   - repeat.go: compares two lives of the same seed.
//   - kept.go: lives through scripts that were kept.
package drive
