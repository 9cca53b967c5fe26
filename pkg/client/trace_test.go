package client_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// journal is a client.Tracer that notes each call of its methods, and of its spans' methods. Names of spans are their numbers.
type journal struct {
	mu    sync.Mutex
	spans int      // guarded by mu
	lines []string // guarded by mu
}

func (j *journal) note(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, a...))
}

// Start implements client.Tracer.
func (j *journal) Start(_ context.Context, flow string, rows int) client.Span {
	j.mu.Lock()
	j.spans++
	s := journalSpan{j, fmt.Sprint("span ", j.spans)}
	j.mu.Unlock()
	j.note("%s: %d rows for %s", s.name, rows, flow)
	return s
}

// journalSpan is a span of a journal.
type journalSpan struct {
	journal *journal
	name    string
}

// TraceParent implements client.Span.
func (s journalSpan) TraceParent() string { return s.name }

// Sent implements client.Span.
func (s journalSpan) Sent() { s.journal.note("%s: sent", s.name) }

// End implements client.Span.
func (s journalSpan) End(id batch.ID, r *client.Result, err error) {
	if err != nil {
		s.journal.note("%s: sequence %d ended with %s", s.name, id.Sequence, batch.CodeOf(err))
		return
	}
	s.journal.note("%s: sequence %d ended with %d rows", s.name, id.Sequence, r.Rows)
}

// TestTracer looks at the spans of a batch that Submit sends twice, of a batch of a stream whose connection breaks, and of a batch that is
// never sent. The batches carry their spans on the wire, each time.
func TestTracer(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		j := &journal{}
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithTracer(j))

		got := submit(t.Context(), c, "F", numbered(2))
		for _, end := range []func(c *call){
			func(c *call) { c.fail(status.Error(codes.Unavailable, "the connection broke")) },
			func(c *call) { c.answer(&pb.Answer{Revision: 7, Last: true}) },
		} {
			call := <-k.calls
			if parent := call.GetSubmission().GetTraceParent(); parent != "span 1" {
				t.Errorf("the call carries the span %q", parent)
			}
			end(call)
		}
		<-got

		s, remote := k.stream(c, 100, 1000)
		p := send(t, s, numbered(3))
		if parent := remote.next().GetTraceParent(); parent != "span 2" {
			t.Errorf("the stream's batch carries the span %q", parent)
		}
		remote.ended <- status.Error(codes.Unavailable, "the connection broke")
		remote = k.resume(100, 1000)
		if parent := remote.next().GetTraceParent(); parent != "span 2" {
			t.Errorf("the batch that is sent again carries the span %q", parent)
		}
		remote.done(1)
		wait(t, p)

		over, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Send(over, numbered(1)); err == nil {
			t.Error("a batch was sent although the context was over")
		}
		want := []string{
			"span 1: 2 rows for F", "span 1: sent", "span 1: sent", "span 1: sequence 1 ended with 2 rows",
			"span 2: 3 rows for F", "span 2: sent", "span 2: sent", "span 2: sequence 1 ended with 3 rows",
			"span 3: 1 rows for F", "span 3: sequence 0 ended with CANCELLED",
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if !slices.Equal(j.lines, want) {
			t.Errorf("the tracer was told %q, want %q", j.lines, want)
		}
	})
}
