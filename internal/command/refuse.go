package command

import (
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// Positive returns an error with the exit code ExitUsage if one of these flags is not above zero. A flag is a duration or a whole number.
func Positive(fs *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if f := fs.Lookup(name); sign(f.Value.String()) <= 0 {
			return Usage("--%s %s: give more than 0; the default is %s", name, f.Value, f.DefValue)
		}
	}
	return nil
}

// NotNegative returns an error with the exit code ExitUsage if one of these flags is below zero. A flag is a duration or a whole number.
func NotNegative(fs *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if f := fs.Lookup(name); sign(f.Value.String()) < 0 {
			return Usage("--%s %s: give 0 or more; the default is %s", name, f.Value, f.DefValue)
		}
	}
	return nil
}

// sign returns -1, 0 or 1 for the text of a duration or a whole number, as flags write it.
func sign(text string) int {
	n, err := strconv.ParseInt(text, 10, 64)
	if d, failed := time.ParseDuration(text); err != nil && failed == nil {
		n = int64(d)
	}
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
