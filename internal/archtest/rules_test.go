package archtest

// everybody lists the packages that each package of the project may import, besides those of its row in arrows.
var everybody = []string{"internal/point"}

// arrows lists each package of the project, with the packages of the project that it may import. The test fails for a package that is
// missing here: say first where it belongs. "…" at the end of a path stands for all packages below.
var arrows = []struct {
	from string
	to   []string
}{
	// Data that travels, and its description.
	{"proto/kisgrid/v1", nil},
	{"proto/gateway", nil},
	{"proto/gateway/kisgrid/v1", []string{"proto/kisgrid/v1"}},
	{"pkg/batch", nil},
	{"pkg/expr", nil},
	{"pkg/definition", []string{"pkg/batch", "pkg/expr", "internal/jsonrule", "internal/yamltext"}},
	{"internal/wire", []string{"pkg/batch", "proto/kisgrid/v1"}},
	{"internal/frames", nil},
	{"internal/bitset", nil},
	{"internal/ranges", []string{"pkg/batch"}},
	{"internal/keyslot", nil},
	{"internal/sketch", nil},
	{"internal/jsonrule", nil},
	{"internal/yamltext", nil},
	{"internal/point", nil},
	{"internal/transport", []string{"pkg/batch", "internal/wire", "internal/frames", "internal/network"}},
	{"internal/serve", []string{"pkg/batch", "internal/wire", "internal/frames", "internal/transport", "internal/network"}},
	{"internal/tracing", nil},
	{"internal/redisreply", nil},
	{"internal/behindfailed", []string{"pkg/batch"}},
	{"internal/storetext", nil},
	{"internal/network", nil},

	// The packages that users' functions import.
	{"pkg/kis", []string{"pkg/batch", "pkg/definition", "internal/storetext"}},
	{"pkg/kis/…", []string{"pkg/kis…", "pkg/flowexec", "pkg/batch", "pkg/definition", "pkg/connector…", "internal/yamltext"}},

	// Deciding, executing, keeping.
	{"pkg/scheduler", []string{"pkg/batch", "internal/bitset", "internal/keyslot", "internal/ranges"}},
	{"pkg/connector", []string{"pkg/batch", "pkg/definition"}},
	{"internal/bubble", nil},
	{"pkg/connector/…", []string{"internal/bubble", "pkg/connector", "pkg/batch", "pkg/definition", "internal/transport", "internal/network", "internal/redisreply"}},
	{"pkg/flowexec", []string{"internal/behindfailed", "pkg/kis", "pkg/expr", "pkg/batch", "pkg/definition", "pkg/connector", "pkg/connector/memory", "pkg/flowexec/internal/…", "internal/storetext", "internal/keyslot", "internal/jsonrule", "internal/sketch"}},
	{"pkg/flowexec/internal/…", []string{"pkg/kis", "pkg/batch", "pkg/definition", "pkg/connector", "pkg/flowexec/internal/…", "internal/storetext", "internal/jsonrule"}},
	{"pkg/deadletter", []string{"pkg/batch", "internal/network", "internal/redisreply"}},
	{"pkg/cluster", []string{"pkg/batch", "pkg/definition", "internal/network"}},
	{"internal/command", []string{"pkg/batch", "pkg/cluster", "pkg/deadletter", "pkg/definition", "internal/transport", "internal/serve"}},
	{"internal/authority", nil},
	{"internal/access", []string{"pkg/batch", "internal/wire", "proto/kisgrid/v1"}},
	{"internal/rowfile", []string{"pkg/batch", "internal/jsonrule", "internal/yamltext"}},
	{"internal/terminal", nil},
	{"internal/submission", []string{"pkg/batch", "internal/rowfile", "internal/terminal"}},
	{"internal/casefile", []string{"internal/rowfile", "pkg/flowexec", "pkg/kis", "pkg/connector", "pkg/connector/memory", "pkg/definition", "pkg/batch", "internal/yamltext"}},
	{"internal/flowcmd", []string{"internal/terminal", "internal/rowfile", "internal/casefile", "internal/command", "internal/submission", "internal/serve", "pkg/flowexec", "pkg/kis", "pkg/definition", "pkg/batch"}},

	// The processes, and their clients.
	{"pkg/coordinator", []string{
		"pkg/coordinator/internal/…", "pkg/scheduler", "pkg/cluster", "pkg/definition", "pkg/deadletter", "pkg/batch",
		"internal/access", "internal/wire", "internal/transport", "internal/serve", "internal/tracing", "internal/rowfile", "proto/kisgrid/v1", "internal/behindfailed", "internal/bitset", "internal/ranges",
	}},
	{"pkg/coordinator/internal/flowstate", []string{"pkg/cluster", "pkg/definition", "pkg/expr", "pkg/batch", "internal/wire", "proto/kisgrid/v1"}},
	{"pkg/coordinator/internal/refuse", []string{"pkg/batch"}},
	{"pkg/coordinator/internal/figures", []string{"pkg/batch", "internal/sketch", "proto/kisgrid/v1"}},
	{"pkg/coordinator/internal/httpapi", []string{"pkg/batch", "pkg/cluster", "internal/wire", "internal/bitset", "internal/rowfile", "internal/jsonrule", "proto/kisgrid/v1", "proto/gateway…"}},
	{"pkg/coordinator/internal/console", nil},
	{"pkg/coordinator/internal/leader", []string{"pkg/coordinator/internal/flowstate", "pkg/cluster", "pkg/definition", "pkg/batch"}},
	{"pkg/coordinator/internal/admin", []string{
		"pkg/coordinator/internal/figures", "pkg/coordinator/internal/flowstate", "pkg/coordinator/internal/leader", "pkg/coordinator/internal/refuse",
		"pkg/scheduler", "pkg/cluster", "pkg/definition", "pkg/deadletter", "pkg/expr", "pkg/batch", "internal/access", "internal/wire", "internal/keyslot", "proto/kisgrid/v1",
	}},
	{"pkg/worker", []string{
		"pkg/expr", "pkg/flowexec", "pkg/kis", "pkg/cluster", "pkg/definition", "pkg/connector", "pkg/connector/redis", "pkg/connector/memory", "pkg/batch",
		"internal/access", "internal/wire", "internal/transport", "internal/network", "internal/serve", "internal/tracing", "internal/command", "internal/flowcmd", "internal/submission", "internal/rowfile", "internal/terminal", "proto/kisgrid/v1", "internal/bitset", "internal/keyslot", "internal/ranges", "internal/sketch",
	}},
	{"pkg/client", []string{"pkg/batch", "internal/wire", "internal/transport", "proto/kisgrid/v1"}},
	{"pkg/client/oteltrace", []string{"pkg/client", "pkg/batch", "internal/tracing"}},

	// Programs, and packages that put processes together.
	{"internal/redisnumbers", []string{"pkg/connector"}},
	{"internal/devcluster", []string{"internal/redisnumbers", "pkg/coordinator", "pkg/deadletter", "pkg/worker", "pkg/cluster", "pkg/definition", "pkg/kis", "pkg/batch", "internal/network", "internal/transport", "internal/serve"}},
	{"pkg/flowtest", []string{
		"internal/bubble", "internal/world/simnet", "internal/world/simetcd", "internal/world/simredis", "internal/network", "internal/devcluster", "pkg/coordinator", "pkg/worker", "pkg/client", "pkg/client/oteltrace", "pkg/cluster", "pkg/definition", "pkg/kis", "pkg/batch", "internal/transport", "internal/serve", "internal/wire",
		"proto/kisgrid/v1",
	}},
	{"cmd/coordinator", []string{"pkg/coordinator", "pkg/cluster", "pkg/batch", "internal/command", "internal/transport", "internal/serve"}},
	{"cmd/worker", []string{"pkg/worker", "examples/students"}},
	{"cmd/kisgrid", []string{
		"internal/access",
		"pkg/client", "pkg/client/oteltrace", "pkg/coordinator", "pkg/worker", "pkg/cluster", "pkg/definition", "pkg/expr", "pkg/flowexec", "pkg/kis", "pkg/batch",
		"pkg/connector", "pkg/connector/redis",
		"internal/devcluster", "internal/wire", "internal/transport", "internal/serve", "internal/authority", "internal/command", "internal/flowcmd", "internal/casefile", "internal/submission", "internal/rowfile", "internal/terminal", "internal/yamltext", "proto/kisgrid/v1", "examples/students",
	}},
	{"cmd/kisgrid/…", []string{"pkg/…", "internal/…", "proto/kisgrid/v1", "examples/…", "cmd/kisgrid/…"}},
	{"examples/…", []string{"pkg/kis…", "pkg/client…", "pkg/batch", "pkg/flowexec", "pkg/worker", "examples/…"}},
	{"bench…", []string{"pkg/…", "internal/…", "proto/kisgrid/v1", "examples/…", "bench…"}},
	{"e2e…", []string{"pkg/…", "internal/…", "proto/kisgrid/v1", "examples/…", "e2e…"}},
	{"internal/testprocess", nil},
	{"internal/testgrid", []string{"internal/testprocess", "internal/devcluster", "pkg/client", "pkg/cluster", "pkg/definition"}},
	{"internal/redisfault", nil},
	{"internal/world/scenario", nil},
	{"internal/world…", []string{"pkg/…", "internal/…", "proto/kisgrid/v1", "examples/students"}},
	{"internal/archtest", nil},
}

// never lists packages that a package must not import, neither directly nor through other packages of the project.
var never = []struct {
	from string
	to   []string
}{
	{"pkg/scheduler", []string{"go.opentelemetry.io/…", "google.golang.org/grpc…", "google.golang.org/protobuf…", "proto/…", "go.etcd.io/…", "github.com/hashicorp/go-hclog"}},
	{"pkg/kis", []string{"pkg/flowexec"}},
	// Libraries make spans; programs decide where the spans go.
	{"pkg/client/oteltrace", []string{"go.opentelemetry.io/otel/sdk…", "go.opentelemetry.io/otel/exporters…"}},
	// A client serves nothing, and has no flags; it links OpenTelemetry only where a program imports pkg/client/oteltrace.
	{"pkg/client", []string{"go.opentelemetry.io/…"}},
	{"pkg/client", []string{"internal/serve", "github.com/prometheus/…", "net/http/pprof", "google.golang.org/grpc/reflection…", "github.com/spf13/pflag"}},
	{"pkg/coordinator", []string{"go.opentelemetry.io/otel/sdk…", "go.opentelemetry.io/otel/exporters…"}},
	{"pkg/flowexec", []string{"go.opentelemetry.io/otel/sdk…", "go.opentelemetry.io/otel/exporters…"}},
	// It reads rows that are encoded in protobuf, but knows nothing of the wire.
	{"pkg/flowexec", []string{"google.golang.org/grpc…", "proto/…", "go.etcd.io/…", "github.com/redis/…"}},
	{"pkg/coordinator", []string{"pkg/flowexec", "pkg/connector…", "pkg/worker", "pkg/client"}},
	{"pkg/worker", []string{"pkg/scheduler", "pkg/coordinator"}},
	{"pkg/client", []string{"pkg/definition", "pkg/cluster"}},
	// Expressions give the same for a row in every process.
	{"pkg/expr!", []string{"os…", "net…", "log…", "syscall", "math/rand…", "crypto/rand", "context", "unsafe", "runtime…", "time/tzdata"}},
	// A pure package has no clocks, no randomness and no system calls: its events tell it the time. It may count, in package point, that it
	// got to a branch, since nobody decides anything by that.
	{"pkg/scheduler!", []string{"os…", "net…", "log…", "sync…", "syscall", "math/rand…", "crypto/rand", "context", "unsafe", "embed", "runtime…"}},
}

// kits are packages for tests: they may import package testing, and only tests may import them.
var kits = []string{"pkg/flowtest…", "pkg/connector/conformance", "internal/testprocess", "internal/testgrid", "internal/redisfault", "internal/bubble", "internal/world…", "testing…", "net/http/httptest"}

// pure lists the packages that start no goroutine and look at no clock.
var pure = []string{"pkg/scheduler", "pkg/expr"}

var clocks = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// maxLines is the most lines that a file may have which is neither a test nor generated.
const maxLines = 600
