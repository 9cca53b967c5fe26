package worker

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// locate asks where the rows of a word's key stand.
func (b *boss) locate(number uint64, word int, most uint32) *pb.Located {
	b.t.Helper()
	b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Locate{Locate: &pb.Locate{Number: number, Flow: "sharded", Key: slotOf(word), Most: most}}})
	m := b.must()
	for ; m.GetResult() != nil; m = b.must() { // of rows of other keys
		b.received = m.GetResult().GetNumber()
	}
	l := m.GetLocated()
	if l == nil || l.GetNumber() != number {
		b.t.Fatalf("asked for rows, and was answered %v", l)
	}
	return l
}

// TestLocate tells a coordinator where the rows of a key are, also those of others, which its own wait for.
func TestLocate(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		r.hold("first")
		one, two := r.dial(), r.dial()
		if w := one.hello("c-1", false); !w.GetLocates() {
			t.Errorf("Welcome %v", w)
		}
		two.hello("c-2", false)
		one.define("sharded")
		two.define("sharded")
		if l := one.locate(1, 0, 10); len(l.GetRows())+len(l.GetCounts()) > 0 {
			t.Errorf("without rows it was answered %v", l)
		}
		one.sendPart(batchOf(1, "sharded", "first", "odd"))
		synctest.Wait()
		time.Sleep(3 * time.Second)
		one.sendPart(batchOf(2, "sharded", "second", "odd", "other"))
		synctest.Wait()
		two.sendPart(batchOf(7, "sharded", "third"))
		synctest.Wait()
		time.Sleep(time.Second)
		two.hangUp()
		synctest.Wait()

		l := one.locate(2, 0, 10)
		if len(l.GetRows()) != 3 {
			t.Fatalf("it was answered %v", l)
		}
		first, second, third := l.GetRows()[0], l.GetRows()[1], l.GetRows()[2]
		if first.GetWhere() != "running" || first.GetFunction() != "echo" || first.GetPart() != 1 || first.GetPartRow() != 0 || first.GetRunRows() != 1 ||
			first.GetForMilliseconds() != 4000 || first.GetWorker() != workerID || first.GetBatch().GetSequence() != 1 || first.GetCoordinator() != "" {
			t.Errorf("the first row is %v", first)
		}
		if second.GetWhere() != "lane" || second.GetPart() != 2 || second.GetForMilliseconds() != 1000 || second.GetCoordinator() != "" {
			t.Errorf("the second row is %v", second)
		}
		if third.GetWhere() != "lane" || third.GetPart() != 0 || third.GetCoordinator() != "c-2" || !third.GetBroken() || third.GetBatch().GetSequence() != 7 {
			t.Errorf("another coordinator's row is %v", third)
		}
		var counts []string
		for _, c := range l.GetCounts() {
			counts = append(counts, strings.TrimSpace(c.GetWhere()+" "+map[bool]string{true: "others"}[c.GetOthers()]))
			if c.GetRows() != 1 || c.GetWorker() != workerID {
				t.Errorf("it counts %v", c)
			}
		}
		if slices.Sort(counts); !slices.Equal(counts, []string{"lane", "lane others", "running"}) {
			t.Errorf("it counts %v", counts)
		}
		if l := one.locate(3, 0, 1); len(l.GetRows()) != 1 || len(l.GetCounts()) != 3 {
			t.Errorf("of all rows one is to be told: %v", l)
		}
		r.openAll()
	})
}
