package drive

import (
	"encoding/json"
	"io"
	"os"
	"testing"
	"testing/cryptotest"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// childVariable is set in the environment of a child, to the name of its test. Its value "lines" asks for Outcome.Lines.
const childVariable = "KISGRID_WORLD_CHILD"

// randomVariable has the seed of the runtime's random numbers: see the command internal/world/seeded.
const randomVariable = "KISGRID_WORLD_RANDOM"

// Life is the body of the test that children run. It reads a script, has live go through it, and reports the outcome to the parent. In a
// process that is no child it skips the test.
func Life(t *testing.T, live func(t *testing.T, s *scenario.Scenario, lines bool) Outcome) {
	mode, child := os.LookupEnv(childVariable)
	if !child {
		t.Skip("runs in child processes of other tests only")
	}
	script, err := io.ReadAll(os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Parse(string(script))
	if err != nil {
		t.Fatal(err)
	}
	cryptotest.SetGlobalRandom(t, s.Seed)
	outcome := live(t, s, mode == "lines")
	pipe := os.NewFile(3, "outcome")
	if pipe == nil {
		t.Fatal("the parent gave no pipe for the outcome")
	}
	if err := json.NewEncoder(pipe).Encode(outcome); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
}
