package importtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// maxClientPackages is the most packages that a program may link because it imports pkg/client, those of the standard library
// included. gRPC, protobuf and hclog alone are about 315.
const maxClientPackages = 330

// notInClient are packages that no client needs; "…" at the end stands for everything below. The test of imports in archtest follows
// only the project's own imports, this one also those of other modules.
var notInClient = []string{
	"github.com/prometheus/…", "net/http/pprof", "google.golang.org/grpc/reflection…", "github.com/spf13/…", "go.opentelemetry.io/…",
	"go.etcd.io/…", "github.com/redis/…", "github.com/grpc-ecosystem/…", "github.com/getkin/…",
}

// TestClientLinksLittle asks the go command which packages a program links that imports pkg/client.
func TestClientLinksLittle(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"pkg/client").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, module+"pkg/batch") {
		t.Fatalf("go list names %d packages, and pkg/batch is not among them", len(linked))
	}
	if len(linked) > maxClientPackages {
		t.Errorf("importing pkg/client links %d packages, over the bound of %d: go list -deps ./pkg/client names them", len(linked), maxClientPackages)
	}
	for _, name := range linked {
		for _, bad := range notInClient {
			prefix, below := strings.CutSuffix(bad, "…")
			if name == prefix || below && strings.HasPrefix(name, prefix) {
				t.Errorf("importing pkg/client links %s, which a client does not need", name)
			}
		}
	}
}

// TestOnlyCoordinatorLinksHTTP asks the go command whether workers link the calls as JSON, or their description. The library behind them is in
// workers anyway, since the exporter of traces uses it.
func TestOnlyCoordinatorLinksHTTP(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"pkg/worker").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, module+"pkg/flowexec") {
		t.Fatalf("go list names %d packages, and pkg/flowexec is not among them", len(linked))
	}
	for _, name := range linked {
		if strings.HasPrefix(name, module+"proto/gateway") || strings.HasPrefix(name, "github.com/getkin/") {
			t.Errorf("importing pkg/worker links %s, which only coordinators need", name)
		}
	}
}
