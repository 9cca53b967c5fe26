//go:build !race

package bubble

// Race says whether the program was built with the race detector.
const Race = false
