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

// options has what the options of Cluster have set: the cluster to start, and the documents to apply.
type options struct {
	config devcluster.Config
	conf   fs.FS // folder of the documents; nil means that there are none
	// virtual says that the cluster runs in virtual time.
	virtual bool
}

// Register gives every worker the functions that register adds to a registry. Default: workers have no functions.
func Register(register func(*kis.Registry)) Option {
	return func(o *options) { o.config.Register = register }
}

// Conf applies the documents in a folder, and in the folders below it, before Cluster returns. It reads the files that end in .yml or
// .yaml. Default: no documents.
func Conf(dir string) Option { return ConfFS(os.DirFS(dir)) }

// ConfFS does what Conf does, for documents in a file system such as an embedded one.
func ConfFS(conf fs.FS) Option { return func(o *options) { o.conf = conf } }

// Coordinators sets how many coordinators run. Default: 1.
func Coordinators(n int) Option { return func(o *options) { o.config.Coordinators = n } }

// Lease sets how long a coordinator or worker counts as alive after it was last heard. Give whole seconds. Default: 2 s.
func Lease(d time.Duration) Option { return func(o *options) { o.config.Lease = d } }

// RedisAt makes flows share a Redis that runs already, at the address (host:port). Default: an embedded Redis, which is empty at first.
func RedisAt(address string) Option { return func(o *options) { o.config.Redis = address } }

// VirtualTime makes the cluster run in a bubble of testing/synctest, in which the test calls Cluster. Hours pass there at once, as soon as
// everybody waits, and a test that waits for ever fails. See the package's comment. Default: real time.
func VirtualTime() Option { return func(o *options) { o.virtual = true } }

// Logger makes the coordinators and workers log to l. Default: the log is dropped; where the environment variable KISGRID_LOG_LEVEL is set,
// it goes to standard error at that level.
func Logger(l hclog.Logger) Option { return func(o *options) { o.config.Logger = l } }

// Tracing makes the coordinators, the workers and the clients of Grid.Client send their spans to p. Default: no spans.
func Tracing(p trace.TracerProvider) Option { return func(o *options) { o.config.Tracing = p } }
