package command

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// lastTraces bounds how long the end of a program waits until its last spans are taken.
const flushTimeout = 3 * time.Second

// Tracing is where a program sends spans: nowhere, unless a flag or OpenTelemetry's environment says so.
type Tracing struct {
	// Collector is host:port or a URL of what takes OTLP over gRPC. It wins over the environment.
	Collector string
}

// BindFlags binds --traces.
func (t *Tracing) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&t.Collector, "traces", "", "`address` of an OpenTelemetry collector (OTLP over gRPC) for spans (default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else none)")
}

// Open makes the provider of spans, nil where nobody asked for them, and what ends it, which sends the last ones. Everything
// else is OpenTelemetry's environment: OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS and so on. It does
// not wait for the collector; the logger is told when spans are lost.
func (t *Tracing) Open(ctx context.Context, service string, log hclog.Logger) (provider trace.TracerProvider, end func(), err error) {
	wanted, err := t.enabled()
	if err != nil || !wanted {
		return nil, func() {}, err
	}
	var options []otlptracegrpc.Option
	if address := t.Collector; address != "" {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		options = append(options, otlptracegrpc.WithEndpointURL(address))
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("send spans to a collector: check --traces and OTEL_EXPORTER_OTLP_…: %w", err)
	}
	host, _ := os.Hostname() // without one the instance has no name
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.version", Build()), attribute.String("host.name", host),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("describe this process to the collector: check OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans are lost", "error", err) }))
	spans := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	log.Info("tracing is on")
	return spans, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := spans.Shutdown(ctx); err != nil {
			log.Warn("the last spans are lost", "error", err)
		}
	}, nil
}

// wanted reports whether spans are to go anywhere.
func (t *Tracing) enabled() (bool, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := os.Getenv(name); value != "" {
				return value
			}
		}
		return ""
	}
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); {
	case t.Collector != "":
	case exporter == "none" || exporter == "" && endpoint == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: this program knows otlp and none", exporter)
	}
	if protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "grpc" {
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: this program sends spans over grpc, by default to port 4317", protocol)
	}
	return true, nil
}
