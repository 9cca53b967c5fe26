package students

import (
	"embed"
	"io/fs"
)

//go:embed conf conf-declared conf-expressions
var files embed.FS

// Conf has the documents of both flows, their functions and their connector as files, for programs that have no folder at hand.
// ConfDeclared has the same flows, but the documents declare the Save and the Load, so that the Go functions SaveScoreAvg12 and
// LoadScoreAvg12 are not called. ConfExpressions has them without any Go function.
var (
	Conf         = conf("conf")
	ConfDeclared = conf("conf-declared")

	ConfExpressions = conf("conf-expressions")
)

func conf(dir string) fs.FS {
	sub, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the pattern above sees to it
	}
	return sub
}
