package flowtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// spans are the recorded spans.
type spans []tracetest.SpanStub

// children are the spans directly below a span, in the order in which they began.
func (s spans) children(of trace.SpanContext) []tracetest.SpanStub {
	var some []tracetest.SpanStub
	for _, span := range s {
		if span.Parent.SpanID() == of.SpanID() && span.Parent.TraceID() == of.TraceID() {
			some = append(some, span)
		}
	}
	slices.SortFunc(some, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return some
}

// tree prints the names of the spans below a span, indented. Brackets have the number of earlier spans that a span names as lost, or
// say that it failed.
func (s spans) tree(of trace.SpanContext, indent string) string {
	var text strings.Builder
	for _, span := range s.children(of) {
		fmt.Fprint(&text, indent, span.Name)
		if len(span.Links) > 0 {
			fmt.Fprintf(&text, " [after %d]", len(span.Links))
		}
		if strings.Contains(span.Status.Description, "given up") {
			fmt.Fprint(&text, " [given up]")
		}
		fmt.Fprint(&text, "\n", s.tree(span.SpanContext, indent+"  "))
	}
	return text.String()
}

// TestTrace follows one batch from the client to the connector, past a worker that dies.
func TestTrace(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	m := &meeting{begun: make(chan string, 16), leave: make(chan struct{})}
	g := flowtest.Cluster(t, 2, flowtest.Tracing(provider), flowtest.Register(func(r *kis.Registry) {
		m.register(r)
		r.Func("Own", kis.Verify(func(ctx context.Context, _ row) error {
			_, span := provider.Tracer("user").Start(ctx, "the user's own")
			span.End()
			return nil
		}))
	}))
	if err := g.Apply(meet, keep, "kistype: flow\nflow_name: All\nstatus: 1\nshard_key: id\nflows: [{fname: Meet}, {fname: Own}, {fname: Keep}]\n---\n"+
		"kistype: func\nfname: Own\nfmode: Verify\n"); err != nil {
		t.Fatal(err)
	}
	c := g.Client()
	owner := g.Owner("All", "1")

	ctx, root := provider.Tracer("test").Start(t.Context(), "test")
	done := make(chan error, 1)
	go func() {
		_, err := c.Submit(ctx, "All", client.Rows(row{1, "here"}))
		done <- err
	}()
	<-m.begun
	owner.Kill()
	<-m.begun
	close(m.leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	root.End()

	// The spans of the dead worker end when its goroutines do, or never. They are not compared.
	want := `submit All
  batch All
    part All [given up]
    part All [after 1]
      worker part All
        run All
          function Meet
          function Own
            the user's own
          function Keep
            connector Store
`
	var got spans
	until(t, "all spans have ended", func() bool {
		all := exporter.GetSpans()
		got = slices.DeleteFunc(spans(all), func(s tracetest.SpanStub) bool { return under(all, s, owner.ID()) })
		return strings.Count(got.tree(root.SpanContext(), ""), "\n") >= strings.Count(want, "\n")
	})
	if tree := got.tree(root.SpanContext(), ""); tree != want {
		t.Errorf("the trace is\n%s\nwant\n%s", tree, want)
	}
	parts := got.children(got.children(got.children(root.SpanContext())[0].SpanContext)[0].SpanContext)
	if link := parts[1].Links[0].SpanContext; link.SpanID() != parts[0].SpanContext.SpanID() {
		t.Errorf("the second part names %s, not the first, %s", link.SpanID(), parts[0].SpanContext.SpanID())
	}
}

// under reports whether a span belongs to a worker, or is below such a span.
func under(all []tracetest.SpanStub, s tracetest.SpanStub, worker string) bool {
	for {
		if strings.HasPrefix(s.Name, "worker part") {
			return slices.ContainsFunc(s.Attributes, func(a attribute.KeyValue) bool { return a.Value.AsString() == worker })
		}
		i := slices.IndexFunc(all, func(p tracetest.SpanStub) bool { return p.SpanContext.SpanID() == s.Parent.SpanID() })
		if i < 0 {
			// Its parent has not ended yet; the spans of an answered batch have.
			return strings.HasPrefix(s.Name, "run ") || strings.HasPrefix(s.Name, "function ") || strings.HasPrefix(s.Name, "connector ")
		}
		s = all[i]
	}
}
