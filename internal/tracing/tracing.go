// Package tracing is what clients, coordinators and workers have in common where they trace with OpenTelemetry: spans of
// batches, parts, runs, functions and connectors, never of rows. A batch carries its span from process to process in its own
// messages, since one stream has many batches.
//
// A nil Tracer means that nobody traces: then nothing is allocated, and nothing but that nil is looked at.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Names of attributes.
const (
	Flow     = attribute.Key("kisgrid.flow")
	Revision = attribute.Key("kisgrid.revision")
	Batch    = attribute.Key("kisgrid.batch")
	Part     = attribute.Key("kisgrid.part")
	Worker   = attribute.Key("kisgrid.worker")
	Rows     = attribute.Key("kisgrid.rows")
	NotDone  = attribute.Key("kisgrid.rows.not_done")
	Deaths   = attribute.Key("kisgrid.deaths")
)

// Tracer makes a provider's Tracer; nil gives nil.
func Tracer(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		return nil
	}
	return p.Tracer("github.com/kisgrid/kisgrid")
}

const header = "traceparent"

// Parent writes a span down for a message; empty for no span, or nil.
func Inject(s trace.Span) string {
	if s == nil {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpan(context.Background(), s), carrier)
	return carrier[header]
}

// Under is ctx with the span that a message brought; what is no span is none.
func Extract(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: parent})
}

// End ends a span, as failed if there is an error. A nil span is none. It is safe twice; the first error counts.
func End(s trace.Span, err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	s.End()
}
