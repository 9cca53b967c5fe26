package simetcd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/world/simetcd"
)

// TestSameAnswersToRandomRequests makes random requests and watches with the model and with an embedded etcd, and compares all answers and
// events.
func TestSameAnswersToRandomRequests(t *testing.T) {
	// It is not in a bubble, since the real etcd is not; nothing here waits for a time.
	_, sim, _ := start(t, 1, simetcd.Config{Election: 100 * time.Millisecond})
	embedded(t).run(t, func(t *testing.T, etcd *clientv3.Client) {
		leases := int64(1000)
		rapid.Check(t, func(rt *rapid.T) {
			leases += 10
			halves := []*half{newHalf(t, etcd, leases), newHalf(t, sim, leases)}
			for _, h := range halves {
				defer h.close()
			}
			for range rapid.IntRange(1, 40).Draw(rt, "requests") {
				request := drawRequest(rt)
				for _, h := range halves {
					request(h)
				}
			}
			for _, h := range halves {
				h.finish()
			}
			compare(rt, "the real one", halves[0].lines, halves[1].lines)
		})
	})
}

// half is one of the two etcds of a check. Numbers of revisions and leases in requests count from the begin of the check.
type half struct {
	*transcript
	leaseID  int64 // the number from which ids of leases count
	watches  []*observed
	ends     []context.CancelFunc
	now      int64 // the revision of the last answer
	farthest int64 // the last revision that a watch begins at
}

// observed is a watch of a check, on a stream of its own.
type observed struct {
	stream pb.Watch_WatchClient
	start  int64    // the revision at which it begins
	lines  []string // events, and the end of the watch
	last   int64    // the revision of the last event
	over   bool
}

// newHalf begins a check with one etcd.
func newHalf(t *testing.T, client *clientv3.Client, leases int64) *half {
	s := newTranscript(t, client)
	return &half{transcript: s, leaseID: leases, now: s.base}
}

// drawRequest draws a request, for both etcds.
func drawRequest(rt *rapid.T) func(h *half) {
	switch rapid.SampledFrom([]string{"put", "put", "put", "delete", "range", "range", "txn", "txn", "txn", "compact", "grant", "revoke", "lease", "watch", "cancel"}).Draw(rt, "request") {
	case "put":
		r := drawPut(rt)
		return func(h *half) {
			answer, err := h.kv.Put(h.Context(), h.absolute(r).(*pb.PutRequest))
			h.answered("put", answer, err, answer.GetHeader())
		}
	case "delete":
		r := drawDelete(rt)
		return func(h *half) {
			answer, err := h.kv.DeleteRange(h.Context(), r)
			h.answered("delete", answer, err, answer.GetHeader())
		}
	case "range":
		r := drawRange(rt)
		return func(h *half) {
			answer, err := h.kv.Range(h.Context(), h.absolute(r).(*pb.RangeRequest))
			h.answered("range", answer, err, answer.GetHeader())
		}
	case "txn":
		r := drawTxn(rt, 0)
		return func(h *half) {
			answer, err := h.kv.Txn(h.Context(), h.absolute(r).(*pb.TxnRequest))
			h.answered("txn", answer, err, answer.GetHeader())
		}
	case "compact":
		back := rapid.Int64Range(-1, 12).Draw(rt, "back")
		return func(h *half) {
			answer, err := h.kv.Compact(h.Context(), &pb.CompactionRequest{Revision: max(h.now-back, h.base), Physical: true})
			h.answered("compact", answer, err, answer.GetHeader())
		}
	case "grant":
		id := drawLease(rt)
		return func(h *half) {
			answer, err := h.leases.LeaseGrant(h.Context(), &pb.LeaseGrantRequest{ID: h.leaseID + id, TTL: 100 + id})
			h.answered("grant", answer, err, answer.GetHeader())
		}
	case "revoke":
		id := drawLease(rt)
		return func(h *half) {
			answer, err := h.leases.LeaseRevoke(h.Context(), &pb.LeaseRevokeRequest{ID: h.leaseID + id})
			h.answered("revoke", answer, err, answer.GetHeader())
		}
	case "lease":
		id := drawLease(rt)
		return func(h *half) {
			answer, err := h.leases.LeaseTimeToLive(h.Context(), &pb.LeaseTimeToLiveRequest{ID: h.leaseID + id, Keys: true})
			if err == nil {
				answer.TTL = min(answer.TTL, 0)
				keys := map[string]bool{}
				for _, k := range answer.Keys {
					keys[string(k)] = true
				}
				h.say("keys %v", keys)
				answer.Keys = nil
			}
			h.answered("time to live", answer, err, nil)
		}
	case "watch":
		r := &pb.WatchCreateRequest{PrevKv: rapid.Bool().Draw(rt, "prev")}
		r.Key, r.RangeEnd = drawSpan(rt)
		for _, f := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE} {
			if rapid.IntRange(0, 5).Draw(rt, "filter") == 0 {
				r.Filters = append(r.Filters, f)
			}
		}
		from := rapid.Int64Range(-10, 4).Draw(rt, "from")
		return func(h *half) { h.observe(proto.CloneOf(r), from) }
	default:
		i := rapid.IntRange(0, 5).Draw(rt, "watch")
		return func(h *half) {
			if i < len(h.watches) {
				h.reach(h.watches[i], h.now)
				h.watches[i].over = true
			}
		}
	}
}

// answered writes an answer down and notes the revision.
func (h *half) answered(doing string, answer proto.Message, err error, header *pb.ResponseHeader) {
	h.note(doing, answer, err)
	if err == nil && header != nil {
		h.now = header.Revision
	}
}

var someKeys = []string{"a", "b", "c", "ca", "d", "e"}

func drawKey(rt *rapid.T) []byte { return []byte(rapid.SampledFrom(someKeys).Draw(rt, "key")) }

func drawLease(rt *rapid.T) int64 { return rapid.Int64Range(1, 3).Draw(rt, "lease") }

// drawSpan draws a key and the end of its range.
func drawSpan(rt *rapid.T) (key, end []byte) {
	key = drawKey(rt)
	switch rapid.IntRange(0, 4).Draw(rt, "span") {
	case 0, 1:
		return key, nil
	case 2:
		return key, []byte{0}
	}
	return key, []byte(rapid.SampledFrom(someKeys).Draw(rt, "end"))
}

func drawPut(rt *rapid.T) *pb.PutRequest {
	r := &pb.PutRequest{Key: drawKey(rt), PrevKv: rapid.Bool().Draw(rt, "prev")}
	if r.IgnoreValue = rapid.IntRange(0, 7).Draw(rt, "ignore value") == 0; !r.IgnoreValue {
		r.Value = []byte(rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(rt, "value"))
	}
	if r.IgnoreLease = rapid.IntRange(0, 7).Draw(rt, "ignore lease") == 0; !r.IgnoreLease && rapid.IntRange(0, 2).Draw(rt, "leased") == 0 {
		r.Lease = drawLease(rt)
	}
	return r
}

func drawDelete(rt *rapid.T) *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: rapid.Bool().Draw(rt, "prev")}
	r.Key, r.RangeEnd = drawSpan(rt)
	return r
}

func drawRange(rt *rapid.T) *pb.RangeRequest {
	r := &pb.RangeRequest{
		Limit: rapid.SampledFrom([]int64{0, 0, 1, 2, 5}).Draw(rt, "limit"), KeysOnly: rapid.IntRange(0, 3).Draw(rt, "keys only") == 0,
		CountOnly: rapid.IntRange(0, 4).Draw(rt, "count only") == 0, Serializable: rapid.Bool().Draw(rt, "serializable"),
		SortOrder:  pb.RangeRequest_SortOrder(rapid.Int32Range(0, 2).Draw(rt, "order")),
		SortTarget: pb.RangeRequest_SortTarget(rapid.Int32Range(0, 4).Draw(rt, "target")),
	}
	r.Key, r.RangeEnd = drawSpan(rt)
	if rapid.IntRange(0, 2).Draw(rt, "old") == 0 {
		r.Revision = rapid.Int64Range(1, 30).Draw(rt, "revision")
	}
	for _, bound := range []*int64{&r.MinCreateRevision, &r.MaxCreateRevision, &r.MinModRevision, &r.MaxModRevision} {
		if rapid.IntRange(0, 7).Draw(rt, "bounded") == 0 {
			*bound = rapid.Int64Range(1, 30).Draw(rt, "bound")
		}
	}
	return r
}

func drawTxn(rt *rapid.T, depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range rapid.IntRange(0, 2).Draw(rt, "conditions") {
		c := &pb.Compare{Result: pb.Compare_CompareResult(rapid.Int32Range(0, 3).Draw(rt, "result")), Target: pb.Compare_CompareTarget(rapid.Int32Range(0, 4).Draw(rt, "target"))}
		c.Key, c.RangeEnd = drawSpan(rt)
		n := rapid.Int64Range(0, 3).Draw(rt, "n")
		switch c.Target {
		case pb.Compare_VERSION:
			c.TargetUnion = &pb.Compare_Version{Version: n}
		case pb.Compare_CREATE:
			c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: 5 * n}
		case pb.Compare_MOD:
			c.TargetUnion = &pb.Compare_ModRevision{ModRevision: 5 * n}
		case pb.Compare_VALUE:
			c.TargetUnion = &pb.Compare_Value{Value: []byte("y")}
		case pb.Compare_LEASE:
			c.TargetUnion = &pb.Compare_Lease{Lease: n}
		}
		r.Compare = append(r.Compare, c)
	}
	for _, ops := range []*[]*pb.RequestOp{&r.Success, &r.Failure} {
		for range rapid.IntRange(0, 4).Draw(rt, "operations") {
			switch rapid.IntRange(0, 5+min(depth, 1)*-2).Draw(rt, "operation") {
			case 0, 1:
				put := drawPut(rt)
				put.IgnoreValue, put.IgnoreLease = false, false // etcd panics if the same transaction has deleted the key before
				*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
			case 2:
				*ops = append(*ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: drawDelete(rt)}})
			case 3:
				*ops = append(*ops, opRange(drawRange(rt)))
			default:
				*ops = append(*ops, opTxn(drawTxn(rt, depth+1)))
			}
		}
	}
	return r
}

// absolute returns a copy of a request with revisions and leases of this etcd.
func (h *half) absolute(r proto.Message) proto.Message {
	switch r := proto.Clone(r).(type) {
	case *pb.PutRequest:
		if r.Lease != 0 {
			r.Lease += h.leaseID
		}
		return r
	case *pb.RangeRequest:
		for _, revision := range []*int64{&r.Revision, &r.MinCreateRevision, &r.MaxCreateRevision, &r.MinModRevision, &r.MaxModRevision} {
			if *revision != 0 {
				*revision += h.base
			}
		}
		return r
	case *pb.TxnRequest:
		for _, c := range r.Compare {
			switch u := c.TargetUnion.(type) {
			case *pb.Compare_CreateRevision:
				if u.CreateRevision != 0 {
					u.CreateRevision += h.base
				}
			case *pb.Compare_ModRevision:
				if u.ModRevision != 0 {
					u.ModRevision += h.base
				}
			case *pb.Compare_Lease:
				if u.Lease != 0 {
					u.Lease += h.leaseID
				}
			}
		}
		for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range ops {
				switch o := op.Request.(type) {
				case *pb.RequestOp_RequestPut:
					o.RequestPut = h.absolute(o.RequestPut).(*pb.PutRequest)
				case *pb.RequestOp_RequestRange:
					o.RequestRange = h.absolute(o.RequestRange).(*pb.RangeRequest)
				case *pb.RequestOp_RequestTxn:
					o.RequestTxn = h.absolute(o.RequestTxn).(*pb.TxnRequest)
				}
			}
		}
		return r
	}
	panic(fmt.Sprintf("a request of type %T", r))
}

// observe begins a watch from a revision that counts from the next one, and waits until it has caught up, so that a compaction that comes
// next can't be faster.
func (h *half) observe(r *pb.WatchCreateRequest, from int64) {
	if from < 4 {
		r.StartRevision = max(h.now+1+from, h.base+1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.ends = append(h.ends, cancel)
	stream, err := pb.NewWatchClient(h.client.ActiveConnection()).Watch(ctx)
	if err != nil {
		h.Fatal(err)
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		h.Fatal(err)
	}
	created, err := stream.Recv()
	h.note("watch", created, err)
	o := &observed{stream: stream, start: r.StartRevision, over: err != nil || created.Canceled}
	h.watches = append(h.watches, o)
	h.reach(o, h.now)
	h.farthest = max(h.farthest, r.StartRevision)
}

// reach reads the events of a watch until it is told that it has seen all of them up to a revision. It does nothing for a watch that begins
// after that.
func (h *half) reach(o *observed, revision int64) {
	if o.over || revision < o.start {
		return
	}
	for {
		if err := o.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
			h.Fatal(err)
		}
		answers := make(chan *pb.WatchResponse, 1)
		go func() {
			if a, err := o.stream.Recv(); err == nil {
				answers <- a
			}
			close(answers)
		}()
		var a *pb.WatchResponse
		for a == nil {
			select {
			case a = <-answers:
			case <-time.After(20 * time.Millisecond): // a watch that is behind is not told of its progress: ask again
				if err := o.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
					h.Fatal(err)
				}
			}
		}
		switch {
		case a.Canceled:
			o.lines = append(o.lines, h.text(&pb.WatchResponse{Canceled: true, CompactRevision: a.CompactRevision, CancelReason: a.CancelReason}, nil))
			o.over = true
			return
		case len(a.Events) == 0 && a.Header.Revision >= revision:
			return
		}
		for i, e := range a.Events {
			if i == 0 && e.Kv.ModRevision <= o.last {
				h.Errorf("the changes of revision %d are in two answers", o.last)
			}
			o.lines = append(o.lines, h.event(e))
		}
		if n := len(a.Events); n > 0 {
			o.last = a.Events[n-1].Kv.ModRevision
		}
	}
}

// event makes the text of an event.
func (h *half) event(e *mvccpb.Event) string {
	return h.text(&pb.WatchResponse{Events: []*mvccpb.Event{e}}, nil)
}

// finish lets all watches see all changes, and writes down all that they have seen.
func (h *half) finish() {
	for h.now < h.farthest {
		answer, err := h.kv.Put(h.Context(), &pb.PutRequest{Key: []byte("c")})
		h.answered("put", answer, err, answer.GetHeader())
	}
	for i, o := range h.watches {
		h.reach(o, h.now)
		for _, line := range o.lines {
			h.say("watch %d: %s", i, line)
		}
	}
}

// close ends the watches, and removes all keys and leases.
func (h *half) close() {
	for _, end := range h.ends {
		end()
	}
	ctx := context.Background()
	if _, err := h.client.Delete(ctx, "\x00", clientv3.WithFromKey()); err != nil {
		h.Error(err)
	}
	for id := int64(1); id <= 3; id++ {
		// The error says that there is no such lease.
		_, _ = h.leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: h.leaseID + id})
	}
}
