//go:build race

package expr

// withRace says that the race detector is on. It makes sync.Pool forget values, so that regular expressions allocate much more.
const withRace = true
