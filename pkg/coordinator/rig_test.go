package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// What TestMain provides, from a package that imports this one.
var (
	// SharedEtcd is the address of an etcd for all tests that don't stop it; each keeps below a prefix of its own.
	SharedEtcd string
	// StartEtcd starts one that keeps its data in a directory.
	StartEtcd func(address, dir string) (at string, stop func() error, err error)
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// lease of everything in the tests: the least that etcd grants.
const lease = 2 * time.Second

// rig is a coordinator, and what a test needs around it.
type rig struct {
	t      *testing.T
	config Config
	prefix string
	etcd   string
	store  *cluster.Store
	c      *Coordinator
	conn   *grpc.ClientConn
	stop   context.CancelFunc
	ran    chan error
	ended  sync.Once
}

var prefixes atomic.Int64

// newRig starts a coordinator that is ready.
func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, prefix: fmt.Sprintf("/test-%d/", prefixes.Add(1)), etcd: SharedEtcd}
	r.start(change...)
	r.awaitReady()
	return r
}

// peer starts another coordinator of the same cluster.
func (r *rig) peer() *rig {
	r.t.Helper()
	p := &rig{t: r.t, prefix: r.prefix, etcd: r.etcd}
	p.start()
	p.awaitReady()
	return p
}

func (r *rig) start(change ...func(*Config)) {
	t := r.t
	t.Helper()
	var err error
	if r.store, err = cluster.Open(cluster.Config{Endpoints: []string{r.etcd}, Prefix: r.prefix}); err != nil {
		t.Fatal(err)
	}
	listener, err := transport.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.config = Config{Store: r.store, Listener: listener, Lease: lease, Build: "test", Logger: hclog.New(&hclog.LoggerOptions{
		Name: t.Name(), Level: hclog.LevelFromString(os.Getenv("KISGRID_LOG_LEVEL")), // off where not set
	})}
	if os.Getenv("KISGRID_LOG_LEVEL") == "" {
		r.config.Logger = hclog.NewNullLogger()
	}
	for _, f := range change {
		f(&r.config)
	}
	if r.c, err = New(r.config); err != nil {
		t.Fatal(err)
	}
	if r.conn, err = transport.Dial(listener.Addr().String(), r.config.Transport); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.ran = stop, make(chan error, 1)
	go func() { r.ran <- r.c.Run(ctx) }()
	t.Cleanup(r.end)
}

// end stops the coordinator without a drain, and checks that it holds nothing any more.
func (r *rig) end() {
	r.ended.Do(func() {
		r.stop()
		if err := <-r.ran; err != nil {
			r.t.Errorf("Run returned %v", err)
		}
		if left := r.c.ingest.budget.remaining(); left != r.c.config.Budget {
			r.t.Errorf("at the end %d bytes of the budget are still taken", r.c.config.Budget-left)
		}
		if err := errors.Join(r.conn.Close(), r.store.Close()); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) awaitReady() {
	r.t.Helper()
	select {
	case <-r.c.Ready():
	case <-time.After(patience):
		r.t.Fatal("the coordinator does not become ready")
	}
}

// awaitCatalog waits until what the coordinator knows of flows is as is says.
func (r *rig) awaitCatalog(what string, is func(*catalog) bool) *catalog {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		now, changed := r.c.board.watch()
		if is(now) {
			return now
		}
		select {
		case <-changed:
		case <-timeout:
			r.t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// until polls for what nothing signals.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// within bounds a test's wait on a channel.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came: %s", what)
	}
	panic("unreachable")
}

// closed bounds a test's wait for a channel's end.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("it did not happen: %s", what)
	}
}

// quiet checks that nothing is in the channel.
func quiet[T any](t *testing.T, what string, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("%s: %v", what, v)
	default:
	}
}

// flowDocument is a flow of one function.
func flowDocument(name, shardKey, function string, more ...string) definition.Document {
	text := fmt.Sprintf("kistype: flow\nflow_name: %s\n", name)
	if !slices.Contains(more, "status: 0") {
		text += "status: 1\n"
	}
	if shardKey != "" {
		text += "shard_key: " + shardKey + "\n"
	}
	for _, line := range more {
		text += line + "\n"
	}
	return definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte(text + "flows:\n  - fname: " + function + "\n")}
}

func funcDocument(name string) definition.Document {
	return definition.Document{Kind: definition.KindFunc, Name: name, YAML: fmt.Appendf(nil, "kistype: func\nfname: %s\nfmode: Calculate\nsource:\n  name: rows\n", name)}
}

// put writes documents, as etcdctl does.
func (r *rig) put(docs ...definition.Document) int64 {
	r.t.Helper()
	revision, err := r.store.PutDocuments(r.t.Context(), nil, docs, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return revision
}

// sharded puts flow S, sharded by id, with function echo, waits until it is active, and returns its revision.
func (r *rig) sharded() int64 {
	return r.activate(flowDocument("S", "id", "echo"), funcDocument("echo"))
}

// whole puts flow W, without a shard key.
func (r *rig) whole() int64 { return r.activate(flowDocument("W", "", "echo"), funcDocument("echo")) }

// activate puts documents and waits until the first, a flow, is active.
func (r *rig) activate(docs ...definition.Document) int64 {
	r.t.Helper()
	revision := r.put(docs...)
	r.awaitActive(docs[0].Name, revision)
	return revision
}

func (r *rig) awaitActive(flow string, revision int64) {
	r.t.Helper()
	r.awaitCatalog(fmt.Sprintf("revision %d of flow %s is active", revision, flow), func(c *catalog) bool {
		e := c.flows[flow]
		return e != nil && e.active != nil && e.active.number >= revision
	})
}

// owns waits until the flow's rows have workers to go to, so many.
func (r *rig) owns(flow string, workers int) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d workers are ready for flow %s", workers, flow), func() bool {
		ids := map[string]bool{}
		r.c.loop.do(r.t.Context(), func(l *loop) {
			for slot := range uint64(4096) {
				ids[l.scheduler.Explain(flow, slot).Worker] = true
			}
		})
		return len(ids) == workers && !ids[""]
	})
}

func (r *rig) ledger(flow string) scheduler.Ledger {
	r.t.Helper()
	return r.c.loop.ledgers(r.t.Context())[flow]
}

// awaitLedger waits until all rows of the flow that came in have ended, and checks how.
func (r *rig) awaitLedger(flow string, in uint64, want map[batch.Outcome]uint64) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d rows of flow %s have ended", in, flow), func() bool {
		l := r.ledger(flow)
		return l.In == in && l.InFlight() == 0
	})
	l := r.ledger(flow)
	for o := batch.Done; o <= batch.Failed; o++ {
		if l.Outcomes[o] != want[o] {
			r.t.Errorf("%d rows ended %s, want %d", l.Outcomes[o], o, want[o])
		}
	}
}

func wantCode(t *testing.T, err error, code batch.Code, says string) {
	t.Helper()
	err = wire.FromStatus(err)
	if err == nil || batch.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v that says %q", err, code, says)
	}
}

// fakeWorker is a worker that does what the test says.
type fakeWorker struct {
	pb.UnimplementedWorkerServer
	rig      *rig
	record   cluster.Worker
	server   *transport.Server
	listener net.Listener
	sessions chan *workerSession
	// compile is what it says of a definition. Set before it registers.
	compile func(*pb.Definition) []string
	// grant is the credit that it gives a flow with the first definition of a session.
	grant        *pb.Credit
	store        *cluster.Store // that it registers with
	registration *cluster.Registration[cluster.Worker]
	killed       sync.Once
	served       sync.WaitGroup
}

// newWorker makes a worker that listens, and is not registered yet.
func (r *rig) newWorker(name string, functions ...string) *fakeWorker {
	r.t.Helper()
	w := &fakeWorker{
		rig: r, store: r.store, sessions: make(chan *workerSession, 100), grant: &pb.Credit{Rows: 1 << 20, Bytes: 64 << 20},
		record: cluster.Worker{ID: fmt.Sprintf("%s-%d", name, prefixes.Add(1)), Name: name, Lanes: 1, Started: time.Now()},
	}
	for _, f := range functions {
		w.record.Functions = append(w.record.Functions, cluster.Function{Name: f, Mode: "Calculate"})
	}
	var err error
	if w.listener, err = transport.Listen(r.t.Context(), "127.0.0.1:0"); err != nil {
		r.t.Fatal(err)
	}
	w.record.Address = w.listener.Addr().String()
	w.serve()
	r.t.Cleanup(w.kill)
	return w
}

func (w *fakeWorker) serve() {
	var err error
	if w.server, err = transport.NewServer(w.rig.config.Transport); err != nil {
		w.rig.t.Fatal(err)
	}
	pb.RegisterWorkerServer(w.server, w)
	server, listener := w.server, w.listener
	w.served.Go(func() { _ = server.Serve(listener) })
}

func (w *fakeWorker) register() *fakeWorker {
	w.rig.t.Helper()
	var err error
	if w.registration, err = w.store.RegisterWorker(w.rig.t.Context(), w.record, lease); err != nil {
		w.rig.t.Fatal(err)
	}
	w.rig.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.registration.Close(ctx) // its etcd may be gone
	})
	return w
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

	mu      sync.Mutex                // for Send
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
		over: make(chan struct{}), end: make(chan error, 1), defined: map[string]map[int64]bool{},
	}
	w.sessions <- s
	select {
	case err := <-s.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (s *workerSession) read() {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			close(s.over)
			return
		}
		switch k := m.GetKind().(type) {
		case *pb.CoordinatorMessage_Definition:
			d := k.Definition
			var mistakes []string
			if s.worker.compile != nil {
				mistakes = s.worker.compile(d)
			}
			fresh := len(s.defined[d.GetFlow()]) == 0
			if fresh {
				s.defined[d.GetFlow()] = map[int64]bool{}
			}
			s.defined[d.GetFlow()][d.GetRevision()] = true
			s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Compiled{Compiled: &pb.Compiled{
				Flow: d.GetFlow(), Revision: d.GetRevision(), Errors: mistakes, Fresh: fresh,
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
		Protocol: protocol, Worker: s.worker.record.ID, Resumed: resumed, PartsReceived: partsReceived,
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

// rows are JSON rows with these ids.
func rows(ids ...int) *pb.Columns {
	var c batch.Columns
	for _, id := range ids {
		c.Append(fmt.Appendf(nil, `{"id":%d}`, id))
	}
	return wire.FromColumns(c)
}

// sequence are n rows, with the ids from 0.
func sequence(n int) *pb.Columns {
	ids := make([]int, n)
	for id := range ids {
		ids[id] = id
	}
	return rows(ids...)
}

// texts are the rows of columns, split.
func texts(c *pb.Columns) []string {
	columns := wire.ToColumns(c)
	out := make([]string, columns.Len())
	for i := range out {
		out[i] = string(columns.Row(i))
	}
	return out
}

// unary is a Submit under way.
type unary struct {
	answer *pb.Answer
	err    error
}

func (r *rig) call(ctx context.Context, flow string, in *pb.Submission) <-chan unary {
	stream := batch.NewStreamID()
	return r.callOn(ctx, stream, flow, in)
}

func (r *rig) callOn(ctx context.Context, stream batch.StreamID, flow string, in *pb.Submission) <-chan unary {
	out := make(chan unary, 1)
	go func() {
		response, err := pb.NewIngestClient(r.conn).Submit(ctx, &pb.SubmitRequest{Flow: flow, Stream: stream[:], Submission: in})
		out <- unary{response.GetAnswer(), err}
	}()
	return out
}

// answered waits for a call's answer.
func (r *rig) answered(c <-chan unary) *pb.Answer {
	r.t.Helper()
	u := within(r.t, "an answer", c)
	if u.err != nil {
		r.t.Fatal(u.err)
	}
	return u.answer
}

// clientStream is a client's Stream call.
type clientStream struct {
	t      *testing.T
	id     batch.StreamID
	stream pb.Ingest_StreamClient
	opened *pb.Opened
	cancel context.CancelFunc
	credit *pb.Credit // sum of all that came
}

// open opens a stream and reads up to the first credit.
func (r *rig) open(flow string) *clientStream { return r.openAs(batch.NewStreamID(), flow) }

func (r *rig) openAs(id batch.StreamID, flow string) *clientStream {
	r.t.Helper()
	s, err := r.tryOpen(id, flow)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) tryOpen(id batch.StreamID, flow string) (*clientStream, error) {
	r.t.Helper()
	return r.tryOpenWith(&pb.Open{Flow: flow, Stream: id[:]})
}

// openUnanswered opens a stream that has batches to send again.
func (r *rig) openUnanswered(id batch.StreamID, flow string) *clientStream {
	r.t.Helper()
	s, err := r.tryOpenWith(&pb.Open{Flow: flow, Stream: id[:], Unanswered: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) tryOpenWith(o *pb.Open) (*clientStream, error) {
	r.t.Helper()
	o.ProtocolMin, o.ProtocolMax = 1, 3
	s, err := r.begin(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: o}})
	if err != nil {
		return nil, err
	}
	s.id = batch.StreamID(o.GetStream())
	m, err := s.stream.Recv()
	if err != nil {
		return nil, err
	}
	if s.opened = m.GetOpened(); s.opened == nil {
		r.t.Fatalf("the first message is %v", m)
	}
	if m = s.next(); m.GetCredit() == nil {
		r.t.Fatalf("the second message is %v", m)
	}
	return s, nil
}

// begin opens a call with that first message.
func (r *rig) begin(first *pb.StreamRequest) (*clientStream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	stream, err := pb.NewIngestClient(r.conn).Stream(ctx)
	if err != nil {
		return nil, err
	}
	_ = stream.Send(first) // Recv says why
	return &clientStream{t: r.t, stream: stream, cancel: cancel, credit: &pb.Credit{}}, nil
}

func (s *clientStream) submit(in *pb.Submission) {
	s.t.Helper()
	if err := s.stream.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: in}}); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next message; credit is added up.
func (s *clientStream) next() *pb.StreamResponse {
	s.t.Helper()
	m, err := s.stream.Recv()
	if err != nil {
		s.t.Fatalf("the stream ended: %v", wire.FromStatus(err))
	}
	s.credit.Rows += m.GetCredit().GetRows()
	s.credit.Bytes += m.GetCredit().GetBytes()
	return m
}

// answer is the next answer that says more than on which revision its batch runs.
func (s *clientStream) answer() *pb.Answer {
	s.t.Helper()
	for {
		a := s.next().GetAnswer()
		if a.GetLast() || a.GetRefused() != nil || a.GetOutput() != nil || len(a.GetFinished())+len(a.GetNotDone()) > 0 {
			return a
		}
	}
}

// ends waits for the end of the call and returns why.
func (s *clientStream) ends() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
}

func fromStatus(err error) error { return wire.FromStatus(err) }

// applying is an Apply call.
type applying struct {
	t      *testing.T
	stream pb.Admin_ApplyClient
}

func (r *rig) apply(dry bool, docs ...definition.Document) *applying {
	r.t.Helper()
	in := &pb.ApplyRequest{DryRun: dry}
	for _, d := range docs {
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	stream, err := pb.NewAdminClient(r.conn).Apply(ctx, in)
	if err != nil {
		r.t.Fatal(err)
	}
	return &applying{r.t, stream}
}

func (a *applying) next() *pb.ApplyEvent {
	a.t.Helper()
	e, err := a.stream.Recv()
	if err != nil {
		a.t.Fatalf("apply ended: %v", wire.FromStatus(err))
	}
	return e
}

// ends reads to the end and returns why; nil for a good one.
func (a *applying) ends() error {
	for {
		if _, err := a.stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
