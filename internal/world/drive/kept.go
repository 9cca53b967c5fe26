package drive

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Replay lives through a script in a child process, and fails the test if a promise is broken.
func Replay(t *testing.T, c Children, script string) *Outcome {
	t.Helper()
	s, err := scenario.Parse(script)
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.Live(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range o.Breaches {
		t.Errorf("%s", b)
	}
	return o
}

// ReplayAll lives through each script of a folder, as a test of its own. Each script begins with a comment that says which rule it guards.
func ReplayAll(t *testing.T, c Children, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("there is no script in %s", folder)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := guards(string(script)); err != nil {
				t.Fatal(err)
			}
			Replay(t, c, string(script))
		})
	}
}

// guards complains of a script that does not say which rule it guards.
func guards(script string) error {
	rule, found := strings.CutPrefix(firstLine(script), "# ")
	if !found || len(strings.Fields(rule)) < 5 || strings.Contains(rule, "say here") {
		return fmt.Errorf("the script begins with %q, not with a comment that says which rule it guards", firstLine(script))
	}
	return nil
}
