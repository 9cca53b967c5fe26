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

// flushTimeout limits how long the end of a program waits until its last spans are sent.
const flushTimeout = 3 * time.Second

// Tracing has the flag that says where a program sends its spans. Without the flag the environment variables of OpenTelemetry
// decide; without those too, no spans are made.
type Tracing struct {
	// Collector is host:port, or a URL, of a collector that accepts OTLP over gRPC. It comes before the environment.
	Collector string
}

// BindFlags adds --traces.
func (t *Tracing) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&t.Collector, "traces", "", "`address` of an OpenTelemetry collector for spans, by OTLP over gRPC (default: OTEL_EXPORTER_OTLP_ENDPOINT, or no spans)")
}

// Open makes the provider of spans, and returns the function end, which sends the last spans when the program ends. The
// provider is nil when spans are not wanted. Other settings come from OpenTelemetry's environment variables, such as
// OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_HEADERS. Open does not wait for the collector; lost spans are
// logged.
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
		return nil, nil, fmt.Errorf("make the exporter of spans: %w: check --traces and the variables OTEL_EXPORTER_OTLP_…", err)
	}
	host, _ := os.Hostname() // without one the instance has no name
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.version", Build()), attribute.String("host.name", host),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("describe this process to the collector: %w: check OTEL_RESOURCE_ATTRIBUTES", err)
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

// enabled reports whether spans are wanted. An error names the environment variable with a value that this program does not
// know.
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
