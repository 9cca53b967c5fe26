package world_test

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/world"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// An intruder's false sessions are answered, and disturb nobody.
func TestIntruder(t *testing.T) {
	s := quiet()
	s.Lasts = time.Minute
	s.Clients = append(s.Clients, scenario.Client{
		Name: "i", How: "intruder", Start: 3 * time.Second, Flow: "Chain", Host: "h6", Rows: 50, Batch: 1, Every: time.Second,
	})
	r := world.Run(t, s)
	t.Logf("took %s", r.Took)
	sound(t, r)
	answers := map[string]int{}
	for _, c := range r.History.Calls {
		if c.Verb == "wrong" {
			answers[c.Subject+": "+c.Error]++
		}
	}
	if len(answers) < 4 {
		t.Errorf("too few kinds of false sessions were answered: %v", answers)
	}
	for text, n := range answers {
		t.Logf("%d × %s", n, text)
	}
	for _, b := range r.History.Batches {
		if try := b.Last(); try == nil || !try.Answered || len(try.NotDone) > 0 {
			t.Errorf("batch %d of %s ended as %+v", b.Number, b.Client, try)
		}
	}
}

// Rows that died are mended and redriven, and then take effect.
func TestRedrive(t *testing.T) {
	s := quiet()
	s.Lasts = time.Minute
	for i := range s.Coordinators {
		s.Coordinators[i].Letters = true
	}
	s.Clients = []scenario.Client{{
		Name: "r", How: "redrive", Start: 3 * time.Second, Flow: "Chain", Host: "h6", Rows: 400, Batch: 10, Every: time.Second, Keys: 5,
		Mix: scenario.Mix{Error: 50, Panic: 50},
	}}
	r := world.Run(t, s)
	t.Logf("took %s", r.Took)
	sound(t, r)
	verbs := map[string]int{}
	for _, c := range r.History.Calls {
		verbs[c.Verb]++
		if c.Verb == "dead redrive" {
			t.Logf("%s %s %s", c.At, c.Answer, c.Error)
		}
	}
	if verbs["dead edit"] == 0 || verbs["dead redrive"] == 0 {
		t.Errorf("no letter was mended, or none redriven: %v", verbs)
	}
	// Clients' streams and letters' ids are told apart by the batches that the history knows.
	streams := map[batch.StreamID]bool{}
	for _, b := range r.History.Batches {
		for _, try := range b.Tries {
			streams[try.ID.Stream] = true
		}
	}
	mended := 0
	for _, store := range r.History.Stores {
		for key, list := range store.Lists {
			for _, text := range list {
				e, err := history.ParseEntry(text)
				if err != nil {
					t.Errorf("%s: %v", key, err)
				} else if !streams[e.ID.Batch.Stream] {
					mended++
				}
			}
		}
	}
	if mended == 0 {
		t.Error("no mended row took effect")
	}
	t.Log(verbs, mended)
}
