package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// oneStream is a service that takes the rows of a call, gives credit for them, and ends each row as done.
type oneStream struct{ pb.UnimplementedIngestServer }

func (oneStream) Stream(stream pb.Ingest_StreamServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	for _, m := range []*pb.StreamResponse{
		{Kind: &pb.StreamResponse_Opened{Opened: &pb.Opened{Revision: 7}}},
		{Kind: &pb.StreamResponse_Credit{Credit: &pb.Credit{Rows: 1 << 20, Bytes: 1 << 30}}},
	} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: &pb.Answer{Sequence: m.GetSubmission().GetSequence(), Last: true}}}); err != nil {
			return err
		}
	}
}

// roomy is a budget without limits.
type roomy struct{}

func (roomy) ReserveCall(int, int) (func(), bool) { return func() {}, true }

// oldRequests says of each request that it was kept a given time ago.
type oldRequests time.Duration

func (o oldRequests) Keep(_ context.Context, _ string, r cluster.KeptRequest) (*cluster.KeptRequest, time.Duration, error) {
	return &r, time.Duration(o), nil
}

// newAPI makes an API on top of oneStream.
func newAPI(t *testing.T, requests Requests) *API {
	t.Helper()
	a, err := New(Config{
		Ingest: oneStream{}, Requests: requests, Budget: roomy{}, MessageBytes: 1 << 20,
		Unary: func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, in)
		},
		Stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, stream)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// value returns the value of a metric of the API with these values of its labels, in the order of the labels' names.
func value(t *testing.T, a *API, name string, labels ...string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetValue())
			}
			if family.GetName() == name && slices.Equal(has, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s with %v", name, labels)
	return 0
}

// keyed makes a request with a key of idempotency, and returns its answer.
func keyed(a *API, key string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/v1/flows/F/rows", strings.NewReader("{\"id\":1}\n"))
	r.Header.Set(keyHeader, key)
	a.ServeHTTP(w, r)
	return w
}

// TestOutsideTheWindow makes a request again that was first made just before and just after the window's end.
func TestOutsideTheWindow(t *testing.T) {
	for age, status := range map[time.Duration]int{cluster.RequestWindow: http.StatusOK, cluster.RequestWindow + time.Second: http.StatusConflict} {
		w := keyed(newAPI(t, oldRequests(age)), "k")
		var p problem
		if w.Code != status || status != http.StatusOK && (json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Code != batch.CodeBatchTooOld.String() || !strings.Contains(p.Detail, "new key")) {
			t.Errorf("after %v: %d %s", age, w.Code, w.Body)
		}
	}
}

// TestTooManyKeys makes more requests with keys than a coordinator takes at once. Those above are refused with the time to wait, and count in
// the metrics; after that time another one is taken.
func TestTooManyKeys(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := newAPI(t, oldRequests(0))
		for i := range keysAtOnce + 5 {
			w := keyed(a, fmt.Sprint(i))
			if over := i >= keysAtOnce; over != (w.Code == http.StatusTooManyRequests) {
				t.Fatalf("request %d: %d %s", i, w.Code, w.Body)
			}
			if w.Code != http.StatusOK && (w.Header().Get("Retry-After") != "1" || w.Header().Get("Content-Type") != "application/problem+json") {
				t.Errorf("request %d: %v", i, w.Header())
			}
		}
		time.Sleep(time.Second) // in virtual time
		for i := range keysPerSecond {
			if w := keyed(a, fmt.Sprint("later ", i)); w.Code != http.StatusOK {
				t.Errorf("after a second, request %d: %d %s", i, w.Code, w.Body)
			}
		}
		if w := keyed(a, "one more"); w.Code != http.StatusTooManyRequests {
			t.Errorf("the last one: %d", w.Code)
		}
		for status, want := range map[string]float64{"200": keysAtOnce + keysPerSecond, "429": 6} {
			if got := value(t, a, "kisgrid_http_requests_total", callRows, status); got != want {
				t.Errorf("%v requests have the status %s, want %v", got, status, want)
			}
		}
		if got := value(t, a, "kisgrid_http_requests_in_flight", callRows); got != 0 {
			t.Errorf("%v requests are under way", got)
		}
		a.Wait()
	})
}

// pipes is a listener whose connections are pipes in memory, so that their deadlines are in virtual time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return address("pipe") }

// TestSlowBody sends the bytes of a row one at a time, and rows one at a time: the former is answered with 408 after rowPatience, however
// many bytes came, and the latter may take as long as it likes.
func TestSlowBody(t *testing.T) {
	for name, c := range map[string]struct {
		piece, says string
	}{
		"a row": {"x", "408"}, "rows": {"{\"id\":1}\n", "200 OK"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				a := newAPI(t, nil)
				l := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
				server := &http.Server{Handler: a}
				var running sync.WaitGroup
				running.Go(func() { _ = server.Serve(l) })
				client, conn := net.Pipe()
				l.conns <- conn
				began := time.Now()
				running.Go(func() {
					const pieces = 20
					if _, err := fmt.Fprintf(client, "POST /v1/flows/F/rows?list=not_done HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", pieces*len(c.piece)); err != nil {
						t.Error(err)
						return
					}
					for range pieces {
						if _, err := io.WriteString(client, c.piece); err != nil {
							return // the server has given up
						}
						time.Sleep(10 * time.Second)
					}
				})
				status, err := bufio.NewReader(client).ReadString('\n')
				if err != nil || !strings.Contains(status, c.says) {
					t.Errorf("the answer is %q, %v, want %s", status, err, c.says)
				}
				if waited := time.Since(began); c.says == "408" && (waited < rowPatience || waited > rowPatience+10*time.Second) {
					t.Errorf("the answer came after %v", waited)
				}
				_ = client.Close()
				_ = server.Close()
				running.Wait()
				a.Wait()
			})
		})
	}
}

// TestStrangersTakeNoKeys: requests of callers that are refused don't count for the limit of requests with keys.
func TestStrangersTakeNoKeys(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := newAPI(t, oldRequests(0))
		welcome := a.Stream
		a.Stream = func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error {
			return wire.Status(batch.Errorf(batch.CodeUnauthenticated, "nobody knows you"))
		}
		for i := range 2 * keysAtOnce {
			if w := keyed(a, fmt.Sprint("stranger ", i)); w.Code != http.StatusUnauthorized {
				t.Fatalf("request %d: %d %s", i, w.Code, w.Body)
			}
		}
		a.Stream = welcome
		if w := keyed(a, "a key"); w.Code != http.StatusOK {
			t.Errorf("after them: %d %s", w.Code, w.Body)
		}
	})
}

// endingStream is a service whose call ends with an error when it has received the batch, or before that.
type endingStream struct {
	pb.UnimplementedIngestServer
	receives bool
}

// Stream implements pb.IngestServer.
func (e endingStream) Stream(stream pb.Ingest_StreamServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	for _, m := range []*pb.StreamResponse{
		{Kind: &pb.StreamResponse_Opened{Opened: &pb.Opened{Revision: 7}}},
		{Kind: &pb.StreamResponse_Credit{Credit: &pb.Credit{Rows: 1 << 20, Bytes: 1 << 30}}},
	} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	if e.receives {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
	return wire.Status(batch.Errorf(batch.CodeUnavailable, "the call has ended"))
}

// TestRowsMayHaveRun: a status other than 200 promises that no row has run, so a request whose rows may have run, and of which no outcome is
// known, has status 200 and an error in its last line.
func TestRowsMayHaveRun(t *testing.T) {
	for receives, want := range map[bool]int{false: http.StatusServiceUnavailable, true: http.StatusOK} {
		a := newAPI(t, nil)
		a.Ingest = endingStream{receives: receives}
		w := httptest.NewRecorder()
		body, rows := io.Pipe()
		go func() {
			if receives {
				_, _ = io.WriteString(rows, "{\"id\":1}\n{\"id\":2}\n") // an error means that the request has ended
			}
			_ = rows.Close()
		}()
		a.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://127.0.0.1/v1/flows/F/rows", body))
		if w.Code != want || !strings.Contains(w.Body.String(), "UNAVAILABLE") {
			t.Errorf("received %v: %d %s", receives, w.Code, w.Body)
		}
		if receives && !strings.Contains(w.Body.String(), `"not_submitted_from":`) {
			t.Errorf("the answer is %s", w.Body)
		}
		_ = body.Close()
		a.Wait()
	}
}
