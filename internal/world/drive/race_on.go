//go:build race

package drive

// Race says whether the program was built with the race detector.
const Race = true
