package command

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// sink is a collector that keeps what it is sent.
type sink struct {
	collector.UnimplementedTraceServiceServer
	got chan *collector.ExportTraceServiceRequest
}

func (s *sink) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.got <- in
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestTracingSendsSpans(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, s := grpc.NewServer(), &sink{got: make(chan *collector.ExportTraceServiceRequest, 8)}
	collector.RegisterTraceServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for name, set := range map[string]func(*testing.T, *Tracing){
		"by flag": func(_ *testing.T, c *Tracing) { c.Collector = listener.Addr().String() },
		"by environment": func(t *testing.T, _ *Tracing) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c Tracing
			set(t, &c)
			provider, end, err := c.Open(t.Context(), "kisgrid-test", hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			_, span := provider.Tracer("test").Start(t.Context(), "a span")
			span.End()
			end() // sends what is left
			got := (<-s.got).GetResourceSpans()[0]
			if name := got.GetScopeSpans()[0].GetSpans()[0].GetName(); name != "a span" || !strings.Contains(got.GetResource().String(), "kisgrid-test") {
				t.Errorf("the collector was sent %v", got)
			}
		})
	}
}

func TestTracingIsOffUnlessAskedFor(t *testing.T) {
	for _, c := range []struct {
		name      string
		collector string
		env       map[string]string
		on        bool
		wrong     string
	}{
		{name: "nothing"},
		{name: "a flag", collector: "localhost:4317", on: true},
		{name: "an endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, on: true},
		{name: "an endpoint for traces", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4317"}, on: true},
		{name: "an exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, on: true},
		{name: "no exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}},
		{name: "disabled", collector: "localhost:4317", env: map[string]string{"OTEL_SDK_DISABLED": "true"}},
		{name: "another exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, wrong: "zipkin"},
		{name: "another protocol", collector: "localhost:4317", env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, wrong: "http/protobuf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			tracing := Tracing{Collector: c.collector}
			provider, end, err := tracing.Open(t.Context(), "kisgrid-test", hclog.NewNullLogger())
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("the error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			end()
			if (provider != nil) != c.on {
				t.Errorf("the provider is %v", provider)
			}
		})
	}
}
