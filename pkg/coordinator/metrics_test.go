package coordinator

import (
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

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
	var c counted
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
