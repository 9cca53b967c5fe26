// Package console is the web console of a coordinator: pages for people, which call the coordinator's HTTP API. docs/console.md shows it to users.
//
// The pages are the files in static, as they are: plain ES modules without a build step, whose only library is dom.js. They are embedded into
// the program, and load nothing from elsewhere. app.js has the frame; each page is a module of its own.
//
// The files, in reading order:
//
//   - console.go: serves the files, with the headers that keep browsers from running anything else.
package console
