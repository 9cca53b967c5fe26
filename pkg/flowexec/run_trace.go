package flowexec

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// tracing is the OpenTelemetry spans of the run that an executor has under way. They belong to the executor's goroutine, and to
// the watchdog once it has abandoned that.
type tracing struct {
	run, function trace.Span // the spans of the run and of its function under way; nil if nothing is traced
}

// These are the names of the attributes of spans of runs. Those of batches and parts are in package tracing.
const (
	flowAttribute    = attribute.Key("kisgrid.flow")
	rowsAttribute    = attribute.Key("kisgrid.rows")
	laneAttribute    = attribute.Key("kisgrid.lane")
	goesOnAttribute  = attribute.Key("kisgrid.goes_on")
	notDoneAttribute = attribute.Key("kisgrid.rows.not_done")
	parkedAttribute  = attribute.Key("kisgrid.rows.parked")
)

// traceRun begins the span of a run, if its part has a span.
func (x *executor) traceRun(w *work) {
	tracer := x.lane.lanes.config.Tracer
	if tracer == nil || !w.part.Trace.IsValid() {
		return
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), w.part.Trace)
	_, x.traced.run = tracer.Start(ctx, "run "+x.lane.lanes.config.Flow, trace.WithAttributes(
		flowAttribute.String(x.lane.lanes.config.Flow), laneAttribute.Int(x.lane.index), rowsAttribute.Int(w.len()), goesOnAttribute.Bool(w.from != nil)))
}

// endRun ends the span of the run, if it has one. parked is nil if no rows have parked.
func (x *executor) endRun(result *RunResult, parked *parcel) {
	if x.traced.run == nil {
		return
	}
	x.traced.run.SetAttributes(notDoneAttribute.Int(len(result.NotDone)))
	if parked != nil {
		rows := 0
		for _, g := range parked.groups {
			rows += int(g.n)
		}
		x.traced.run.SetAttributes(parkedAttribute.Int(rows))
	}
	if err := x.run.err(); err != nil { // not the error of the result, which is the user's own
		x.traced.run.SetStatus(codes.Error, err.Error())
	}
	x.traced.run.End()
	x.traced = tracing{}
}

// traceFunction begins the span of a function, and puts it into the context that the function gets. rows is how many rows enter
// the function.
func (x *executor) traceFunction(s *step, rows int) {
	if x.traced.run == nil {
		return
	}
	ctx := trace.ContextWithSpan(context.Background(), x.traced.run)
	_, x.traced.function = x.lane.lanes.config.Tracer.Start(ctx, "function "+s.Name, trace.WithAttributes(
		flowAttribute.String(x.lane.lanes.config.Flow), attribute.String("kisgrid.function", s.Name), rowsAttribute.Int(rows)))
	x.frame.SetContext(x.underSpan(x.ctx))
}

// endFunction ends the span of the function, if it has one.
func (x *executor) endFunction() {
	if x.traced.function == nil {
		return
	}
	x.traced.function.End()
	x.traced.function = nil
	x.frame.SetContext(x.ctx)
}

// underSpan returns ctx with the span of the function under way, or ctx itself if there is no span.
func (x *executor) underSpan(ctx context.Context) context.Context {
	if x.traced.function == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, x.traced.function)
}

// traceConnector begins the span of a call to a step's connector. It returns ctx with that span. The span is nil if nothing is
// traced.
func (x *executor) traceConnector(ctx context.Context, s *step) (context.Context, trace.Span) {
	if x.traced.function == nil {
		return ctx, nil
	}
	return x.lane.lanes.config.Tracer.Start(x.underSpan(ctx), "connector "+s.connector.Name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("kisgrid.connector", s.connector.Name), attribute.String("kisgrid.connector.type", s.connector.Type)))
}

// endConnector ends the span of a call to a connector, with the call's error; nil means that there was none.
func endConnector(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// abandonTrace ends the spans of a run whose goroutine was abandoned or ended. o is the outcome of the row that was under way.
func (x *executor) abandonTrace(o batch.RowOutcome) {
	for _, span := range []trace.Span{x.traced.function, x.traced.run} {
		if span != nil {
			span.SetStatus(codes.Error, o.Reason)
			span.AddEvent("abandoned")
			span.End()
		}
	}
}

// counts returns the counts of the current step's function; nil if nothing is counted.
func (st *stepRun) counts() *functionCounts { return st.x.metricsOf(st.run.plan, st.step).totals }

// metricsOf returns the metrics of a step's function. It keeps those of the plan that was used last, so that they are looked up
// once.
func (x *executor) metricsOf(p *Plan, s *step) functionMetrics {
	if x.plan != p {
		x.plan, x.metrics = p, make([]functionMetrics, len(p.steps))
		for i, s := range p.steps {
			x.metrics[i] = x.lane.lanes.config.Metrics.function(p.flow, s)
		}
	}
	return x.metrics[s.Index]
}
