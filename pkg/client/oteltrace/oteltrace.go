// Package oteltrace makes OpenTelemetry spans of the batches that a client submits. It is a package apart from pkg/client so that only
// those programs link OpenTelemetry that use it.
//
//	c, err := client.Dial(target, oteltrace.WithTracing(provider))
package oteltrace

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// WithTracing is an option of client.Dial. The client then makes one span for each batch, from the call of Submit or Send to the
// batch's answer, as a child of the span in the context of that call. Coordinators and workers that trace add their spans below it.
// Default, also with a nil provider: no spans, and no cost.
func WithTracing(p trace.TracerProvider) client.Option {
	if p == nil {
		return client.WithTracer(nil)
	}
	return client.WithTracer(tracer{tracing.Tracer(p)})
}

// tracer implements client.Tracer with a tracer of OpenTelemetry.
type tracer struct{ otel trace.Tracer }

// Start implements client.Tracer: it starts a span with the name "submit" and the flow.
func (t tracer) Start(ctx context.Context, flow string, rows int) client.Span {
	_, s := t.otel.Start(ctx, "submit "+flow, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(tracing.Flow.String(flow), tracing.Rows.Int(rows)))
	return span{s}
}

// span implements client.Span with a span of OpenTelemetry.
type span struct{ otel trace.Span }

// TraceParent implements client.Span: it returns the span's name as a W3C traceparent header.
func (s span) TraceParent() string { return tracing.Inject(s.otel) }

// Sent implements client.Span: it adds the event "sent".
func (s span) Sent() { s.otel.AddEvent("sent") }

// End implements client.Span: it adds the batch's id as an attribute, and, if there is no error, the revision and the number of rows
// that are not done. A span whose batch has an error is marked as failed.
func (s span) End(id batch.ID, r *client.Result, err error) {
	s.otel.SetAttributes(tracing.Batch.String(id.String()))
	if err == nil {
		s.otel.SetAttributes(tracing.Revision.Int64(r.Revision), tracing.NotDone.Int(len(r.NotDone)))
	}
	tracing.End(s.otel, err)
}
