package flowtest_test

import (
	"context"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// BenchmarkTracing measures a batch of one row on a whole cluster: without tracing, and with every batch traced.
func BenchmarkTracing(b *testing.B) {
	provider := sdk.NewTracerProvider(sdk.WithBatcher(tracetest.NewNoopExporter()))
	b.Cleanup(func() { _ = provider.Shutdown(context.Background()) }) // of an exporter that does nothing
	for name, options := range map[string][]flowtest.Option{"off": nil, "on": {flowtest.Tracing(provider)}} {
		b.Run(name, func(b *testing.B) {
			g := flowtest.Cluster(b, 1, append(options, flowtest.Register(new(meeting).register))...)
			if err := g.Apply(meet); err != nil {
				b.Fatal(err)
			}
			c := g.Client()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Submit(b.Context(), "Meet", client.Rows(row{ID: 1})); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
