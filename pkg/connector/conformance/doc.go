// Package conformance is the suite of tests that every connector passes. It is for tests only:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Store{Open: open, List: list, Pairs: 1000})
//	}
//
// The files, in reading order:
//
//   - conformance.go: Run, and the tests of Save and Load.
//   - watch.go: tests of waiting for keys.
//   - once.go: tests that effects take place once.
//   - positions.go: tests that effects of rows in a log take place once.
//   - keys.go: keys that are KisGrid's own.
package conformance
