//go:build linux

package once

import (
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// roleVariable is an environment variable. Where it is "worker", this test binary is a worker, with a worker's command line.
const roleVariable = "KISGRID_ONCE_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "worker" {
		worker.Main(func(r *kis.Registry) { register(r); registerWait(r) })
	}
	os.Exit(testprocess.Main(m, "../../cmd/coordinator"))
}

const lease = 2 * time.Second

// grid is a cluster of processes whose workers run this package's functions.
type grid struct {
	*testgrid.Grid
	ingest []pb.IngestClient // one for each coordinator
	admin  pb.AdminClient    // of the last coordinator
}

// startGrid starts an etcd, coordinators and workers. It writes the documents, and one more for the connector Store, whose YAML after
// the name is conn.
func startGrid(t *testing.T, coordinators, workers int, conn string, documents []definition.Document) *grid {
	t.Helper()
	return startGridWith(t, coordinators, workers, conn, documents, nil, nil)
}

// startGridWith is startGrid with more flags for coordinators and workers.
func startGridWith(t *testing.T, coordinators, workers int, conn string, documents []definition.Document, coordinatorFlags, workerFlags []string) *grid {
	t.Helper()
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{}).Address()
	g := &grid{Grid: &testgrid.Grid{
		TB: t, Etcd: etcd, Lease: lease.String(),
		Coordinator: testgrid.Program{Flags: coordinatorFlags},
		Worker:      testgrid.Program{Path: os.Args[0], Flags: workerFlags, Env: []string{roleVariable + "=worker"}},
	}}
	documents = append(documents, testgrid.Document(definition.KindConn, "Store", "type: redis\n"+conn))
	testgrid.OpenDefinitions(t, etcd).Put(documents...)
	for range workers {
		g.StartWorker("")
	}
	for range coordinators {
		address := g.AddCoordinator().Start().Address
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		g.ingest, g.admin = append(g.ingest, pb.NewIngestClient(c)), pb.NewAdminClient(c)
	}
	return g
}
