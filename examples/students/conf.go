package students

import (
	"embed"
	"io/fs"
)

//go:embed conf conf-declared
var files embed.FS

// Conf has the documents of both flows, their functions and their connector, for programs that have no folder at hand.
// ConfDeclared has the same flows with a Save and a Load that the documents declare: Register's SaveScoreAvg12 and
// LoadScoreAvg12 are not used.
var (
	Conf         = conf("conf")
	ConfDeclared = conf("conf-declared")
)

func conf(dir string) fs.FS {
	sub, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the pattern above sees to it
	}
	return sub
}
