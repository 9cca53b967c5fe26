package client

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestFloorDoesNotLagForEver(t *testing.T) {
	now := time.Now()
	p := newProducer(batch.NewStreamID(), time.Hour)
	use := func() (*batch.Batch, uint64) {
		b := batch.Rows(1)
		id, err := p.begin(b, "F", now)
		if err != nil {
			t.Fatal(err)
		}
		return b, id.Sequence
	}
	done := &batch.Result{Rows: 1}
	failed := &batch.Result{Rows: 1, NotDone: []batch.RowOutcome{{Outcome: batch.Failed}}}

	oldest, first := use()
	p.answered(oldest, "F", failed)
	for range maxSpan - 1 {
		b, _ := use()
		p.answered(b, "F", done)
	}
	if floor := p.floor(now); floor != first {
		t.Errorf("floor is %d with a failed batch %d within the span, want that", floor, first)
	}
	_, flying := use()
	if floor := p.floor(now); floor != flying {
		t.Errorf("floor is %d, want %d: the failed batch is too far behind", floor, flying)
	}
	if _, err := p.begin(oldest, "F", now); batch.CodeOf(err) != batch.CodeBadBatchID {
		t.Errorf("a batch below the floor is taken again: %v", err)
	}
	for range maxSpan {
		b, _ := use()
		p.answered(b, "F", done)
	}
	if floor := p.floor(now); floor != flying {
		t.Errorf("floor is %d, above batch %d, which is under way", floor, flying)
	}
	if len(p.open) != 1 {
		t.Errorf("%d batches are remembered, want only the one under way", len(p.open))
	}
}

func TestProducersAreForgotten(t *testing.T) {
	now := time.Now()
	failed := &batch.Result{Rows: 1, NotDone: []batch.RowOutcome{{Outcome: batch.Failed}}}
	for _, test := range []struct {
		name  string
		after time.Duration
		make  func(p *producer, b *batch.Batch)
		want  bool
	}{
		{"its stream lives", 0, func(p *producer, b *batch.Batch) { p.answered(b, "F", &batch.Result{}) }, false},
		{"nothing is open", 0, func(p *producer, b *batch.Batch) { p.answered(b, "F", &batch.Result{}); p.retire() }, true},
		{"a batch failed", time.Hour, func(p *producer, b *batch.Batch) { p.answered(b, "F", failed); p.retire() }, false},
		{"that is too old", time.Hour + 1, func(p *producer, b *batch.Batch) { p.answered(b, "F", failed); p.retire() }, true},
		{"one is under way", time.Hour + 1, func(p *producer, _ *batch.Batch) { p.retire() }, false},
	} {
		p := newProducer(batch.NewStreamID(), time.Hour)
		b := batch.Rows(1)
		if _, err := p.begin(b, "F", now); err != nil {
			t.Fatal(err)
		}
		test.make(p, b)
		if got := p.forgettable(now.Add(test.after)); got != test.want {
			t.Errorf("%s: forgettable is %t, want %t", test.name, got, test.want)
		}
	}
}

// Nothing may be allocated for each row: batches of all sizes need the same number of allocations.
func TestSendingDoesNotAllocatePerRow(t *testing.T) {
	key := batch.NewKeyField("id")
	cost := func(rows int) float64 {
		b := batch.Pack(batch.Columns{})
		c := batch.Columns{}
		for range rows {
			c.Append([]byte(`{"id":101,"score":99}`))
		}
		b = batch.Pack(c)
		return testing.AllocsPerRun(100, func() {
			p, err := newPending(t.Context(), b, batch.Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			p.fillKeys(&key, "id")
			p.begin(batch.Revision{})
			if m := p.submission(1, time.Now()); &m.Rows.Data[0] != &c.Data[0] || len(m.Rows.Keys) != rows {
				t.Fatal("the rows were copied, or have no keys")
			}
		})
	}
	if few, many := cost(10), cost(10_000); few != many {
		t.Errorf("10 rows cost %.0f allocations, 10,000 rows %.0f", few, many)
	}
}
