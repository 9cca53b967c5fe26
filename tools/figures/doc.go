// Command figures prints figures that show how hard the project's code is to enter, as tables in Markdown. For each package it prints:
//
//   - the type with the most methods, and in how many files they stand;
//   - how many arrows there are between the package's files, and how many of them run back up the list of files in the package comment;
//   - how many comment lines there are for each line of code;
//   - how often comments have the word "what", for each 1,000 words;
//   - how many functions, methods, types, constants and variables have no doc comment.
//
// Below the table it prints the number of diagrams, and how many packages a program links that imports the client. The figures are for
// comparing; only pkg/flowexec has a limit, which the command prints beside the figure.
//
//	go run ./figures -root ..
//	go run ./figures -root .. -arrows pkg/flowexec
//	go run ./figures -root .. -draw 20
//
// With -arrows it lists the arrows of one package that run back up, each with the functions that make it.
//
// With -draw it prints doc comments instead: so many of exported names, and as many of unexported names, drawn at random from a seed. The
// default seed is the hash of the commit. A reader who has not seen the code explains the comments; that shows more than a figure.
//
// The files, in reading order:
//
//   - main.go: the flags, how the module is loaded, and the table.
//   - types.go: the type with the most methods.
//   - arrows.go: the arrows between files.
//   - text.go: comment lines, words and diagrams.
//   - draw.go: missing doc comments, and the drawing of others.
package main
