package environment_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/environment"
)

func flags() (fs *pflag.FlagSet, address *string, wait *time.Duration) {
	fs = pflag.NewFlagSet("test", pflag.ContinueOnError)
	return fs, fs.String("listen-address", ":1", "where to listen"), fs.Duration("wait", time.Second, "how long to wait")
}

func lookup(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name      string
		args      []string
		variables map[string]string
		address   string
		wait      time.Duration
	}{
		{"neither", nil, nil, ":1", time.Second},
		{"variable", nil, map[string]string{"KISGRID_LISTEN_ADDRESS": ":2", "KISGRID_WAIT": "3s"}, ":2", 3 * time.Second},
		{"flag wins", []string{"--listen-address=:3"}, map[string]string{"KISGRID_LISTEN_ADDRESS": ":2"}, ":3", time.Second},
		{"empty variable", nil, map[string]string{"KISGRID_WAIT": ""}, ":1", time.Second},
	} {
		fs, address, wait := flags()
		if err := fs.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if err := environment.Apply(fs, lookup(c.variables)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if *address != c.address || *wait != c.wait {
			t.Errorf("%s: got %s, %v; want %s, %v", c.name, *address, *wait, c.address, c.wait)
		}
	}
}

func TestApplyNamesTheVariableThatIsWrong(t *testing.T) {
	fs, _, _ := flags()
	err := environment.Apply(fs, lookup(map[string]string{"KISGRID_WAIT": "soon"}))
	if err == nil || !strings.Contains(err.Error(), `KISGRID_WAIT="soon"`) || !strings.Contains(err.Error(), "--wait") {
		t.Errorf("got %v", err)
	}
}

func TestDocument(t *testing.T) {
	fs, _, _ := flags()
	environment.Document(fs)
	if usage := fs.FlagUsages(); !strings.Contains(usage, "where to listen [$KISGRID_LISTEN_ADDRESS]") {
		t.Errorf("usage is\n%s", usage)
	}
}
