package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

type Scores struct {
	ID     int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
}

type Average struct {
	ID  int     `json:"stu_id"`
	Avg float64 `json:"avg_score"`
}

// One batch, its rows that are not done, and the flow's output.
func ExampleClient_Submit() {
	cluster := startCluster()
	defer cluster.stop()

	c, err := client.Dial(cluster.address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	res, err := c.Submit(context.Background(), "Averages", client.Rows(Scores{101, 100, 90}, Scores{-1, 0, 0}, Scores{102, 100, 80}))
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range res.NotDone {
		fmt.Println("row", o.Row, o.Outcome, o.Function, o.Code, o.Reason)
	}
	averages, err := client.Output[Average](res)
	fmt.Println(averages, err)
	// Output:
	// row 1 filtered Verify DROPPED stu_id -1 is outside 0..999
	// [{101 95} {102 90}] <nil>
}

// Many batches, in order. Send blocks when the cluster has enough to do.
func ExampleClient_Stream() {
	cluster := startCluster()
	defer cluster.stop()

	c, err := client.Dial(cluster.address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx := context.Background()
	s, err := c.Stream(ctx, "Averages")
	if err != nil {
		log.Fatal(err)
	}
	var pendings []*client.Pending
	for i := range 3 {
		p, err := s.Send(ctx, client.Rows(Scores{i, 80, 90}, Scores{i, 90, 100}), client.NoOutput())
		if err != nil {
			log.Fatal(err)
		}
		pendings = append(pendings, p)
	}
	for _, p := range pendings {
		res, err := p.Wait(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("batch", res.BatchID.Sequence, "done:", res.Counts()[client.Done])
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// batch 1 done: 2
	// batch 2 done: 2
	// batch 3 done: 2
}

// After ErrUnanswered the same Batch is submitted again, under the same id. Its rows may run a second time.
func Example_unanswered() {
	cluster := startCluster()
	defer cluster.stop()
	cluster.loseAnswers(1)

	c, err := client.Dial(cluster.address, client.WithRetryFor(0)) // by default Submit does this by itself, for 30 s
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	b := client.Rows(Scores{101, 100, 90})
	res, err := c.Submit(context.Background(), "Averages", b)
	if errors.Is(err, client.ErrUnanswered) {
		fmt.Println("unanswered: it may have taken effect")
		res, err = c.Submit(context.Background(), "Averages", b) // b, not a new batch of the same rows
	}
	if err != nil {
		log.Fatal(err)
	}
	averages, err := client.Output[Average](res)
	fmt.Println(averages, err)
	// Output:
	// unanswered: it may have taken effect
	// [{101 95}] <nil>
}

// cluster stands in for a real one: a server that averages scores by itself.
type cluster struct {
	pb.UnimplementedIngestServer
	address string
	server  *grpc.Server

	mu   sync.Mutex
	lose int // guarded by mu: answers to be lost
}

func startCluster() *cluster {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	k := &cluster{address: l.Addr().String(), server: grpc.NewServer(grpc.WaitForHandlers(true))}
	pb.RegisterIngestServer(k.server, k)
	go k.server.Serve(l) // ends with an error that says that stop was called
	return k
}

func (k *cluster) stop() { k.server.Stop() }

func (k *cluster) loseAnswers(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lose = n
}

func (k *cluster) Submit(_ context.Context, in *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	answer := averages(in.GetSubmission())
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lose > 0 {
		k.lose--
		return nil, status.Error(codes.Unavailable, "connection reset by peer")
	}
	return &pb.SubmitResponse{Answer: answer}, nil
}

func (k *cluster) Stream(rpc pb.Ingest_StreamServer) error {
	if _, err := rpc.Recv(); err != nil {
		return err
	}
	if err := rpc.Send(&pb.StreamResponse{Kind: &pb.StreamResponse_Opened{Opened: &pb.Opened{Protocol: 1}}}); err != nil {
		return err
	}
	credit := &pb.Credit{Rows: 3, Bytes: 1000}
	for {
		if err := rpc.Send(&pb.StreamResponse{Kind: &pb.StreamResponse_Credit{Credit: credit}}); err != nil {
			return err
		}
		m, err := rpc.Recv()
		if err != nil {
			return nil // the client has ended the stream
		}
		rows := m.GetSubmission().GetRows()
		credit = &pb.Credit{Rows: uint32(len(rows.GetEnds())), Bytes: uint32(len(rows.GetData()))}
		if err := rpc.Send(&pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: averages(m.GetSubmission())}}); err != nil {
			return err
		}
	}
}

// averages does the work of a flow with two functions.
func averages(in *pb.Submission) *pb.Answer {
	answer := &pb.Answer{Sequence: in.GetSequence(), Revision: 1, Last: true}
	rows := wire.ToColumns(in.GetRows())
	var out batch.Output
	for i := range rows.Len() {
		var s Scores
		if err := json.Unmarshal(rows.Row(i), &s); err != nil || s.ID < 0 {
			answer.NotDone = append(answer.NotDone, &pb.RowOutcome{
				Row: uint32(i), Outcome: pb.Outcome_OUTCOME_FILTERED, Code: pb.Code_CODE_DROPPED, Function: "Verify",
				Reason: fmt.Sprintf("stu_id %d is outside 0..999", s.ID),
			})
			continue
		}
		row, err := json.Marshal(Average{s.ID, float64(s.Score1+s.Score2) / 2})
		if err != nil {
			log.Fatal(err)
		}
		out.Rows.Append(row)
		out.Origins = append(out.Origins, uint32(i))
	}
	if in.GetOutput() {
		answer.Output = wire.FromOutput(out)
	}
	return answer
}
