// Package tracing has the parts of OpenTelemetry tracing that clients, coordinators and workers share. Spans stand for batches, parts,
// runs, functions and connectors, never for rows. A batch carries its span from process to process in its own messages, because one
// stream carries many batches.
//
// A nil Tracer means that nobody traces. Then nothing is allocated, and the only cost is a comparison with nil.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Names of the attributes of spans.
const (
	Flow     = attribute.Key("kisgrid.flow")          // name of the flow
	Revision = attribute.Key("kisgrid.revision")      // number of the flow's revision
	Batch    = attribute.Key("kisgrid.batch")         // id of the batch: stream and sequence
	Part     = attribute.Key("kisgrid.part")          // number of the part, within one coordinator and worker
	Worker   = attribute.Key("kisgrid.worker")        // id of the worker
	Rows     = attribute.Key("kisgrid.rows")          // number of rows
	NotDone  = attribute.Key("kisgrid.rows.not_done") // number of rows that did not end as done
	Deaths   = attribute.Key("kisgrid.deaths")        // number of workers that died while these rows may have run there
)

// Tracer returns the tracer of KisGrid from a provider, or nil for a nil provider.
func Tracer(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		return nil
	}
	return p.Tracer("github.com/kisgrid/kisgrid")
}

// header is the name of W3C's HTTP header for a span, which OpenTelemetry also uses as the key of the span's text.
const header = "traceparent"

// Inject returns the text by which a message carries the span s to another process. It returns "" for a nil span.
func Inject(s trace.Span) string {
	if s == nil {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpan(context.Background(), s), carrier)
	return carrier[header]
}

// Extract returns ctx with the span that parent, the text in a message, names as the current span. If parent is "" or names no
// span, it returns ctx as it is.
func Extract(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: parent})
}

// End ends a span, as failed when err is not nil. It does nothing for a nil span. A second call for the same span changes
// nothing.
func End(s trace.Span, err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	s.End()
}
