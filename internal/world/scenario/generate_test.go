package scenario

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestGenerate makes many scenarios. Every kind, form and way to submit occurs in some of them; most scenarios are small, and few kinds of
// faults are on in each.
func TestGenerate(t *testing.T) {
	const seeds = 1000
	seen := map[string]int{}
	var rows, faults, kinds int
	var lasts time.Duration
	for seed := range uint64(seeds) {
		s := Generate(seed)
		if seed%50 == 0 && s.String() != Generate(seed).String() {
			t.Fatalf("seed %d gives two scenarios", seed)
		}
		if s.Workers[0].Absent || s.Workers[0].Build != "" {
			t.Errorf("seed %d: the first worker is not whole", seed)
		}
		lasts += s.Lasts
		faults += len(s.Faults)
		on := map[string]bool{}
		note := func(word string) { on[word] = true }
		for _, f := range s.Faults {
			note("fault " + f.Kind)
		}
		kinds += len(on)
		for _, c := range s.Changes {
			note("change " + c.Kind)
		}
		for _, f := range s.Flows {
			note("form " + f.Form)
		}
		for _, c := range s.Clients {
			note("client " + c.How)
			rows += c.Rows
			for _, f := range fields(reflect.ValueOf(c.Mix)) {
				if f.value.Int() > 0 {
					note("mix " + f.word)
				}
			}
		}
		for _, p := range slices.Concat(s.Coordinators, s.Workers) {
			for _, f := range fields(reflect.ValueOf(p)) {
				if !f.value.IsZero() {
					note("setting " + f.word)
				}
			}
		}
		for word := range on {
			seen[word]++
		}
	}
	var all []string
	for _, k := range FaultKinds {
		all = append(all, "fault "+k.Name)
	}
	for _, k := range ChangeKinds {
		all = append(all, "change "+k.Name)
	}
	for _, f := range Forms {
		all = append(all, "form "+f.Name)
	}
	for _, how := range Hows {
		all = append(all, "client "+how)
	}
	for _, f := range fields(reflect.ValueOf(Mix{})) {
		all = append(all, "mix "+f.word)
	}
	for _, f := range fields(reflect.ValueOf(Process{})) {
		if !f.lead {
			all = append(all, "setting "+f.word)
		}
	}
	for _, word := range all {
		if n := seen[word]; n < seeds/400 {
			t.Errorf("%s: in %d of %d scenarios only", word, n, seeds)
		}
		if testing.Verbose() {
			t.Logf("%-24s %d", word, seen[word])
		}
	}
	t.Logf("means: %d rows, %s, %.1f faults of %.1f kinds", rows/seeds, lasts/seeds, float64(faults)/seeds, float64(kinds)/seeds)
	if rows/seeds > 2000 || lasts/seeds > 2*time.Minute {
		t.Error("the scenarios are too large on average")
	}
}

// TestRandHasAStreamForEachParty takes numbers of one party away: the numbers of another one stay.
func TestRandHasAStreamForEachParty(t *testing.T) {
	s := &Scenario{Seed: 1}
	a, b := s.Rand("client a"), s.Rand("client b")
	first := b.Uint64()
	if a.Uint64() == first {
		t.Error("two parties have the same stream")
	}
	if s.Rand("client b").Uint64() != first {
		t.Error("the stream of a party changes")
	}
}
