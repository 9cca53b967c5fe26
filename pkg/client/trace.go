package client

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/tracing"
)

// trace begins the batch's span, if somebody traces.
func (p *Pending) trace(ctx context.Context, t trace.Tracer, flow string) {
	if t != nil {
		_, p.span = t.Start(ctx, "submit "+flow, trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(tracing.Flow.String(flow), tracing.Rows.Int(p.columns.Len())))
	}
}

// traceSent notes that the batch goes out, again and again maybe.
func (p *Pending) traceSent() {
	if p.span != nil {
		p.span.AddEvent("sent")
	}
}

// endTrace ends the batch's span, which tells how the batch ended.
func (p *Pending) endTrace(err error) {
	if p.span == nil {
		return
	}
	p.span.SetAttributes(tracing.Batch.String(p.id.String()))
	if err == nil {
		p.span.SetAttributes(tracing.Revision.Int64(p.result.Revision), tracing.NotDone.Int(len(p.result.NotDone)))
	}
	tracing.End(p.span, err)
}
