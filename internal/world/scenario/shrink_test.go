package scenario

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestShrink shrinks generated scenarios that "go wrong" whenever a worker is killed and a client sends at least 40 rows to a flow of a
// certain form. What is left is a script of few lines with nothing else in it.
func TestShrink(t *testing.T) {
	breaks := func(s *Scenario) bool {
		killed := slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Kind == "kill" && strings.HasPrefix(f.Who, "w") })
		return killed && slices.ContainsFunc(s.Clients, func(c Client) bool { return strings.HasPrefix(c.Flow, "load") && c.Rows >= 40 })
	}
	found := 0
	for seed := uint64(0); found < 5; seed++ {
		s := Generate(seed)
		if !breaks(s) {
			continue
		}
		found++
		tries := 0
		small := Shrink(s, func(s *Scenario) (bool, error) {
			tries++
			return breaks(s), nil
		})
		if !breaks(small) {
			t.Fatalf("seed %d: the shrunk scenario does not go wrong:\n%s", seed, small)
		}
		checkRoundTrip(t, small)
		// seed, lasts, calm, a coordinator, the worker, two flows, a client, a fault
		if n := strings.Count(small.String(), "\n"); n > 9 || small.Clients[0].Rows >= 80 || small.Faults[0].For > 0 {
			t.Errorf("seed %d: after %d tries, %d lines are left:\n%s", seed, tries, n, small)
		}
		if tries > 400 {
			t.Errorf("seed %d: %d tries", seed, tries)
		}
	}
}

// TestShrinkEnds has the check say that the time is over: the smallest scenario so far is returned.
func TestShrinkEnds(t *testing.T) {
	tries := 0
	s := Generate(1)
	small := Shrink(s, func(*Scenario) (bool, error) {
		if tries++; tries > 3 {
			return false, errors.New("the time is over")
		}
		return true, nil
	})
	if tries != 4 || len(small.String()) >= len(s.String()) {
		t.Errorf("after %d tries:\n%s", tries, small)
	}
}
