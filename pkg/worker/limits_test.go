package worker

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestLimitsThatDiffer has sessions with coordinators that take more than the worker, or less, or say nothing, some of them for a
// client that takes less still. The worker tells its own limits, sends no message that the other side does not take, and ends a row
// that comes to more than that, and none beside it.
func TestLimitsThatDiffer(t *testing.T) {
	for _, c := range []struct {
		name              string
		batchBytes        int // of the coordinator; 0: it does not say
		outputRow         int // for the client; 0: no matter
		total, one        int // of what a row may come to, as the worker is to see it
		largest, thinnest int // rows of output that one row may have, of 100 bytes, and of 1000
	}{
		{"more", 32 << 20, 0, 8 << 20, 8 << 20, 8 << 20 / 140, 8 << 20 / 1040},
		{"less", 64 << 10, 0, 64 << 10, 64 << 10, 64 << 10 / 140, 64 << 10 / 1040},
		{"not said", 0, 0, 8 << 20, 8 << 20, 8 << 20 / 140, 8 << 20 / 1040},
		{"a client that takes less", 0, 500, 8 << 20, 500, 8 << 20 / 140, 0},
		{"both take less", 64 << 10, 500, 64 << 10, 500, 64 << 10 / 140, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, wideBudget, func(t *testing.T, r *rig) {
				b := r.dial()
				m := hello("c-1", workerID, false)
				m.GetHello().BatchBytes, m.GetHello().FollowsLimits = uint32(c.batchBytes), true
				b.send(m)
				w := b.must().GetWelcome()
				if l := r.server.config.Limits; int(w.GetBatchBytes()) != l.BatchBytes || int(w.GetBatchRows()) != l.BatchRows {
					t.Fatalf("Welcome tells %d bytes and %d rows", w.GetBatchBytes(), w.GetBatchRows())
				}
				message := min((&transport.Config{}).MessageBytes(), (&transport.Config{BatchBytes: c.batchBytes}).MessageBytes())
				b.define("repeat")
				short, long := strings.Repeat("s", 60), strings.Repeat("l", 960)
				for number, want := range []struct {
					times int
					text  string
					done  bool
				}{
					{c.largest, short, true},
					{c.thinnest, long, true},
					{c.total/60 + 1, short, false},
					{1, long, c.one > 1000},
				} {
					if want.times == 0 {
						continue
					}
					p := batchOf(uint64(number+1), "repeat", "x", "x", "x")
					p.OutputRowBytes, p.KeepDead = uint32(c.outputRow), true
					var rows batch.Columns
					for i, text := range []string{"first", want.text, "last"} {
						rows.Append(fmt.Appendf(nil, `{"id":%d,"text":%q}`, []int{1, want.times, 2}[i], text))
					}
					p.Columns = wire.FromColumns(rows)
					b.sendPart(p)
					ended, outputs := map[uint32]pb.Code{}, map[uint32]int{}
					for last := false; !last; {
						res := b.result()
						if size := proto.Size(res); size > message {
							t.Fatalf("a message of %d bytes, of at most %d", size, message)
						}
						for _, o := range res.GetNotDone() {
							ended[o.GetRow()] = o.GetCode()
						}
						for _, origin := range res.GetOutput().GetOrigins() {
							outputs[origin]++
						}
						last = res.GetLast()
					}
					b.ack()
					if outputs[0] != 1 || outputs[2] != 2 {
						t.Errorf("%d times %d bytes: the rows beside it came to %v", want.times, len(want.text), outputs)
					}
					switch {
					case want.done && (len(ended) > 0 || outputs[1] != want.times):
						t.Errorf("%d times %d bytes fit, and came to %d rows, ended %v", want.times, len(want.text), outputs[1], ended)
					case !want.done && (len(ended) != 1 || ended[1] != pb.Code(batch.CodeRowTooLarge) || outputs[1] != 0):
						t.Errorf("%d times %d bytes are too many, and came to %d rows, ended %v", want.times, len(want.text), outputs[1], ended)
					}
				}
			})
		})
	}
}
