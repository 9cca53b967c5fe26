package command

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// Values with which nothing can work are mistakes in the command line.
func TestRefuse(t *testing.T) {
	for value, want := range map[string][2]bool{"-1s": {true, true}, "0s": {true, false}, "1ms": {false, false}} {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		fs.Duration("lease", time.Second, "")
		if err := fs.Parse([]string{"--lease", value}); err != nil {
			t.Fatal(err)
		}
		for i, err := range []error{Positive(fs, "lease"), NotNegative(fs, "lease")} {
			if (err != nil) != want[i] || err != nil && ExitCode(err) != ExitUsage {
				t.Errorf("--lease %s: %v", value, err)
			}
		}
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.Int("rows", 0, "")
	if err := Positive(fs, "rows"); err == nil || err.Error() != "--rows 0: give more than 0; the default is 0" {
		t.Error(err)
	}
}

// The nearest verbs are those that differ by a letter or two, and the verbs of other programs.
func TestDistance(t *testing.T) {
	for words, want := range map[[2]string]int{{"submit", "submit"}: 0, {"submt", "submit"}: 1, {"sumbit", "submit"}: 1, {"get", "lint"}: 3, {"", "get"}: 3} {
		if got := distance(words[0], words[1]); got != want {
			t.Errorf("%s is %d letters from %s, want %d", words[0], got, words[1], want)
		}
	}
}
