package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// rig is a server on an in-memory listener, with functions that a test can hold up.
type rig struct {
	t       *testing.T
	server  *server
	calls   *serve.Server
	listen  *bufconn.Listener
	metrics *prometheus.Registry

	mu    sync.Mutex
	gates map[string]chan struct{} // by a row's text: its function waits for it; guarded by mu
	ran   []string                 // texts, in the order in which the function began; guarded by mu
}

// word is the rows' type.
type word struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

const (
	workerID = "w-1"
	lease    = 10 * time.Second
)

func newRig(t *testing.T, budget amount) *rig {
	r := &rig{t: t, listen: bufconn.Listen(1 << 20), metrics: prometheus.NewRegistry(), gates: map[string]chan struct{}{}}
	registry := kis.NewRegistry()
	registry.Func("echo", kis.Calculate(r.echo))
	registry.Func("repeat", kis.Expand(r.repeat))
	if err := registry.Err(); err != nil {
		t.Fatal(err)
	}
	var err error
	r.server, err = newServer(serverConfig{
		Registry: registry, Connectors: connector.NewPool(nil, nil, nil, nil), Limits: batch.Limits{}.WithDefaults(), ResultBytes: wire.SplitBytes,
		Budget: budget,
		Lease:  lease, Logger: hclog.NewNullLogger(), Metrics: r.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.server.setID(workerID)
	if r.calls, err = serve.NewServer(transport.Config{}); err != nil {
		t.Fatal(err)
	}
	pb.RegisterWorkerServer(r.calls, r.server)
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.calls.Serve(&addressed{Listener: r.listen}) })
	t.Cleanup(func() {
		r.openAll()
		r.server.close()
		r.calls.Stop()
		serving.Wait()
		if held := r.server.budget.sums().held; !held.none() {
			t.Errorf("the budget still counts %v after the end", held)
		}
	})
	return r
}

// addressed is a listener whose connections have an address each, as those of a network do.
type addressed struct {
	net.Listener
	connections int // owned by who accepts
}

func (l *addressed) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.connections++
	return addressedConn{conn, &net.TCPAddr{IP: net.IPv6loopback, Port: l.connections}}, nil
}

type addressedConn struct {
	net.Conn
	from net.Addr
}

func (c addressedConn) RemoteAddr() net.Addr { return c.from }

// wideBudget is more than a test needs.
var wideBudget = amount{1 << 18, 64 << 20}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, budget amount, test func(*testing.T, *rig)) {
	bubble.Test(t, func(t *testing.T) { test(t, newRig(t, budget)) })
}

// echo is the function of flow sharded and flow whole: it passes its row on, and does what the row's text says.
func (r *rig) echo(ctx context.Context, w word) (word, error) {
	r.mu.Lock()
	r.ran = append(r.ran, w.Text)
	gate := r.gates[w.Text]
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return w, ctx.Err()
		}
	}
	switch {
	case strings.HasPrefix(w.Text, "bad"):
		return w, errors.New("the text is bad")
	case strings.HasPrefix(w.Text, "drop"):
		return w, kis.Drop("not wanted")
	}
	return w, nil
}

// repeat passes its row on as often as its id says.
func (r *rig) repeat(_ context.Context, w word, emit func(word)) error {
	for range w.ID {
		emit(w)
	}
	return nil
}

// hold makes rows with this text wait.
func (r *rig) hold(texts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range texts {
		r.gates[text] = make(chan struct{})
	}
}

// open lets rows with this text go on.
func (r *rig) open(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gate := r.gates[text]; gate != nil {
		close(gate)
		delete(r.gates, text)
	}
}

func (r *rig) openAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, gate := range r.gates {
		close(gate)
		delete(r.gates, text)
	}
}

// began is what the function was called with so far.
func (r *rig) began() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.ran...)
}

// metric is the value of a metric, its series added up.
func (r *rig) metric(name string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		total := 0.0
		for _, m := range f.GetMetric() {
			total += value(m)
		}
		return total
	}
	return 0
}

func value(m *dto.Metric) float64 {
	if m.GetCounter() != nil {
		return m.GetCounter().GetValue()
	}
	return m.GetGauge().GetValue()
}

// document makes the flow's documents.
func documents(flow, shardKey, function string, copies int) []*pb.Document {
	mode := map[string]string{"echo": "Calculate", "repeat": "Expand", "nobody": "Calculate"}[function]
	text := fmt.Sprintf("kistype: flow\nstatus: 1\nflow_name: %s\ncopies: %d\nflows:\n  - fname: %s\n", flow, copies, function)
	if shardKey != "" {
		text += "shard_key: " + shardKey + "\n"
	}
	return []*pb.Document{
		{Kind: "flow", Name: flow, Yaml: []byte(text), Revision: 5},
		{Kind: "func", Name: function, Yaml: fmt.Appendf(nil, "kistype: func\nfname: %s\nfmode: %s\nsource:\n  name: words\n", function, mode), Revision: 4},
	}
}

// boss is a scripted coordinator's session.
type boss struct {
	t      *testing.T
	conn   *grpc.ClientConn
	stream pb.Worker_SessionClient
	cancel context.CancelFunc

	received uint64 // results
	credit   map[string]amount
	read     chan *pb.WorkerMessage // nil until pump
	said     []*pb.WorkerMessage    // taken from read ahead of time
}

func (r *rig) dial() *boss {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///worker", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return r.listen.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize((&transport.Config{}).MessageBytes())))
	if err != nil {
		r.t.Fatal(err)
	}
	return openSession(r.t, conn)
}

// openSession makes the call; nothing is said yet.
func openSession(t *testing.T, conn *grpc.ClientConn) *boss {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := pb.NewWorkerClient(conn).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b := &boss{t: t, conn: conn, stream: stream, cancel: cancel, credit: map[string]amount{}}
	t.Cleanup(b.hangUp)
	return b
}

// hangUp breaks the connection.
func (b *boss) hangUp() {
	b.cancel()
	_ = b.conn.Close()
}

func (b *boss) send(m *pb.CoordinatorMessage) {
	b.t.Helper()
	m.ResultsReceived = b.received
	if err := b.stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // after the end; the reading side tells why
		b.t.Fatalf("send %T: %v", m.GetKind(), err)
	}
}

// next is the next message; credits are counted, and not returned.
func (b *boss) next() (*pb.WorkerMessage, error) {
	for {
		m, err := b.recv()
		if err != nil {
			return nil, wire.FromStatus(err)
		}
		if !b.count(m) {
			return m, nil
		}
	}
}

func (b *boss) recv() (m *pb.WorkerMessage, err error) {
	switch {
	case len(b.said) > 0:
		m, b.said = b.said[0], b.said[1:]
		return m, nil
	case b.read != nil:
		if m = <-b.read; m != nil {
			return m, nil
		}
	}
	return b.stream.Recv()
}

// count takes a credit in; false where the message is none.
func (b *boss) count(m *pb.WorkerMessage) bool {
	c := m.GetCredit()
	if c != nil {
		b.credit[c.GetFlow()] = b.credit[c.GetFlow()].plus(amount{int64(c.GetRows()), int64(c.GetBytes())})
	}
	return c != nil || m.GetHeartbeat() != nil
}

// pump reads in the background from now on, so that catchUp can take what has come.
func (b *boss) pump() {
	b.read = make(chan *pb.WorkerMessage, 1<<16)
	go func() {
		defer close(b.read)
		for {
			m, err := b.stream.Recv()
			if err != nil {
				return
			}
			b.read <- m
		}
	}()
}

// catchUp counts the credits that have come.
func (b *boss) catchUp() {
	synctest.Wait()
	for {
		select {
		case m, ok := <-b.read:
			switch {
			case !ok:
				return
			case !b.count(m):
				b.said = append(b.said, m)
			}
		default:
			return
		}
	}
}

// spend sends a part if the credit allows it.
func (b *boss) spend(p *pb.Part) bool {
	b.t.Helper()
	b.catchUp()
	flow := p.GetFlow()
	if b.credit[flow].spent() {
		return false
	}
	b.credit[flow] = b.credit[flow].minus(amount{int64(len(p.GetColumns().GetEnds())), int64(len(p.GetColumns().GetData()))})
	b.sendPart(p)
	return true
}

func (b *boss) must() *pb.WorkerMessage {
	b.t.Helper()
	m, err := b.next()
	if err != nil {
		b.t.Fatalf("the session ended: %v", err)
	}
	return m
}

// ends waits for the end of the session and returns why, skipping what was said before.
func (b *boss) ends() error {
	for {
		if _, err := b.next(); err != nil {
			return err
		}
	}
}

func (b *boss) hello(coordinator string, resume bool) *pb.Welcome {
	b.t.Helper()
	b.send(hello(coordinator, workerID, resume))
	w := b.must().GetWelcome()
	if w == nil {
		b.t.Fatal("the first message is no Welcome")
	}
	return w
}

func hello(coordinator, worker string, resume bool) *pb.CoordinatorMessage {
	return &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Hello{Hello: &pb.Hello{
		ProtocolMin: 1, ProtocolMax: 1, Coordinator: coordinator, Worker: worker, Resume: resume,
	}}}
}

// defineAs sends a definition and returns what the worker thinks of it.
func (b *boss) defineAs(flow string, revision int64, docs []*pb.Document) []string {
	b.t.Helper()
	b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{Flow: flow, Revision: revision, Documents: docs}}})
	c := b.must().GetCompiled()
	if c == nil || c.GetFlow() != flow || c.GetRevision() != revision {
		b.t.Fatalf("a definition of %s was answered with %v", flow, c)
	}
	return c.GetErrors()
}

// define defines flow sharded, by id over two lanes, flow whole, or flow repeat.
func (b *boss) define(flow string) {
	b.t.Helper()
	key, function := "", "echo"
	switch flow {
	case "sharded":
		key = "id"
	case "repeat":
		function = "repeat"
	}
	if errs := b.defineAs(flow, 5, documents(flow, key, function, 2)); len(errs) > 0 {
		b.t.Fatalf("flow %s does not compile: %v", flow, errs)
	}
}

// stream names all batches of the tests.
var stream = batch.StreamID{1}

// batchOf makes a part that is a whole batch of words. Word i has the id i; in flow sharded, odd words run on the second of
// two lanes, by their keys.
func batchOf(number uint64, flow string, words ...string) *pb.Part {
	c := &batch.Columns{}
	for i, w := range words {
		c.Append(fmt.Appendf(nil, `{"id":%d,"text":%q}`, i, w))
		if flow == "sharded" {
			c.Keys = append(c.Keys, slotOf(i))
		}
	}
	return &pb.Part{
		Number: number, Flow: flow, Revision: 5, Batch: wire.FromID(batch.ID{Stream: stream, Sequence: number}), Output: true,
		BatchRows: uint32(len(words)), Columns: wire.FromColumns(*c),
	}
}

func slotOf(word int) uint64 { return uint64(word%2*keyslot.Count/2 + word) }

func (b *boss) sendPart(p *pb.Part) {
	b.t.Helper()
	b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Part{Part: p}})
}

// result is the next message, which must be a result, the next in number.
func (b *boss) result() *pb.Result {
	b.t.Helper()
	r := b.must().GetResult()
	if r == nil {
		b.t.Fatal("the next message is no result")
	}
	if r.GetNumber() != b.received+1 {
		b.t.Fatalf("result %d came after result %d", r.GetNumber(), b.received)
	}
	b.received = r.GetNumber()
	return r
}

func (b *boss) ack() {
	b.t.Helper()
	b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Ack{Ack: &pb.Ack{}}})
}

// texts are the output rows' texts.
func texts(r *pb.Result) []string {
	var out []string
	c := wire.ToColumns(r.GetOutput().GetRows())
	for i := range c.Len() {
		_, text, _ := strings.Cut(string(c.Row(i)), `"text":"`)
		text, _, _ = strings.Cut(text, `"`)
		out = append(out, text)
	}
	return out
}

func wantCode(t *testing.T, err error, code batch.Code, says string) {
	t.Helper()
	if batch.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v that says %q", err, code, says)
	}
}

// all are the flows that have lanes.
func (f *flows) all() []*flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*flow, 0, len(f.byName))
	for _, flow := range f.byName {
		all = append(all, flow)
	}
	return all
}
