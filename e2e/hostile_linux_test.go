package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestHostileClients attacks a coordinator without workers with clients that keep to no rule. Whatever they send, the coordinator
// stays below a limit for its memory: its budget, two messages of the largest size, half as much again for garbage, and a fixed
// amount for itself. Then it serves an honest client.
func TestHostileClients(t *testing.T) {
	const (
		budget, receive, itself = 32 << 20, 64 << 20, 64 << 20
		most                    = (budget+2*receive)*3/2 + itself // a message is in memory twice while it is read
	)
	g := newGrid(t)
	testgrid.StartEtcd(t, g.Etcd, t.TempDir())
	testgrid.StartRedis(t, g.Redis)
	g.Lease, g.Coordinator.Env = "2s", []string{"GOMEMLIMIT=" + strconv.Itoa(most*4/5)}
	coordinator := g.AddCoordinator("--no-worker", "10m", "--budget-bytes", strconv.Itoa(budget), "--max-receive-bytes", strconv.Itoa(receive)).Start().Ready()
	g.Lease = lease
	worker := g.StartWorker("w1")
	g.AwaitWorkers(1)
	g.MustKisgrid("", "apply", "-f", conf)
	worker.Kill()
	g.AwaitWorkers(0)

	const flow = "CalStuAvgScore12"
	row := []byte(`{"stu_id":1}`)
	rows := func(n int) *pb.Columns {
		c := &pb.Columns{Data: bytes.Repeat(row, n)}
		for i := range n {
			c.Ends = append(c.Ends, uint32((i+1)*len(row)))
		}
		return c
	}
	large := strings.Repeat("x", 7<<20)
	padded := func() *pb.Submission {
		return &pb.Submission{Sequence: 1, Rows: rows(1), ShardKey: large}
	}
	call := func(ctx context.Context, conn *grpc.ClientConn, in *pb.Submission, o ...grpc.CallOption) {
		id := batch.NewStreamID()
		_, _ = pb.NewIngestClient(conn).Submit(ctx, &pb.SubmitRequest{Flow: flow, Stream: id[:], Submission: in}, o...) // the call is refused, or waits: both are right
	}
	// stream sends n batches on a stream and reads no answer.
	stream := func(ctx context.Context, conn *grpc.ClientConn, n int, in func() *pb.Submission) {
		s, err := pb.NewIngestClient(conn).Stream(ctx)
		if err != nil {
			return
		}
		id := batch.NewStreamID()
		err = s.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{ProtocolMin: 1, ProtocolMax: 1, Flow: flow, Stream: id[:], Floor: 1}}})
		for i := 1; err == nil && i <= n; i++ {
			b := in()
			b.Sequence, b.Floor = uint64(i), 1
			err = s.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: b}})
		}
	}
	for _, attack := range []struct {
		name    string
		clients int // how many, each with its own connection
		do      func(ctx context.Context, conn *grpc.ClientConn)
	}{
		{"batches as large as they may be", 40, func(ctx context.Context, conn *grpc.ClientConn) {
			call(ctx, conn, &pb.Submission{Sequence: 1, Rows: rows(65536)})
		}},
		{"messages that grow when they are read", 60, func(ctx context.Context, conn *grpc.ClientConn) {
			call(ctx, conn, &pb.Submission{Sequence: 1, Rows: rows(65536)}, grpc.UseCompressor(gzip.Name))
		}},
		{"calls with a row, and much beside it", 60, func(ctx context.Context, conn *grpc.ClientConn) { call(ctx, conn, padded()) }},
		{"streams with a row in each batch, and much beside it", 10, func(ctx context.Context, conn *grpc.ClientConn) { stream(ctx, conn, 10, padded) }},
		{"streams of tiny batches", 64, func(ctx context.Context, conn *grpc.ClientConn) {
			stream(ctx, conn, 8192, func() *pb.Submission { return &pb.Submission{Rows: rows(1)} })
		}},
		{"a stream of batches without rows, whose answers nobody reads", 4, func(ctx context.Context, conn *grpc.ClientConn) {
			stream(ctx, conn, 100_000, func() *pb.Submission { return &pb.Submission{} })
		}},
		{"documents without end", 20, func(ctx context.Context, conn *grpc.ClientConn) {
			s, err := pb.NewAdminClient(conn).Apply(ctx, &pb.ApplyRequest{Documents: []*pb.Document{{Kind: "flow", Name: "F", Yaml: []byte("kistype: flow\nflow_name: " + large)}}})
			if err == nil {
				_, _ = s.Recv()
			}
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			coordinator.ForgetPeak()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			var clients sync.WaitGroup
			for range attack.clients {
				conn, err := grpc.NewClient(coordinator.Address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				clients.Go(func() { attack.do(ctx, conn) })
			}
			clients.Wait()
			peak := coordinator.Peak()
			t.Logf("the coordinator took %d MiB", peak>>20)
			if peak > most {
				t.Errorf("the coordinator took %d MiB, and it may take %d MiB", peak>>20, most>>20)
			}
		})
	}
	testprocess.Until(t, "the budget is back", func() error {
		left, err := testgrid.Metric(coordinator.HTTP, "kisgrid_coordinator_budget_left_bytes", "")
		if err == nil && left != budget {
			err = fmt.Errorf("%g of %d bytes are left", left, budget)
		}
		return err
	})
	g.StartWorker("w2")
	g.AwaitWorkers(1)
	if out := g.MustKisgrid("{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n", "submit", flow, "--results"); out != "{\"stu_id\":101,\"avg_score\":95}\n" {
		t.Errorf("an honest client is answered:\n%s", out)
	}
}
