// Package bubble runs tests in virtual time, also with the race detector.
//
// Its files, in the order in which they are best read:
//
//   - bubble.go: Test, which the tests of this project call in place of synctest.Test.
//   - race_on.go: whether the race detector is on: it is.
//   - race_off.go: the same, when it is not.
package bubble
