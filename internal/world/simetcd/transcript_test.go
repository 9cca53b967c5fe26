package simetcd_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
)

// patience is how long a test waits for something that must happen.
const patience = time.Minute

// transcript writes down all that an etcd answers, in a form that is the same for every etcd which behaves the same: revisions count from
// the begin of the transcript, and ids that etcd draws are left out.
type transcript struct {
	*testing.T
	client *clientv3.Client
	kv     pb.KVClient
	leases pb.LeaseClient
	base   int64 // the revision at the begin
	lines  []string
}

// newTranscript begins a transcript of what an etcd answers to a client.
func newTranscript(t *testing.T, client *clientv3.Client) *transcript {
	t.Helper()
	now, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return &transcript{
		T: t, client: client, kv: pb.NewKVClient(client.ActiveConnection()), leases: pb.NewLeaseClient(client.ActiveConnection()), base: now.Header.Revision,
	}
}

// note writes an answer down, or the error that came instead.
func (s *transcript) note(doing string, answer proto.Message, err error) {
	s.lines = append(s.lines, doing+": "+s.text(answer, err))
}

// say writes a text down.
func (s *transcript) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// text makes the text of an answer or an error.
func (s *transcript) text(answer proto.Message, err error) string {
	if err != nil {
		return fmt.Sprintf("%v %q", status.Code(err), status.Convert(err).Message())
	}
	answer = proto.Clone(answer)
	s.normalize(answer.ProtoReflect())
	return strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(answer)), " ")
}

// normalize makes the revisions of a message relative, and removes what differs between two etcds.
func (s *transcript) normalize(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				s.normalize(v.List().Get(i).Message())
			}
		case f.Message() != nil && !f.IsMap():
			s.normalize(v.Message())
		}
		switch f.Name() {
		case "cluster_id", "member_id", "raft_term":
			m.Clear(f)
		case "revision", "create_revision", "mod_revision", "compact_revision":
			if v.Int() != 0 {
				m.Set(f, protoreflect.ValueOfInt64(v.Int()-s.base))
			}
		}
		return true
	})
}

// server is an etcd under test.
type server struct {
	name string
	// run runs f with a client of the etcd. The model runs it in a bubble.
	run func(t *testing.T, f func(*testing.T, *clientv3.Client))
}

// model runs each test with a new model of etcd, in virtual time. Its shortest lease is 1 s, as that of the embedded etcd.
func model() server {
	return server{"model", func(t *testing.T, f func(*testing.T, *clientv3.Client)) {
		bubble.Test(t, func(t *testing.T) {
			_, client, _ := start(t, 1, simetcd.Config{Election: 100 * time.Millisecond})
			f(t, client)
		})
	}}
}

// embedded runs all tests with one embedded etcd.
func embedded(t *testing.T) server {
	e, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return shared(t, "embedded", e.Address())
}

// installed runs all tests with an etcd of this machine.
func installed(t *testing.T) server {
	address := testprocess.Address(t)
	t.Cleanup(testprocess.StartEtcd(t, "http://"+address, t.TempDir(), nil, "--heartbeat-interval", "10", "--election-timeout", "100"))
	return shared(t, "installed", address)
}

// shared is an etcd at an address that all tests use, one after the other.
func shared(t *testing.T, name, address string) server {
	client := connect(t, nil, clientv3.Config{Endpoints: []string{address}})
	return server{name, func(t *testing.T, f func(*testing.T, *clientv3.Client)) {
		f(t, client)
		if _, err := client.Delete(context.WithoutCancel(t.Context()), "\x00", clientv3.WithFromKey()); err != nil {
			t.Error(err)
		}
	}}
}

// compare fails the test if two transcripts differ, and shows the first difference.
func compare(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, name string, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(want) {
			a = want[i]
		}
		if i < len(got) {
			b = got[i]
		}
		if a != b {
			before := strings.Join(want[max(0, i-4):min(i, len(want))], "\n  ")
			t.Fatalf("line %d differs. Before it:\n  %s\n%s:\n  %s\nthe model:\n  %s", i+1, before, name, a, b)
		}
	}
}

// watching is a stream with watches, whose answers are written down.
type watching struct {
	stream  pb.Watch_WatchClient
	answers chan *pb.WatchResponse
	failed  error // the end of the stream; written before answers is closed
	reader  sync.WaitGroup
}

// watch opens a stream for watches, which ends with the test.
func (s *transcript) watch() *watching { return s.watchAs(context.Background()) }

// watchAs opens a stream for watches as the user who is signed in with a context.
func (s *transcript) watchAs(ctx context.Context) *watching {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := pb.NewWatchClient(s.client.ActiveConnection()).Watch(ctx)
	if err != nil {
		s.Fatal(err)
	}
	w := &watching{stream: stream, answers: make(chan *pb.WatchResponse, 1000)}
	w.reader.Go(func() {
		defer close(w.answers)
		for {
			a, err := stream.Recv()
			if err != nil {
				w.failed = err
				return
			}
			w.answers <- a
		}
	})
	s.Cleanup(func() {
		cancel()
		w.reader.Wait()
	})
	return w
}

// create asks for a watch.
func (w *watching) create(s *transcript, r *pb.WatchCreateRequest) {
	w.send(s, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
}

// cancel asks for the end of a watch.
func (w *watching) cancel(s *transcript, id int64) {
	w.send(s, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

// progress asks how far the watches are.
func (w *watching) progress(s *transcript) {
	w.send(s, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// send sends a request.
func (w *watching) send(s *transcript, r *pb.WatchRequest) {
	s.Helper()
	if err := w.stream.Send(r); err != nil {
		s.Fatal(err)
	}
}

// next waits for an answer.
func (w *watching) next(s *transcript) *pb.WatchResponse {
	s.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case a, open := <-w.answers:
		if !open {
			s.Fatalf("the stream of watches ended: %v", w.failed)
		}
		return a
	case <-timeout.C:
		s.Fatal("waited in vain for an answer to a watch")
		return nil
	}
}

// note waits for n answers and writes them down.
func (w *watching) note(s *transcript, doing string, n int) {
	s.Helper()
	for range n {
		s.note(doing, w.next(s), nil)
	}
}

// sorted returns the values in their order.
func sorted(values ...string) []string {
	slices.Sort(values)
	return values
}
