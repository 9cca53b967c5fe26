// Package importtest links every package that users may import, and checks that this changes nothing that belongs to the whole
// process, and how many packages it links.
package importtest

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/resolver"

	_ "github.com/kisgrid/kisgrid/pkg/batch"
	_ "github.com/kisgrid/kisgrid/pkg/client"
	_ "github.com/kisgrid/kisgrid/pkg/client/oteltrace"
	_ "github.com/kisgrid/kisgrid/pkg/cluster"
	_ "github.com/kisgrid/kisgrid/pkg/connector"
	_ "github.com/kisgrid/kisgrid/pkg/connector/conformance"
	_ "github.com/kisgrid/kisgrid/pkg/connector/memory"
	_ "github.com/kisgrid/kisgrid/pkg/connector/redis"
	_ "github.com/kisgrid/kisgrid/pkg/coordinator"
	_ "github.com/kisgrid/kisgrid/pkg/deadletter"
	_ "github.com/kisgrid/kisgrid/pkg/definition"
	_ "github.com/kisgrid/kisgrid/pkg/expr"
	_ "github.com/kisgrid/kisgrid/pkg/flowexec"
	_ "github.com/kisgrid/kisgrid/pkg/kis"
	_ "github.com/kisgrid/kisgrid/pkg/kis/common"
	_ "github.com/kisgrid/kisgrid/pkg/kis/config"
	_ "github.com/kisgrid/kisgrid/pkg/kis/conn"
	_ "github.com/kisgrid/kisgrid/pkg/kis/file"
	_ "github.com/kisgrid/kisgrid/pkg/kis/flow"
	_ "github.com/kisgrid/kisgrid/pkg/kis/function"
	_ "github.com/kisgrid/kisgrid/pkg/kis/id"
	_ "github.com/kisgrid/kisgrid/pkg/kis/log"
	_ "github.com/kisgrid/kisgrid/pkg/kis/metrics"
	_ "github.com/kisgrid/kisgrid/pkg/kis/serialize"
	_ "github.com/kisgrid/kisgrid/pkg/scheduler"
	_ "github.com/kisgrid/kisgrid/pkg/worker"
)

const module = "github.com/kisgrid/kisgrid/"

// The state of the process before main: the init functions of all packages have run by now.
var (
	logger      = hclog.Default()
	transport   = http.DefaultTransport
	environment = len(os.Environ())
)

// TestEveryPackageIsLinked fails for a package below pkg/ that this file does not import.
func TestEveryPackageIsLinked(t *testing.T) {
	t.Parallel()
	linked := map[string]bool{}
	self, err := parser.ParseFile(token.NewFileSet(), "globals_test.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range self.Imports {
		name, _ := strconv.Unquote(i.Path.Value)
		linked[name] = true
	}
	for name := range sources(t) {
		kit := name == "pkg/flowtest" // for tests: it has an etcd server in it, whose metrics are global
		if strings.HasPrefix(name, "pkg/") && !strings.Contains(name, "/internal/") && !kit && !linked[module+name] {
			t.Errorf("import _ %q here", module+name)
		}
	}
}

// TestImportsChangeNothingGlobal links everything, and checks that the global state of Go, gRPC and Prometheus is as these packages
// leave it: it belongs to the user's program.
func TestImportsChangeNothingGlobal(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"/", "/metrics", "/healthz", "/livez", "/readyz", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline"} {
		if _, pattern := http.DefaultServeMux.Handler(httptest.NewRequest(http.MethodGet, page, nil)); pattern != "" {
			t.Errorf("http.DefaultServeMux serves %s, by the pattern %q", page, pattern)
		}
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if name := f.GetName(); !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("Prometheus's default registry has %s", name)
		}
	}
	flag.CommandLine.VisitAll(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") {
			t.Errorf("flag.CommandLine has --%s", f.Name)
		}
	})
	for _, scheme := range []string{"kisgrid"} {
		if resolver.Get(scheme) != nil {
			t.Errorf("gRPC has a resolver for %s://", scheme)
		}
		if balancer.Get(scheme) != nil {
			t.Errorf("gRPC has a balancer %s", scheme)
		}
	}
	if scheme := resolver.GetDefaultScheme(); scheme != "passthrough" && scheme != "dns" {
		t.Errorf("gRPC resolves by %s", scheme)
	}
	for what, v := range map[string]any{
		"gRPC's codec of protobuf":       encoding.GetCodecV2("proto"),
		"gRPC's resolver of dns names":   resolver.Get("dns"),
		"OpenTelemetry's tracer":         otel.GetTracerProvider(),
		"slog's default handler":         slog.Default().Handler(),
		"http's default transport":       http.DefaultTransport,
		"gRPC's balancer pick_first":     balancer.Get("pick_first"),
		"the writer of the standard log": log.Writer(),
	} {
		if name := typeOf(v); strings.Contains(name, "kisgrid") {
			t.Errorf("%s is ours: %s", what, name)
		}
	}
	if hclog.Default() != logger || http.DefaultTransport != transport || log.Flags() != log.LstdFlags || log.Prefix() != "" || len(os.Environ()) != environment {
		t.Error("a default of the process has changed")
	}
}

// globals are functions that change the state of the whole process: by package path, their names.
var globals = map[string]string{
	"net/http": "Handle HandleFunc", "flag": "Bool BoolVar Duration DurationVar Float64 Func Int Int64 IntVar String StringVar Uint Var Parse",
	"expvar": "NewInt NewFloat NewMap NewString Publish", "log": "SetOutput SetFlags SetPrefix", "log/slog": "SetDefault SetLogLoggerLevel",
	"math/rand": "Seed", "os": "Setenv Unsetenv Clearenv Chdir", "github.com/hashicorp/go-hclog": "SetDefault",
	"github.com/prometheus/client_golang/prometheus":          "MustRegister Register",
	"github.com/prometheus/client_golang/prometheus/promauto": "NewCounter NewCounterVec NewGauge NewGaugeVec NewHistogram NewHistogramVec",
	"go.opentelemetry.io/otel":                                "SetTracerProvider SetMeterProvider SetTextMapPropagator SetErrorHandler SetLogger",
	"google.golang.org/grpc/balancer":                         "Register", "google.golang.org/grpc/resolver": "Register SetDefaultScheme UnregisterForTesting",
	"google.golang.org/grpc/encoding": "RegisterCodec RegisterCodecV2 RegisterCompressor", "google.golang.org/grpc/grpclog": "SetLogger SetLoggerV2",
}

// sideEffects are packages whose import alone changes the state of the whole process.
var sideEffects = []string{"net/http/pprof", "expvar", "golang.org/x/net/trace", "google.golang.org/grpc/encoding/gzip", "google.golang.org/grpc/grpclog/glogger"}

// TestNobodyChangesGlobals reads the packages that programs link, and fails for calls of the functions in globals, wherever they
// stand.
func TestNobodyChangesGlobals(t *testing.T) {
	t.Parallel()
	for name, files := range sources(t) {
		for _, f := range files {
			names := map[string]string{} // paths by the name in the file
			for _, i := range f.Imports {
				imported, _ := strconv.Unquote(i.Path.Value)
				local := path.Base(imported)
				if i.Name != nil {
					local = i.Name.Name
				}
				names[local] = imported
				for _, bad := range sideEffects {
					if imported == bad {
						t.Errorf("%s imports %s, which changes the whole process", name, bad)
					}
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				s, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Obj == nil {
					for f := range strings.FieldsSeq(globals[names[x.Name]]) {
						if f == s.Sel.Name && name != "internal/command" { // which is the main function of programs
							t.Errorf("%s calls %s.%s, which changes the whole process", name, x.Name, f)
						}
					}
				}
				return true
			})
		}
	}
}

// sources are the files below pkg and internal that are not tests: by the package's path within the module.
func sources(t *testing.T) map[string][]*ast.File {
	t.Helper()
	root := filepath.Join("..", "..")
	all := map[string][]*ast.File{}
	for _, top := range []string{"pkg", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && d.Name() == "testdata" {
				if err == nil {
					return fs.SkipDir
				}
				return err
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				return err
			}
			if f.Name.Name == "main" {
				return nil
			}
			in, err := filepath.Rel(root, filepath.Dir(name))
			all[filepath.ToSlash(in)] = append(all[filepath.ToSlash(in)], f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func typeOf(v any) string {
	if v == nil {
		return "nil"
	}
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() + "." + t.Name()
}
