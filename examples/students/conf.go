package students

import (
	"embed"
	"io/fs"
)

//go:embed conf
var files embed.FS

// Conf has the documents of both flows, their functions and their connector, for programs that have no folder at hand.
var Conf = conf()

func conf() fs.FS {
	sub, err := fs.Sub(files, "conf")
	if err != nil {
		panic(err) // the pattern above sees to it
	}
	return sub
}
