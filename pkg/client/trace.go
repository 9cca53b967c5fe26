package client

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Tracer makes a span for each batch that a client submits. Package pkg/client/oteltrace implements it with OpenTelemetry; implement it
// yourself only for another tracing system. Its methods, and those of Span, may be called from several goroutines at the same time,
// and while the client holds locks: they must not block, and must not call the client.
type Tracer interface {
	// Start begins the span of a batch of a flow; rows is the number of the batch's rows. The parent is the span in ctx, which is the
	// context of Submit or Send. The result must not be nil.
	Start(ctx context.Context, flow string, rows int) Span
}

// Span covers the time from the call of Submit or Send to the batch's answer.
type Span interface {
	// TraceParent returns the span's name for coordinators and workers, in the format of the W3C traceparent header, such as
	// "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01". Coordinators and workers make their spans children of it. An empty
	// text means that their spans have no parent.
	TraceParent() string
	// Sent is called each time that the batch is sent: once, and again when it must be sent again, for example after a connection
	// broke.
	Sent()
	// End is called once, when the batch has its answer or its error. id is zero if the batch ended before it had an id. If err is not
	// nil, r may be nil or incomplete. End may read r.NotDone, whose rows may be in any order, and r.Revision. It must not use
	// r.Output, which may not be there yet, nor keep r.
	End(id batch.ID, r *Result, err error)
}

// trace begins the batch's span. A nil Tracer means that nobody traces.
func (p *Pending) trace(ctx context.Context, t Tracer, flow string) {
	if t != nil {
		p.span = t.Start(ctx, flow, p.columns.Len())
	}
}

// traceParent returns the name of the batch's span for the message that sends it; empty means that there is no span.
func (p *Pending) traceParent() string {
	if p.span == nil {
		return ""
	}
	return p.span.TraceParent()
}

// traceSent tells the span that the batch is sent now, for the first time or again.
func (p *Pending) traceSent() {
	if p.span != nil {
		p.span.Sent()
	}
}

// endTrace ends the batch's span, and tells it how the batch ended.
func (p *Pending) endTrace(err error) {
	if p.span != nil {
		p.span.End(p.id, p.result, err)
	}
}
