package command

import (
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Access is what documents may read of a program's process.
type DocumentAccess struct{ env, files []string }

// BindFlags binds --document-env and --document-files.
func (a *DocumentAccess) BindFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&a.env, "document-env", nil, "`NAME,PREFIX*,…`: the environment variables that ${NAME} in connectors' documents may name (default: all but KISGRID_* and OTEL_*)")
	fs.StringSliceVar(&a.files, "document-files", nil, "`DIR,…`: folders in which the files may lie that connectors' documents name, password_file and tls_… (default: none; documents that run already are only warned of)")
}

// Of is what the flags say, once they are parsed. A flag that was given, if only as empty, has no default.
func (a *DocumentAccess) Access(fs *pflag.FlagSet) definition.Access {
	var out definition.Access
	if fs.Changed("document-env") {
		out.Env = append([]string{}, a.env...)
	}
	if fs.Changed("document-files") {
		out.Files = append([]string{}, a.files...)
	}
	return out
}
