// Package environment lets an environment variable stand for a flag that the command line leaves out: KISGRID_TLS_CA for
// --tls-ca.
package environment

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Name is the variable that stands for a flag.
func Name(flag string) string {
	return "KISGRID_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag))
}

// Document adds the variable to each flag's usage. Call it once, when all flags are bound.
func Document(fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + Name(f.Name) + "]" })
}

// Apply sets, after parsing, the flags that the command line left out and that lookup (os.LookupEnv) knows; an empty value
// counts as none. The error names every variable that its flag does not take;
// what such a flag holds then is undefined.
func Apply(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var mistakes []error
	fs.VisitAll(func(f *pflag.Flag) {
		value, _ := lookup(Name(f.Name))
		if f.Changed || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s=%q, which stands for --%s: %w", Name(f.Name), value, f.Name, err))
		}
	})
	return errors.Join(mistakes...)
}
