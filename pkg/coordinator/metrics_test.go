package coordinator

import (
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

// TestCountedTogether tells several scrapes at once what the store has.
func TestCountedTogether(t *testing.T) {
	server := miniredis.RunT(t)
	store, err := deadletter.Open(deadletter.Config{URL: "redis://" + server.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	letter := &deadletter.Letter{ID: batch.NewStreamID(), Sequence: 1, Flow: "F", Row: []byte(`{}`)}
	if _, err := store.Keep(t.Context(), "F", []*deadletter.Letter{letter}); err != nil {
		t.Fatal(err)
	}
	var c letterCounts
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if flows, err := c.ask(t.Context(), store); err != nil || len(flows) != 1 || flows[0].Letters != 1 {
				t.Errorf("the store has %+v, %v", flows, err)
			}
		})
	}
	all.Wait()
}

// TestLossesBeginAtZero shows the counters of dead rows that are not kept before there is one: their first step is a rise, too.
func TestLossesBeginAtZero(t *testing.T) {
	store, err := deadletter.Open(deadletter.Config{URL: "redis://" + miniredis.RunT(t).Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	series := func(k *letterKeeper) (n int) {
		t.Helper()
		registry := prometheus.NewRegistry()
		registry.MustRegister(k.kept, k.notKept)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if n++; m.GetCounter().GetValue() != 0 {
					t.Errorf("%s begins at %v", f.GetName(), m.GetCounter().GetValue())
				}
			}
		}
		return n
	}
	k := newLetterKeeper(store, hclog.NewNullLogger())
	k.initCounters("F")
	if n := series(k); n != 1+len(lossReasons) {
		t.Errorf("there are %d counters", n)
	}
	k.forget("F")
	none := newLetterKeeper(nil, hclog.NewNullLogger())
	none.initCounters("F")
	if n := series(k) + series(none); n != 0 {
		t.Errorf("there are %d counters of a deleted flow, or without a store", n)
	}
}
