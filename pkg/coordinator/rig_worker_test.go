package coordinator

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// fakeWorker is a worker that does what the test says.
type fakeWorker struct {
	pb.UnimplementedWorkerServer
	rig      *rig
	record   cluster.Worker
	server   *serve.Server
	listener net.Listener
	sessions chan *workerSession
	// compile is what it says of a definition. Set before it registers.
	compile func(*pb.Definition) []string
	// byNumber: it is of a build that knows revisions by number alone. Set before it registers.
	byNumber bool
	// tellsConnectors: its build does. Set before it registers.
	tellsConnectors bool
	// positions: its build knows positions of rows in logs. Set before it registers.
	positions bool
	// waits: it is of a build that waits for clients, and says of results whose flow they are. Set before it registers.
	waits string
	// answers: it answers each handshake, and nobody asks for its sessions. Set before it registers.
	answers bool
	// locate answers for where rows are; it is asked only if that is set. Set before it registers.
	locate func(*pb.Locate) *pb.Located
	// taps: its build knows taps, and hands each Tap and Untap to the channel. Set before it registers.
	taps chan *pb.CoordinatorMessage
	// silentAbout is the number of a revision of which it answers no definition.
	silentAbout atomic.Int64
	// unfitFor is a text that the flow's document must not have, or the worker's build is unfit. Set before it registers.
	unfitFor string
	// grant is the credit that it gives a flow with the first definition of a session.
	grant        *pb.Credit
	store        *cluster.Store // that it registers with
	lease        time.Duration  // under which it registers
	registration *cluster.Registration[cluster.Worker]
	killed       sync.Once
	served       sync.WaitGroup
	latest       atomic.Pointer[workerSession]
}

// newWorker makes a worker that listens, and is not registered yet.
func (r *rig) newWorker(name string, functions ...string) *fakeWorker {
	r.t.Helper()
	w := &fakeWorker{
		rig: r, store: r.store, lease: lease, sessions: make(chan *workerSession, 100), grant: &pb.Credit{Rows: 1 << 20, Bytes: 64 << 20},
		record: cluster.Worker{ID: fmt.Sprintf("%s-%d", name, prefixes.Add(1)), Name: name, Lanes: 1, Started: time.Now()},
	}
	for _, f := range functions {
		w.record.Functions = append(w.record.Functions, cluster.Function{Name: f, Mode: "Calculate"})
	}
	var err error
	if w.listener, err = serve.Listen(r.t.Context(), nil, "127.0.0.1:0"); err != nil {
		r.t.Fatal(err)
	}
	w.record.Address = w.listener.Addr().String()
	w.serve()
	r.t.Cleanup(w.kill)
	return w
}

func (w *fakeWorker) serve() {
	var err error
	if w.server, err = serve.NewServer(w.rig.config.Transport); err != nil {
		w.rig.t.Fatal(err)
	}
	pb.RegisterWorkerServer(w.server, w)
	server, listener := w.server, w.listener
	w.served.Go(func() { _ = server.Serve(listener) })
}

func (w *fakeWorker) register() *fakeWorker {
	w.rig.t.Helper()
	var err error
	if w.registration, err = w.store.RegisterWorker(w.rig.t.Context(), w.record, w.lease); err != nil {
		w.rig.t.Fatal(err)
	}
	w.registered(w.registration)
	return w
}

// registered takes over a registration, which ends with the test.
func (w *fakeWorker) registered(r *cluster.Registration[cluster.Worker]) {
	w.registration = r
	w.rig.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.Close(ctx) // its etcd may be gone
	})
}

// join registers a worker with function echo and welcomes the coordinator's first session.
func (r *rig) join(name string) (*fakeWorker, *workerSession) {
	r.t.Helper()
	w := r.newWorker(name, "echo").register()
	return w, w.session().welcome(false, 0)
}

// kill ends the process: connections break, new ones are refused, its record stays.
func (w *fakeWorker) kill() {
	w.killed.Do(func() {
		w.server.Stop()
		w.served.Wait()
	})
}

// session is the next one that a coordinator opens.
func (w *fakeWorker) session() *workerSession {
	w.rig.t.Helper()
	return within(w.rig.t, "a session with "+w.record.ID, w.sessions)
}

// last is the session that a coordinator opened last.
func (w *fakeWorker) last() *workerSession { return w.latest.Load() }

// workerSession is a session as the worker sees it.
type workerSession struct {
	worker   *fakeWorker
	t        *testing.T
	stream   pb.Worker_SessionServer
	hello    *pb.Hello
	received uint64 // with Hello

	parts       chan *pb.Part
	definitions chan *pb.Definition
	releases    chan *pb.Release
	forgets     chan *pb.Forget
	acks        chan uint64
	over        chan struct{} // closed when its reader has ended
	end         chan error    // ends the call

	mu      sync.Mutex                // for Send, and told
	told    []*pb.Definition          // all that came
	untaken map[string]uint64         // by flow, as the coordinator tells it
	defined map[string]map[int64]bool // revisions by flow; only its reader's
	number  uint64                    // of the last result; only the test's goroutine
}

// Session hands the call to the test.
func (w *fakeWorker) Session(stream pb.Worker_SessionServer) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	s := &workerSession{
		worker: w, t: w.rig.t, stream: stream, hello: m.GetHello(), received: m.GetResultsReceived(), parts: make(chan *pb.Part, 10000),
		definitions: make(chan *pb.Definition, 1000), releases: make(chan *pb.Release, 1000), forgets: make(chan *pb.Forget, 1000), acks: make(chan uint64, 10000),
		over: make(chan struct{}), end: make(chan error, 1), defined: map[string]map[int64]bool{}, untaken: map[string]uint64{},
	}
	s.hear(m)
	w.latest.Store(s)
	if w.answers {
		s.welcome(s.hello.GetResume(), 0)
	} else {
		w.sessions <- s
	}
	select {
	case err := <-s.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// digest is what the worker repeats of a digest.
func (w *fakeWorker) digest(d []byte) []byte {
	if w.byNumber {
		return nil
	}
	return d
}

// hear takes in how much is untaken.
func (s *workerSession) hear(m *pb.CoordinatorMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range m.GetUntaken() {
		s.untaken[u.GetFlow()] = u.GetBytes()
	}
}

// untakenOf is how much of a flow is untaken.
func (s *workerSession) untakenOf(flow string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.untaken[flow]
}

func (s *workerSession) read() {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			close(s.over)
			return
		}
		s.hear(m)
		switch k := m.GetKind().(type) {
		case *pb.CoordinatorMessage_Definition:
			d := k.Definition
			var mistakes []string
			if s.worker.compile != nil {
				mistakes = s.worker.compile(d)
			}
			unfit := s.worker.unfitFor != "" && strings.Contains(string(d.GetDocuments()[0].GetYaml()), s.worker.unfitFor)
			if unfit {
				mistakes = append(mistakes, "the build is another")
			}
			s.mu.Lock()
			s.told = append(s.told, d)
			s.mu.Unlock()
			fresh := len(s.defined[d.GetFlow()]) == 0
			if fresh {
				s.defined[d.GetFlow()] = map[int64]bool{}
			}
			s.defined[d.GetFlow()][d.GetRevision()] = true
			if d.GetRevision() == s.worker.silentAbout.Load() {
				s.definitions <- d
				continue
			}
			s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Compiled{Compiled: &pb.Compiled{
				Flow: d.GetFlow(), Revision: d.GetRevision(), Errors: mistakes, Unfit: unfit, Fresh: fresh, Digest: s.worker.digest(d.GetDigest()),
			}}})
			if g := s.worker.grant; g != nil && fresh {
				s.credit(d.GetFlow(), g.GetRows(), g.GetBytes())
			}
			s.definitions <- d
		case *pb.CoordinatorMessage_Part:
			s.parts <- k.Part
		case *pb.CoordinatorMessage_Release:
			s.releases <- k.Release
		case *pb.CoordinatorMessage_Forget:
			delete(s.defined[k.Forget.GetFlow()], k.Forget.GetRevision())
			s.forgets <- k.Forget
		case *pb.CoordinatorMessage_Locate:
			if answer := s.worker.locate(k.Locate); answer != nil {
				s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Located{Located: answer}})
			}
		case *pb.CoordinatorMessage_Tap, *pb.CoordinatorMessage_Untap:
			s.worker.taps <- m
		case *pb.CoordinatorMessage_Ack:
			s.acks <- m.GetResultsReceived()
		}
	}
}

func (s *workerSession) send(m *pb.WorkerMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.stream.Send(m) // a broken session shows in what does not come
}

// welcome answers Hello, and begins to read.
func (s *workerSession) welcome(resumed bool, partsReceived uint64) *workerSession {
	s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Welcome{Welcome: &pb.Welcome{
		Protocol: wire.Protocol, Worker: s.worker.record.ID, Resumed: resumed, PartsReceived: partsReceived, Digests: !s.worker.byNumber,
		TellsConnectors: s.worker.tellsConnectors, Locates: s.worker.locate != nil, Taps: s.worker.taps != nil, Positions: s.worker.positions,
	}}})
	go s.read()
	return s
}

func (s *workerSession) credit(flow string, rows, bytes uint32) {
	s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Credit{Credit: &pb.FlowCredit{Flow: flow, Rows: rows, Bytes: bytes}}})
}

func (s *workerSession) part() *pb.Part {
	s.t.Helper()
	return within(s.t, "a part for "+s.worker.record.ID, s.parts)
}

// result sends the next result.
func (s *workerSession) result(r *pb.Result) {
	s.number++
	r.Number = s.number
	if len(r.GetOutput().GetOrigins())+len(r.GetNotDone()) > 0 {
		r.Flow = s.worker.waits
	}
	s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Result{Result: r}})
}

// done ends all rows of a part.
func (s *workerSession) done(p *pb.Part) { s.result(&pb.Result{Part: p.GetNumber(), Last: true}) }

// echo ends all rows of a part and passes them on.
func (s *workerSession) echo(p *pb.Part) {
	origins := make([]uint32, len(p.GetColumns().GetEnds()))
	for i := range origins {
		origins[i] = uint32(i)
	}
	c := p.GetColumns()
	s.result(&pb.Result{Part: p.GetNumber(), Last: true, Output: &pb.Output{Rows: &pb.Columns{Data: c.GetData(), Ends: c.GetEnds()}, Origins: origins}})
}

// breaks ends the session with an error, and leaves the worker as it is.
func (s *workerSession) breaks(err error) { s.end <- err }

// errBroken is what gRPC says of a connection that broke.
var errBroken = status.Error(codes.Unavailable, "the connection broke")
