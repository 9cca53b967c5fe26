package cluster_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// lagging plays an etcd that loses data between a list and the watch that goes on from it: from then on it is at an earlier
// revision, with another document.
type lagging struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
	key string

	mu       sync.Mutex
	revision int64 // guarded by mu, as what follows
	value    string
	watches  int
}

func (l *lagging) Range(context.Context, *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kv := &mvccpb.KeyValue{Key: []byte(l.key), Value: []byte(l.value), CreateRevision: 2, ModRevision: 2, Version: 1}
	return &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{Revision: l.revision}, Kvs: []*mvccpb.KeyValue{kv}, Count: 1}, nil
}

// Watch says where it is, as etcd does, and of one change right after that. A watch from a revision that is still to come is
// told of nothing.
func (l *lagging) Watch(stream etcdserverpb.Watch_WatchServer) error {
	for id := int64(0); ; id++ {
		m, err := stream.Recv()
		if err != nil {
			return nil // the client has gone
		}
		if m.GetCreateRequest() == nil {
			continue
		}
		l.mu.Lock()
		if l.watches++; l.watches == 1 {
			l.revision, l.value = 5, "of the copy"
		}
		answers := []*etcdserverpb.WatchResponse{{Header: &etcdserverpb.ResponseHeader{Revision: l.revision}, WatchId: id, Created: true}}
		if next := l.revision + 1; m.GetCreateRequest().GetStartRevision() == next {
			kv := &mvccpb.KeyValue{Key: []byte(l.key), Value: []byte("after"), CreateRevision: 2, ModRevision: next, Version: 2}
			answers = append(answers, &etcdserverpb.WatchResponse{
				Header: &etcdserverpb.ResponseHeader{Revision: next}, WatchId: id, Events: []*mvccpb.Event{{Type: mvccpb.PUT, Kv: kv}},
			})
		}
		l.mu.Unlock()
		for _, a := range answers {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
	}
}

// TestWatchBeyondWhatEtcdHas has etcd lose data just after it was listed. A watch from the listed revision on would show nothing until
// etcd has reached that revision again. Instead the range is listed again, and followed.
func TestWatchBeyondWhatEtcdHas(t *testing.T) {
	t.Parallel()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lagging{key: prefix(t) + "config/flow/A", revision: 100, value: "before"}
	fake := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second})) // else it ends the watch itself
	etcdserverpb.RegisterKVServer(fake, l)
	etcdserverpb.RegisterWatchServer(fake, l)
	ended := make(chan error, 1)
	go func() { ended <- fake.Serve(listen) }()
	t.Cleanup(func() {
		fake.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s := &server{address: listen.Addr().String()}
	follower := followDocuments(t, s.open(t, cluster.Config{}))
	got := follower.await(t, "what etcd has now, and what is written there", func(d documents) bool { return d.revision == 6 })
	if len(got.all) != 1 || string(got.all[0].YAML) != "after" {
		t.Errorf("shown are %v", got.all)
	}
}
