package coordinator

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

var (
	errStreamEnded = errors.New("the client's stream ended before its answer")
	errGivenUp     = errors.New("the worker was given up: what it had not answered runs on another one")
)

// batchSpan is the span of a submission. A nil one is that of nobody who traces.
type batchSpan struct {
	trace.Span
	tracer trace.Tracer

	mu   sync.Mutex
	lost []trace.Link // parts that were with a worker when it was given up; guarded by mu
}

// trace begins the submission's span, below the client's if that traces.
func (s *submission) trace(t trace.Tracer, parent string) {
	if t == nil {
		return
	}
	_, span := t.Start(tracing.Extract(context.Background(), parent), "batch "+s.Flow, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		tracing.Flow.String(s.Flow), tracing.Revision.Int64(s.Revision), tracing.Batch.String(s.id.String()), tracing.Rows.Int(s.Rows())))
	s.span = &batchSpan{Span: span, tracer: t}
}

// end ends the span. It is safe twice; the first error counts.
func (s *batchSpan) end(err error) {
	if s != nil {
		tracing.End(s.Span, err)
	}
}

// part begins the span of a part. One whose batch has lost parts names them: its rows may have been among theirs.
func (s *batchSpan) part(k *workerPeer, p *scheduler.Part) trace.Span {
	s.mu.Lock()
	links := s.lost
	s.mu.Unlock()
	_, span := s.tracer.Start(trace.ContextWithSpan(context.Background(), s.Span), "part "+p.Batch.Flow,
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...), trace.WithAttributes(
			tracing.Flow.String(p.Batch.Flow), tracing.Worker.String(k.worker.ID), tracing.Part.Int64(int64(p.Number)),
			tracing.Rows.Int(p.Len()), tracing.Deaths.Int64(int64(p.Deaths))))
	return span
}

// partSpans are the spans of the parts that a worker has, by number. The zero value is that of nobody who traces.
type partSpans struct {
	mu   sync.Mutex
	open map[uint64]partSpan // guarded by mu
}

type partSpan struct {
	trace.Span
	batch *batchSpan
}

// sent is told that a part goes to the worker, and returns its span for the message. A part that is sent again on the next
// session has its span already.
func (s *partSpans) sent(k *workerPeer, batch *batchSpan, p *scheduler.Part) (parent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span, again := s.open[p.Number]
	if again {
		span.AddEvent("sent again")
	} else {
		if s.open == nil {
			s.open = map[uint64]partSpan{}
		}
		span = partSpan{batch.part(k, p), batch}
		s.open[p.Number] = span
	}
	return tracing.Inject(span.Span)
}

// answered is told what the worker says of a part.
func (s *partSpans) answered(r *pb.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span, there := s.open[r.GetPart()]
	if !there {
		return
	}
	if returned := r.GetReturned(); len(returned) > 0 {
		rows := int64(0)
		for _, x := range returned {
			rows += int64(x.GetCount())
		}
		span.AddEvent("rows handed back", trace.WithAttributes(attribute.Int64(string(tracing.Rows), rows)))
	}
	if r.GetLast() {
		span.End()
		delete(s.open, r.GetPart())
	}
}

// lost is told that nothing more will come from the worker.
func (s *partSpans) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.open {
		tracing.End(span.Span, errGivenUp)
		span.batch.mu.Lock()
		span.batch.lost = append(span.batch.lost, trace.Link{SpanContext: span.SpanContext()})
		span.batch.mu.Unlock()
	}
	s.open = nil
}
