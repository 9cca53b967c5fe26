package flowtest

import (
	"context"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// TB is the part of a test that a Grid uses. *testing.T and *testing.B have these methods.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Option changes the cluster that Cluster starts.
type Option func(*options)

// options are the cluster that Cluster is to start.
type options struct {
	config devcluster.Config
	conf   fs.FS // folder of the documents; nil means that there are none
}

// Register gives every worker the functions that register registers. Default: workers have no functions.
func Register(register func(*kis.Registry)) Option {
	return func(o *options) { o.config.Register = register }
}

// Conf applies the documents in a folder, and in the folders below it, before Cluster returns. It reads the files that end in .yml or
// .yaml. Default: no documents.
func Conf(dir string) Option { return ConfFS(os.DirFS(dir)) }

// ConfFS is Conf for documents that are embedded in the program.
func ConfFS(conf fs.FS) Option { return func(o *options) { o.conf = conf } }

// Coordinators sets how many coordinators run. Default: 1.
func Coordinators(n int) Option { return func(o *options) { o.config.Coordinators = n } }

// Lease sets how long coordinators and workers are believed to live after they were heard last. Give whole seconds. Default: 2 s.
func Lease(d time.Duration) Option { return func(o *options) { o.config.Lease = d } }

// RedisAt makes flows share a Redis that runs already, at the address (host:port). Default: an embedded Redis, which is empty.
func RedisAt(address string) Option { return func(o *options) { o.config.Redis = address } }

// Logger takes the log of the coordinators and the workers. Default: the log is dropped; where the environment variable
// KISGRID_LOG_LEVEL is set, it goes to standard error at that level.
func Logger(l hclog.Logger) Option { return func(o *options) { o.config.Logger = l } }

// Tracing takes the spans of coordinators, workers and the clients that Grid.Client makes. Default: no spans.
func Tracing(p trace.TracerProvider) Option { return func(o *options) { o.config.Tracing = p } }
