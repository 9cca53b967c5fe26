package point_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/point"

	// The packages that have points, with the packages that these import.
	_ "github.com/kisgrid/kisgrid/pkg/client"
	_ "github.com/kisgrid/kisgrid/pkg/coordinator"
	_ "github.com/kisgrid/kisgrid/pkg/worker"
)

// properNouns are the words that may have a capital letter in the name of a point.
var properNouns = map[string]bool{"Save": true, "Load": true, "Redis": true}

// Whoever reads which points the tests have not reached reads names, and not code. New has seen to it that no two points have one name.
func TestNamesAreReadable(t *testing.T) {
	all := point.All()
	inPackage := map[string]int{}
	for _, p := range all {
		pkg, rest, _ := strings.Cut(p.Name, "/")
		inPackage[pkg]++
		_, event, _ := strings.Cut(rest, ": ")
		for word := range strings.FieldsSeq(event) {
			word = strings.TrimRight(word, ",")
			if !regexp.MustCompile(`^[a-z-]+$`).MatchString(word) && !properNouns[word] {
				t.Errorf("the point %q has %q in its name, which is no plain word", p.Name, word)
			}
		}
		if len(p.Name) > 100 {
			t.Errorf("the point %q has a name of %d bytes", p.Name, len(p.Name))
		}
	}
	for _, pkg := range []string{
		"client", "coordinator", "leader", "admin", "scheduler", "worker", "flowexec", "connector", "memory", "redis", "cluster", "deadletter",
	} {
		if inPackage[pkg] == 0 {
			t.Errorf("no point has a name that begins with %s/", pkg)
		}
	}
}
