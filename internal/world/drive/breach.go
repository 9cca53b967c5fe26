package drive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// errTime ends shrinking.
var errTime = errors.New("the time for shrinking is over")

// examine shrinks a scenario whose life broke a promise, and writes its script into a file. It returns what to keep of it, and a text for
// a person.
func (r *run) examine(s *scenario.Scenario, o *Outcome) (Found, string) {
	breach := o.Breaches[0]
	small, shrinking := s, "not shrunk"
	if r.Shrink > 0 {
		small, breach, shrinking = r.shrink(s, breach)
	}
	found := Found{Seed: s.Seed, Breaches: o.Breaches, Script: small.String()}
	script := fmt.Sprintf("# %s: say here which rule this script guards.\n# Found by seed %d. %s\n%s", breach.Oracle, s.Seed, firstLine(breach.Text), small)
	name := fmt.Sprintf("%s-%d.txt", strings.ToLower(breach.Oracle), s.Seed)
	var text strings.Builder
	fmt.Fprintf(&text, "\n=== seed %d: %s\n%s\n", s.Seed, o.oracles(), breach)
	for _, other := range o.Breaches[1:] {
		fmt.Fprintf(&text, "also %s (%s): %s\n", other.Oracle, other.Subject, firstLine(other.Text))
	}
	fmt.Fprintf(&text, "--- the script, %s:\n%s\n", shrinking, small)
	if r.Folder != "" {
		found.File = filepath.Join(r.Folder, name)
		if err := errors.Join(os.MkdirAll(r.Folder, 0o755), os.WriteFile(found.File, []byte(script), 0o644)); err != nil {
			fmt.Fprintf(&text, "it could not be written: %v\n", err)
			found.File = ""
		} else {
			fmt.Fprintf(&text, "--- it stands in %s; live through it again with: make world SCRIPT=%s\n", found.File, found.File)
			fmt.Fprintf(&text, "--- keep it, once the fault is mended, as internal/world/testdata/%s, or as this test:\n", name)
		}
	}
	fmt.Fprintf(&text, "%s\n", goTest(breach.Oracle, s.Seed, script))
	return found, text.String()
}

// shrink makes a scenario smaller that breaks a promise. It returns the smallest one, the breach in its life, and how it was found.
func (r *run) shrink(s *scenario.Scenario, breach Breach) (*scenario.Scenario, Breach, string) {
	began, lives := time.Now(), 0
	ctx, cancel := context.WithTimeout(r.ctx, r.Shrink)
	defer cancel()
	runs := r.Runs
	if runs == 0 {
		runs = 2
	}
	children := r.Children
	small := scenario.Shrink(s, func(smaller *scenario.Scenario) (bool, error) {
		for range runs {
			if time.Since(began) > r.Shrink {
				return false, errTime
			}
			lives++
			o, err := children.Live(ctx, smaller)
			if err != nil {
				return false, err
			}
			if same, found := o.has(breach); found {
				breach = same
				return true, nil
			}
		}
		return false, nil
	})
	return small, breach, fmt.Sprintf("shrunk from %d to %d lines by %d lives in %s", strings.Count(s.String(), "\n"), strings.Count(small.String(), "\n"), lives, time.Since(began).Round(time.Second))
}

// goTest returns a test in Go that lives through a script.
func goTest(oracle string, seed uint64, script string) string {
	return fmt.Sprintf("func Test%sSeed%d(t *testing.T) {\n\tkept(t, `%s`)\n}", oracle, seed, strings.ReplaceAll(script, "`", "'"))
}

// firstLine returns the first line of a text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
