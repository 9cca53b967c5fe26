package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// .ci/run runs all its steps whatever becomes of one, fails if one failed, and says which was the first; a tool that can't be had
// skips its step, loudly, and fails nothing.
func TestCI(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	// The programs that it would install are there, so that it installs none; make fails for the targets in FAIL.
	programs := t.TempDir()
	for _, name := range []string{"make", "git", "gcc", "redis-server", "etcd", "etcdctl", "chromium"} {
		text := "#!" + bash + "\ncase \" $FAIL \" in *\" $1 \"*) exit 2 ;; esac\necho \"made $1\"\n"
		if err := os.WriteFile(filepath.Join(programs, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	steps := []string{"proto-check", "lint-ci", "api", "test-tools", "test"}
	for name, c := range map[string]struct {
		fail   string
		passes bool
		says   string
		not    []string // these were not made
	}{
		"all is well":                   {"", true, "=== all steps that ran passed", nil},
		"one fails":                     {"lint-ci", false, "=== FAILED first: lint; of all steps, these: lint\n", []string{"lint-ci"}},
		"several fail":                  {"proto-check test", false, "=== FAILED first: generated; of all steps, these: generated test\n", []string{"proto-check", "test"}},
		"the tests fail":                {"test", false, "=== FAILED first: test; of all steps, these: test\n", []string{"test"}},
		"a tool can't be had":           {"tools-lint", true, "=== SKIPPED, as their tools could not be installed: lint\n", []string{"lint-ci"}},
		"no tool can be had":            {"tools-proto tools-lint tools-api tools-modules", true, "could not be installed: generated lint api tools\n", steps[:4]},
		"a tool is away, and one fails": {"tools-lint test", false, "=== FAILED first: test; of all steps, these: test\n", []string{"lint-ci", "test"}},
	} {
		run := exec.CommandContext(t.Context(), bash, "../../.ci/run")
		run.Env = append(os.Environ(), "FAIL="+c.fail, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := run.CombinedOutput()
		if (err == nil) != c.passes || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: it ended with %v, and printed\n%s", name, err, out)
		}
		for _, step := range steps {
			if made := strings.Contains(string(out), "made "+step+"\n"); made == slices.Contains(c.not, step) {
				t.Errorf("%s: whether %s was made: %v, in\n%s", name, step, made, out)
			}
		}
	}
}
