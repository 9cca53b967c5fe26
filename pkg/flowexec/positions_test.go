package flowexec_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// sendAt enqueues rows of a log, "key number", whose numbers are their positions. Each part is a batch of its own.
func (b *bed) sendAt(log batch.LogID, floor uint64, rows ...string) *flowexec.Part {
	p := &flowexec.Part{
		Plan: b.plan, Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, BatchRows: len(rows), Output: true, Attempt: 1, Done: b.done,
		Log: &batch.Positions{Log: log, Term: 1, Floor: floor},
	}
	for _, text := range rows {
		var key string
		var n int
		if _, err := fmt.Sscan(text, &key, &n); err != nil {
			b.t.Fatal(err)
		}
		p.Columns.Append([]byte(row(key, n)))
		p.Columns.Positions = append(p.Columns.Positions, uint64(n))
		if b.plan.ShardKey() != "" {
			p.Columns.Keys = append(p.Columns.Keys, keyOf(key))
		}
	}
	b.lanes.Enqueue(p)
	return p
}

// appending is a Save s that appends each row to the list of its key.
func appending(b *bed, r *kis.Registry) {
	r.Func("s", kis.Save(func(ctx context.Context, to kis.Writer, i in) error {
		to.Append(i.K, fmt.Sprint(i.N))
		b.note("%s", kis.From(ctx).RowID())
		return nil
	}))
}

// listed returns the values that were appended, in order, without those of Saves that the store took for done.
func (b *bed) listed(key string) string {
	lists, _ := b.store.Connection.(interface {
		Data() (map[string][]string, map[string]map[string]string)
	}).Data()
	return strings.Join(lists["s_"+key], " ")
}

// While a row of a log has failed, rows of its key behind it fail without having begun, in the same batch and in later ones; rows of other keys
// and logs go on. The key goes on when the failed row comes again, or when it was settled elsewhere.
func TestRowsBehindFailed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\ntimeout: 8s\n", appending, "s Save")
		log, other := batch.LogIDOf("a"), batch.LogIDOf("b")
		away := false
		b.store.away = func() error {
			if away {
				return batch.Errorf(batch.CodeConnectorUnavailable, "redis is away")
			}
			return nil
		}
		b.expectEnded(b.sendAt(log, 0, "a 1", "b 2"), "[0 1] 0→a1 1→b2")
		away = true
		first := b.sendAt(log, 0, "a 3")
		time.Sleep(4 * time.Second)
		second := b.sendAt(log, 0, "a 4", "a 5") // its time is not over when that of the first is
		time.Sleep(4500 * time.Millisecond)
		b.expectEnded(first, "[0] 0 CONNECTOR_UNAVAILABLE s")
		away = false
		time.Sleep(2 * time.Second)
		b.expectEnded(second, "[0 1] 0 BEHIND_FAILED  1 BEHIND_FAILED ")
		b.expectEnded(b.sendAt(log, 0, "b 6", "a 7"), "[0 1] 1 BEHIND_FAILED  0→b6")
		b.expectEnded(b.sendAt(other, 0, "a 50"), "[0] 0→a50")
		b.expectEnded(b.sendAt(log, 3, "a 3", "a 4", "a 5", "b 6"), "[0 1 2 3] 0→a3 1→a4 2→a5 3→b6")
		b.expectEnded(b.sendAt(log, 3, "a 7"), "[0] 0→a7")
		if got := b.listed("a"); got != "1 50 3 4 5 7" {
			t.Errorf("a has %s", got)
		}

		away = true
		first = b.sendAt(log, 3, "a 8")
		time.Sleep(9 * time.Second)
		b.expectEnded(first, "[0] 0 CONNECTOR_UNAVAILABLE s")
		away = false
		b.expectEnded(b.sendAt(log, 8, "a 9"), "[0] 0 BEHIND_FAILED ")
		b.expectEnded(b.sendAt(log, 9, "a 9"), "[0] 0→a9") // another worker had 8
	})
}

// Effects and ids of rows in a log have the names of their positions, however the log is cut.
func TestRowsAreNamedByPosition(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, flowLines := range []string{"shard_key: k\n", ""} {
			b := newBed(t, flowLines, appending, "s Save")
			log := batch.LogIDOf("a")
			b.sendAt(log, 0, "a 1", "b 2", "a 3")
			b.expect(fmt.Sprintf("%s %s %s", log.RowID(1), log.RowID(2), log.RowID(3)))
			b.sendAt(log, 0, "a 3", "a 4")
			b.sendAt(log, 2, "a 1", "b 2")
			b.expect(fmt.Sprintf("%s %s %s %s", log.RowID(3), log.RowID(4), log.RowID(1), log.RowID(2)))
			if got := b.listed("a"); got != "1 3 4" {
				t.Errorf("%q: a has %s", flowLines, got)
			}
			for i, cause := range b.store.causes {
				if *cause.Log != (connector.Log{ID: log, Term: 1, Floor: []uint64{0, 0, 2}[i]}) {
					t.Errorf("%q: the log of Save %d is %+v", flowLines, i, *cause.Log)
				}
			}
		}
	})
}

// Rows that nobody can trace back to one input row have no position, so the rows die with LINEAGE_LOST before a Save, also in a flow without a
// shard key.
func TestPositionsNeedLineage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "", func(b *bed, r *kis.Registry) {
			r.Func("w", kis.Batch(func(_ context.Context, all []in) ([]in, error) { return all[:1], nil }))
			appending(b, r)
		}, "w Calculate", "s Save")
		b.send("a 1", "a 2")
		b.noted()
		b.expectEnded(b.sendAt(batch.LogIDOf("a"), 0, "a 1", "a 2"), "[0 1] 0 LINEAGE_LOST w 1 LINEAGE_LOST w")
		if len(b.store.saves) != 1 {
			t.Errorf("%d Saves", len(b.store.saves))
		}
	})
}
