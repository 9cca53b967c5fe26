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
	// errStreamEnded is the error in the tracing span of a batch whose client left before it was answered.
	errStreamEnded = errors.New("the client's stream ended before its answer")
	// errGivenUp is the error in the tracing span of a part whose worker was given up.
	errGivenUp = errors.New("the worker was given up: rows that it had not answered run on another worker")
)

// batchSpan is the tracing span of a submission. A nil *batchSpan means that tracing is off. Any goroutine may use it.
type batchSpan struct {
	trace.Span
	tracer trace.Tracer

	mu   sync.Mutex
	lost []trace.Link // guarded by mu: spans of parts whose worker was given up before it had answered
}

// trace begins the submission's tracing span. parent names the client's span, whose child it is; empty means none. If t is nil, tracing is
// off, and there is no span.
func (s *submission) trace(t trace.Tracer, parent string) {
	if t == nil {
		return
	}
	_, span := t.Start(tracing.Extract(context.Background(), parent), "batch "+s.Flow, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		tracing.Flow.String(s.Flow), tracing.Revision.Int64(s.Revision), tracing.Batch.String(s.id.String()), tracing.Rows.Int(s.Rows())))
	s.span = &batchSpan{Span: span, tracer: t}
}

// end ends the span, with err if that is not nil. Only the first call has an effect. s may be nil.
func (s *batchSpan) end(err error) {
	if s != nil {
		tracing.End(s.Span, err)
	}
}

// part begins the tracing span of a part of the batch. If parts of the batch were lost with their workers, the new span links to their
// spans: its rows may have been in them.
func (s *batchSpan) part(worker *workerPeer, p *scheduler.Part) trace.Span {
	s.mu.Lock()
	links := s.lost
	s.mu.Unlock()
	_, span := s.tracer.Start(trace.ContextWithSpan(context.Background(), s.Span), "part "+p.Batch.Flow,
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...), trace.WithAttributes(
			tracing.Flow.String(p.Batch.Flow), tracing.Worker.String(worker.worker.ID), tracing.Part.Int64(int64(p.Number)),
			tracing.Rows.Int(p.Len()), tracing.Deaths.Int64(int64(p.Deaths))))
	return span
}

// partSpans are the spans of the parts that a worker has, by the part's number. The zero value is ready to use. Any goroutine may use it.
type partSpans struct {
	mu       sync.Mutex
	byNumber map[uint64]partSpan // guarded by mu
}

// partSpan is the span of a part, with that of its batch.
type partSpan struct {
	trace.Span
	batch *batchSpan
}

// sent begins the span of a part that is about to be sent, and returns the text that names the span in the message to the worker. A part
// that is sent again in a later session has its span already; only an event is added to it.
func (s *partSpans) sent(worker *workerPeer, batch *batchSpan, p *scheduler.Part) (parent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span, again := s.byNumber[p.Number]
	if again {
		span.AddEvent("sent again")
	} else {
		if s.byNumber == nil {
			s.byNumber = map[uint64]partSpan{}
		}
		span = partSpan{batch.part(worker, p), batch}
		s.byNumber[p.Number] = span
	}
	return tracing.Inject(span.Span)
}

// answered notes a worker's result in the span of the result's part, and ends the span if it is the part's last result.
func (s *partSpans) answered(r *pb.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span, there := s.byNumber[r.GetPart()]
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
		delete(s.byNumber, r.GetPart())
	}
}

// lost ends the spans of all parts that the worker has, because the worker was given up. It adds them to the list lost of their
// batches' spans, so that the spans of later parts link to them.
func (s *partSpans) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.byNumber {
		tracing.End(span.Span, errGivenUp)
		span.batch.mu.Lock()
		span.batch.lost = append(span.batch.lost, trace.Link{SpanContext: span.SpanContext()})
		span.batch.mu.Unlock()
	}
	s.byNumber = nil
}
