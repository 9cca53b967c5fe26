//go:build !race

package expr

// withRace says that the race detector is on.
const withRace = false
