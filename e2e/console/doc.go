// Package console tests the web console in Chromium, as people use it: at a cluster under load, with the mouse and by keyboard alone, in a
// wide and in a narrow window, dark and light. testdata/axe.min.js is axe-core 4.14.1 from npm, which looks for barriers to people with
// disabilities; its licence is beside it.
//
// With KISGRID_SCREENSHOTS=DIR the tests write the screenshots of docs/console.md into the folder.
package console
