package command

import (
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// DocumentAccess has the flags that say which environment variables and files of this process the documents of connectors may
// read, and where they may connect to.
type DocumentAccess struct{ env, files, addresses []string }

// BindFlags adds --document-env, --document-files and --document-addresses.
func (a *DocumentAccess) BindFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&a.env, "document-env", nil, "`NAME,PREFIX*,…`: environment variables that ${NAME} in the documents of connectors may read (default: all except KISGRID_* and OTEL_*)")
	fs.StringSliceVar(&a.addresses, "document-addresses", nil, "`HOST:PORT,*.DOMAIN,10.0.0.0/8,…`: addresses that the documents of connectors may name (default: all)")
	fs.StringSliceVar(&a.files, "document-files", nil, "`DIR,…`: folders with the files that the documents of connectors may read by password_file and tls_… (default: none; for documents that run already there is only a warning)")
}

// Access returns the rules that the flags give. fs is the flag set of BindFlags, after it was parsed. A flag that was given,
// even with an empty value, replaces the default.
func (a *DocumentAccess) Access(fs *pflag.FlagSet) definition.Access {
	var out definition.Access
	if fs.Changed("document-env") {
		out.Env = append([]string{}, a.env...)
	}
	if fs.Changed("document-files") {
		out.Files = append([]string{}, a.files...)
	}
	if fs.Changed("document-addresses") {
		out.Addresses = append([]string{}, a.addresses...)
	}
	return out
}
