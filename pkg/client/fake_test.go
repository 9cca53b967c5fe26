package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network connects a client with scripted coordinators, which listen under names that a test gives them. It lives in a synctest bubble,
// where minutes pass in no time, and a wait that nothing can end is a failure.
type network struct {
	t         *testing.T
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener // guarded by mu
	slow      time.Duration                // that a connection takes; guarded by mu
}

// inNetwork runs a test in a bubble with a network of its own.
func inNetwork(t *testing.T, test func(t *testing.T, n *network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		// Pings keep time going: without this a test that waits for something that never happens would spin.
		defer time.AfterFunc(24*time.Hour, func() { panic("nothing came for a day") }).Stop()
		test(t, &network{t: t, listeners: map[string]*bufconn.Listener{}})
	})
}

// dial makes a client that is closed at the end of the test.
func (n *network) dial(target string, opts ...client.Option) *client.Client {
	n.t.Helper()
	c, err := client.Dial(target, append(opts, client.WithDialOptions(grpc.WithContextDialer(n.connect)))...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			n.t.Errorf("close the client: %v", err)
		}
	})
	return c
}

func (n *network) connect(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l, slow := n.listeners[address], n.slow
	n.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errors.New("connection refused")
	}
	return l.DialContext(ctx)
}

// coordinator is an Ingest service whose answers a test scripts.
type coordinator struct {
	pb.UnimplementedIngestServer
	network  *network
	address  string
	server   *grpc.Server
	calls    chan *call    // one for each Submit
	sessions chan *session // one for each Stream that sent its Open
}

func (n *network) start(address string) *coordinator {
	k := &coordinator{
		network: n, address: address,
		server: grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})),
		calls:  make(chan *call, 100), sessions: make(chan *session, 100),
	}
	l := bufconn.Listen(1 << 20)
	n.mu.Lock()
	n.listeners[address] = l
	n.mu.Unlock()
	pb.RegisterIngestServer(k.server, k)
	served := make(chan error, 1)
	go func() { served <- k.server.Serve(l) }()
	n.t.Cleanup(func() {
		k.server.Stop()
		if err := <-served; err != nil {
			n.t.Errorf("serve %s: %v", address, err)
		}
	})
	return k
}

// kill breaks all connections and refuses new ones.
func (k *coordinator) kill() {
	k.network.mu.Lock()
	delete(k.network.listeners, k.address)
	k.network.mu.Unlock()
	k.server.Stop()
}

// call is one Submit that waits for the test's answer.
type call struct {
	*pb.SubmitRequest
	at    time.Time
	reply chan func() (*pb.SubmitResponse, error)
}

func (k *coordinator) Submit(ctx context.Context, in *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	c := &call{SubmitRequest: in, at: time.Now(), reply: make(chan func() (*pb.SubmitResponse, error), 1)}
	k.calls <- c
	select {
	case reply := <-c.reply:
		return reply()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *call) answer(a *pb.Answer) {
	c.reply <- func() (*pb.SubmitResponse, error) { return &pb.SubmitResponse{Answer: a}, nil }
}

func (c *call) refuse(e *pb.Error) { c.answer(&pb.Answer{Refused: e, Last: true}) }

func (c *call) fail(err error) {
	c.reply <- func() (*pb.SubmitResponse, error) { return nil, err }
}

// session is one Stream call that the test drives.
type session struct {
	t     *testing.T
	open  *pb.Open
	rpc   pb.Ingest_StreamServer
	in    chan *pb.Submission // closed when the client has ended its side, or the connection broke
	ended chan error
}

func (k *coordinator) Stream(rpc pb.Ingest_StreamServer) error {
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	s := &session{t: k.network.t, open: first.GetOpen(), rpc: rpc, in: make(chan *pb.Submission, 1000), ended: make(chan error, 1)}
	k.sessions <- s
	go func() {
		defer close(s.in)
		for {
			m, err := rpc.Recv()
			if err != nil {
				return
			}
			s.in <- m.GetSubmission()
		}
	}()
	select {
	case err := <-s.ended:
		return err
	case <-rpc.Context().Done():
		return rpc.Context().Err()
	}
}

func (s *session) send(m *pb.StreamResponse) {
	s.t.Helper()
	if err := s.rpc.Send(m); err != nil {
		s.t.Fatalf("coordinator sends %v: %v", m, err)
	}
}

func (s *session) opened(o *pb.Opened) {
	s.t.Helper()
	o.Protocol = max(1, o.Protocol)
	s.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Opened{Opened: o}})
}

func (s *session) credit(rows, bytes uint32) {
	s.t.Helper()
	s.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Credit{Credit: &pb.Credit{Rows: rows, Bytes: bytes}}})
}

// answer answers, after it has waited until the batches that were sent have come: a coordinator can't answer a batch before.
func (s *session) answer(a *pb.Answer) {
	s.t.Helper()
	synctest.Wait()
	s.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: a}})
}

// done answers that all rows of a batch are done.
func (s *session) done(sequence uint64) {
	s.t.Helper()
	s.answer(&pb.Answer{Sequence: sequence, Revision: 7, Last: true})
}

// next is the next submission that came.
func (s *session) next() *pb.Submission {
	s.t.Helper()
	m, ok := <-s.in
	if !ok {
		s.t.Fatal("the client ended the session, instead of submitting")
	}
	return m
}

// sequences are those of the submissions that have come, in order, once nothing moves any more.
func (s *session) sequences() []uint64 {
	synctest.Wait()
	var got []uint64
	for {
		select {
		case m, ok := <-s.in:
			if !ok {
				return got
			}
			got = append(got, m.GetSequence())
		default:
			return got
		}
	}
}

// stream opens a stream at the coordinator, with that window.
func (k *coordinator) stream(c *client.Client, rows, bytes uint32) (*client.Stream, *session) {
	t := k.network.t
	t.Helper()
	type result struct {
		s   *client.Stream
		err error
	}
	opened := make(chan result, 1)
	go func() {
		s, err := c.Stream(t.Context(), "F")
		opened <- result{s, err}
	}()
	remote := <-k.sessions
	remote.opened(&pb.Opened{})
	if rows > 0 {
		remote.credit(rows, bytes)
	}
	r := <-opened
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.s, remote
}

// resume accepts the next session.
func (k *coordinator) resume(rows, bytes uint32) *session {
	s := <-k.sessions
	s.opened(&pb.Opened{})
	s.credit(rows, bytes)
	return s
}

// numbered is a batch of n rows; each is two bytes.
func numbered(n int) *client.Batch {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf("%02d", i%100)
	}
	return client.Rows(rows...)
}

func send(t *testing.T, s *client.Stream, b *client.Batch, opts ...client.SubmitOption) *client.Pending {
	t.Helper()
	p, err := s.Send(t.Context(), b, opts...)
	if err != nil {
		t.Fatalf("send: %v", err)
	}
	return p
}

func wait(t *testing.T, p *client.Pending) *client.Result {
	t.Helper()
	r, err := p.Wait(t.Context())
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return r
}

// wantError checks an error's code and whether the batch may have taken effect.
func wantError(t *testing.T, err error, code batch.Code, unanswered bool) {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want a *client.Error with code %s", err, code)
	}
	if e.Code != code {
		t.Errorf("error is %v, want code %s", err, code)
	}
	if errors.Is(err, client.ErrUnanswered) != unanswered {
		t.Errorf("error is %v: matches ErrUnanswered: %t, want %t", err, !unanswered, unanswered)
	}
}
