package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// These tests run a worker as a program does: real sockets, and a real etcd in this process.

const patience = time.Minute

type number struct {
	N int `json:"n"`
}

func functions(t *testing.T) *kis.Registry {
	r := kis.NewRegistry()
	r.Func("double", kis.Calculate(func(_ context.Context, in number) (number, error) { return number{2 * in.N}, nil }))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

// running is a worker whose Run is under way.
type running struct {
	*worker.Worker
	ran chan error // Run's, once
}

// start runs a worker until the test ends, if the test does not end it.
func start(t *testing.T, etcd string, change func(*worker.Config)) *running {
	t.Helper()
	c := worker.Config{
		Registry: functions(t), Name: "w", Listen: "127.0.0.1:0", Etcd: cluster.Config{Endpoints: []string{etcd}}, Lease: 2 * time.Second,
		Build: "test", Logger: hclog.New(&hclog.LoggerOptions{Output: testLog{t}, Level: hclog.Debug}),
	}
	if change != nil {
		change(&c)
	}
	w, err := worker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Worker: w, ran: make(chan error, 1)}
	var done sync.WaitGroup
	done.Go(func() { r.ran <- w.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return r
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// membership follows the workers' records.
type membership struct {
	t       *testing.T
	store   *cluster.Store
	changes chan map[string]cluster.Worker
}

func follow(t *testing.T, etcd string) *membership {
	t.Helper()
	store, err := cluster.Open(cluster.Config{Endpoints: []string{etcd}})
	if err != nil {
		t.Fatal(err)
	}
	m := &membership{t: t, store: store, changes: make(chan map[string]cluster.Worker, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { _ = store.FollowWorkers(ctx, func(w map[string]cluster.Worker) { m.changes <- w }) })
	t.Cleanup(func() {
		cancel()
		following.Wait()
		_ = store.Close()
	})
	return m
}

// await waits until the records are as wanted, and returns the one worker there is, or none.
func (m *membership) await(what string, wanted func(map[string]cluster.Worker) bool) cluster.Worker {
	m.t.Helper()
	late := time.After(patience)
	for {
		select {
		case workers := <-m.changes:
			if !wanted(workers) {
				continue
			}
			for _, w := range workers {
				return w
			}
			return cluster.Worker{}
		case <-late:
			m.t.Fatalf("%s did not happen within %s", what, patience)
		}
	}
}

func (m *membership) awaitWorker() cluster.Worker {
	m.t.Helper()
	return m.await("a worker's registration", func(all map[string]cluster.Worker) bool { return len(all) == 1 })
}

// session is a coordinator's, over a real socket.
type session struct {
	t      *testing.T
	stream pb.Worker_SessionClient
}

func dial(t *testing.T, w cluster.Worker) *session {
	t.Helper()
	conn, err := transport.Dial(w.Address, transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(func() { cancel(); _ = conn.Close() })
	s := &session{t: t}
	if s.stream, err = pb.NewWorkerClient(conn).Session(ctx, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	s.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Hello{Hello: &pb.Hello{ProtocolMin: 1, ProtocolMax: 1, Coordinator: "c", Worker: w.ID}}})
	if welcome := s.next().GetWelcome(); welcome.GetWorker() != w.ID {
		t.Fatalf("Welcome %v", welcome)
	}
	s.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{Flow: "f", Revision: 1, Documents: []*pb.Document{
		{Kind: "flow", Name: "f", Yaml: []byte("kistype: flow\nstatus: 1\nflow_name: f\nflows:\n  - fname: double\n")},
		{Kind: "func", Name: "double", Yaml: []byte("kistype: func\nfname: double\nfmode: Calculate\nsource:\n  name: numbers\n")},
	}}}})
	if c := s.next().GetCompiled(); c == nil || len(c.GetErrors()) > 0 {
		t.Fatalf("Compiled %v", c)
	}
	return s
}

func (s *session) send(m *pb.CoordinatorMessage) {
	s.t.Helper()
	if err := s.stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // after the end; the reading side tells why
		s.t.Fatal(err)
	}
}

func (s *session) next() *pb.WorkerMessage {
	s.t.Helper()
	for {
		m, err := s.stream.Recv()
		if err != nil {
			s.t.Fatal(wire.FromStatus(err))
		}
		if m.GetCredit() == nil && m.GetHeartbeat() == nil {
			return m
		}
	}
}

func (s *session) ends() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return wire.FromStatus(err)
		}
	}
}

// double sends n through the flow.
func (s *session) double(part uint64, n int) {
	s.t.Helper()
	var c batch.Columns
	c.Append(fmt.Appendf(nil, `{"n":%d}`, n))
	s.send(&pb.CoordinatorMessage{ResultsReceived: part - 1, Kind: &pb.CoordinatorMessage_Part{Part: &pb.Part{
		Number: part, Flow: "f", Revision: 1, Batch: wire.FromID(batch.ID{Sequence: part}), Output: true, BatchRows: 1, Columns: wire.FromColumns(c),
	}}})
	r := s.next().GetResult()
	if got, want := string(r.GetOutput().GetRows().GetData()), fmt.Sprintf(`{"n":%d}`, 2*n); got != want {
		s.t.Errorf("part %d gives %q, want %q: %v", part, got, want, r)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// awaitPage waits until a page answers so: what a worker says about itself follows what others see of it.
func awaitPage(t *testing.T, url string, status int, text string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if r, err := client.Get(url); err != nil {
			last = err.Error() // it does not listen yet
		} else {
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err == nil && r.StatusCode == status && strings.Contains(string(body), text) {
				return
			}
			last = fmt.Sprintf("%d %.300s", r.StatusCode, body)
		}
	}
	t.Fatalf("%s does not answer %d %q: %s", url, status, text, last)
}

func TestWorkerFromStartToDrain(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	members := follow(t, etcd.Address())
	pages := testprocess.Address(t)
	w := start(t, etcd.Address(), func(c *worker.Config) { c.HTTP = pages })
	record := members.awaitWorker()
	if !strings.HasPrefix(record.ID, "w-") || record.ID != w.ID() || record.Name != "w" || record.Build != "test" || record.Lanes < 1 || record.Draining {
		t.Errorf("record %+v", record)
	}
	if f := record.Functions; len(f) != 1 || f[0].Name != "double" || f[0].Mode != "Calculate" || f[0].In == "" || f[0].Out == "" {
		t.Errorf("functions %+v", f)
	}
	awaitPage(t, "http://"+pages+"/readyz", http.StatusServiceUnavailable, "no coordinator has a session")
	s := dial(t, record)
	s.double(1, 21)

	for path, want := range map[string]string{
		"/metrics": "kisgrid_worker_parts_received_total 1",
		"/healthz": `"id":"` + record.ID + `"`,
		"/livez":   "ok",
		"/readyz":  "ok",
	} {
		awaitPage(t, "http://"+pages+path, http.StatusOK, want)
	}

	drained := make(chan error, 2)
	for range 2 {
		go func() { drained <- w.Drain(context.Background()) }()
	}
	if s.next().GetDraining() == nil {
		t.Error("the coordinator is not told")
	}
	members.await("the record that says draining", func(all map[string]cluster.Worker) bool { return all[record.ID].Draining })
	s.send(&pb.CoordinatorMessage{ResultsReceived: 1, Kind: &pb.CoordinatorMessage_Ack{Ack: &pb.Ack{}}})
	if err := s.ends(); batch.CodeOf(err) != batch.CodeShutdown {
		t.Errorf("the session ended with %v", err)
	}
	members.await("the end of the record", func(all map[string]cluster.Worker) bool { return len(all) == 0 })
	for range 2 {
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
	}
	if err := <-w.ran; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := w.Drain(context.Background()); err != nil {
		t.Errorf("drain after the end: %v", err)
	}
	if conn, err := net.Dial("tcp", record.Address); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
}

func TestWorkerThatIsGivenUpTakesAnotherID(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	members := follow(t, etcd.Address())
	w := start(t, etcd.Address(), nil)
	before := members.awaitWorker()
	s := dial(t, before)
	s.double(1, 1)
	if err := members.store.RemoveWorker(t.Context(), before.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.ends(); batch.CodeOf(err) != batch.CodeShutdown || !strings.Contains(err.Error(), "takes another id") {
		t.Errorf("the session ended with %v", err)
	}
	after := members.await("another registration", func(all map[string]cluster.Worker) bool { return len(all) == 1 && all[before.ID].ID == "" })
	if after.ID == before.ID || after.Name != before.Name || after.Address != before.Address {
		t.Errorf("before %+v, after %+v", before, after)
	}
	dial(t, after).double(1, 2)
	if w.ID() != after.ID {
		t.Errorf("the worker says it is %s", w.ID())
	}
}

func TestWorkerWaitsForEtcd(t *testing.T) {
	address, pages := testprocess.Address(t), testprocess.Address(t)
	start(t, address, func(c *worker.Config) { c.HTTP = pages })
	awaitPage(t, "http://"+pages+"/readyz", http.StatusServiceUnavailable, address)
	testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{Address: address})
	dial(t, follow(t, address).awaitWorker()).double(1, 4)
}

func TestWorkerOutlivesAnOutageOfEtcd(t *testing.T) {
	data, address := t.TempDir(), testprocess.Address(t)
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{Address: address, DataDir: data})
	pages := testprocess.Address(t)
	start(t, address, func(c *worker.Config) { c.HTTP = pages })
	before := follow(t, address).awaitWorker()
	s := dial(t, before)
	s.double(1, 1)
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	part := uint64(2)
	for deadline := time.Now().Add(patience); ; part++ {
		s.double(part, int(part)) // all along
		if status, _ := get(t, "http://"+pages+"/readyz"); status != http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the worker does not notice that etcd is away")
		}
	}
	s.double(part+1, 7)
	testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{Address: address, DataDir: data})
	awaitPage(t, "http://"+pages+"/readyz", http.StatusOK, "ok")
	s.double(part+2, 5) // in the same session
	follow(t, address).await("the same registration", func(all map[string]cluster.Worker) bool { return len(all) == 1 && all[before.ID].ID == before.ID })
}

func TestWorkerThatIsCutOff(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	members := follow(t, etcd.Address())
	w, err := worker.New(worker.Config{
		Registry: functions(t), Name: "w", Listen: "127.0.0.1:0", Etcd: cluster.Config{Endpoints: []string{etcd.Address()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	s := dial(t, members.awaitWorker())
	cut()
	if err := <-ran; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := s.ends(); batch.CodeOf(err) != batch.CodeShutdown {
		t.Errorf("the session ended with %v", err)
	}
	members.await("the end of the record", func(all map[string]cluster.Worker) bool { return len(all) == 0 })
	if err := w.Run(context.Background()); err == nil {
		t.Error("a worker runs twice")
	}
}

func TestDrainBeforeRun(t *testing.T) {
	w, err := worker.New(worker.Config{Registry: functions(t)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
	}
	if err := w.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "was called before") {
		t.Errorf("run after that: %v", err)
	}
}

func TestPortsThatAreInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	for name, change := range map[string]func(*worker.Config){
		"listen": func(c *worker.Config) { c.Listen = taken.Addr().String() },
		"http":   func(c *worker.Config) { c.HTTP = taken.Addr().String() },
	} {
		err := <-start(t, etcd.Address(), change).ran
		if err == nil || !strings.Contains(err.Error(), "listen on "+taken.Addr().String()) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", name, err)
		}
	}
	start(t, etcd.Address(), func(c *worker.Config) {
		c.Listen, c.HTTP, c.ListenElsewhere, c.HTTPElsewhere = taken.Addr().String(), taken.Addr().String(), true, true
	})
	record := follow(t, etcd.Address()).awaitWorker()
	if record.Address == taken.Addr().String() {
		t.Errorf("the worker says it is at %s, where somebody else is", record.Address)
	}
	dial(t, record).double(1, 3)
}

func TestConfigMistakes(t *testing.T) {
	broken := kis.NewRegistry()
	broken.FaaS("nothing", 7)
	for name, c := range map[string]struct {
		config worker.Config
		says   string
	}{
		"no registry":       {worker.Config{}, "Config.Registry is nil"},
		"a broken registry": {worker.Config{Registry: broken}, `"nothing"`},
		"a name with slash": {worker.Config{Registry: functions(t), Name: "a/b"}, `"a/b" has a slash`},
		"too little memory": {worker.Config{Registry: functions(t), MemoryBudget: 1000}, "at least 1 MiB"},
		"too few rows":      {worker.Config{Registry: functions(t), RowBudget: 1}, "1024 rows"},
	} {
		if _, err := worker.New(c.config); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		change func(*worker.Config)
		says   string
	}{
		"an address to advertise": {func(c *worker.Config) { c.Advertise = "here" }, `"here"`},
		"no port to listen on":    {func(c *worker.Config) { c.Listen = "127.0.0.1" }, "127.0.0.1"},
		"a CA that is not there":  {func(c *worker.Config) { c.Transport.TLSCert, c.Transport.TLSKey = "/no/cert", "/no/key" }, "/no/"},
	} {
		if err := <-start(t, "127.0.0.1:1", c.change).ran; err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
