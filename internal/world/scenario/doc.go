// Package scenario describes what happens in a simulated cluster: which processes run where and with which settings, which flows there
// are and how they change, which rows clients submit, and what goes wrong when. A scenario is made from a seed, or read from a script.
//
// Files, in reading order:
//
//   - scenario.go: a scenario: processes, flows, clients, changes and faults.
//   - forms.go: the forms that flows have.
//   - kinds.go: the kinds of faults and changes, and what each of them needs.
//   - fields.go: the fields of a line of a script.
//   - print.go: a scenario as a script, a line for each element.
//   - parse.go: a scenario from a script.
//   - check.go: the mistakes that make a scenario impossible.
//   - shrink.go: a smaller scenario that goes wrong in the same way.
//   - generate.go: a scenario from a seed: its size, topology, settings, flows and changes.
//   - generate_clients.go: its clients and their rows.
//   - generate_faults.go: its faults.
//   - generate_rare.go: things that chance alone hardly brings about.
//   - generate_random.go: random choices.
package scenario
