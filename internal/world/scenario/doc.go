// Package scenario describes what happens in a simulated cluster: which processes run where and with which settings, which flows there
// are and how they change, which rows clients submit, and what goes wrong when. A scenario is made from a seed, or read from a script.
//
// Files, in reading order:
//
//   - scenario.go: a scenario: processes, flows, clients, changes and faults.
//   - forms.go: the forms that flows have.
//   - kinds.go: the kinds of faults and changes, and what each of them needs.
package scenario
