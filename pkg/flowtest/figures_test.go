package flowtest

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// figuresOf asks a coordinator for the figures of the whole cluster.
func figuresOf(t *testing.T, g *Grid, n *Node, in *pb.FiguresRequest) (all *pb.FiguresResponse, flow *pb.FlowFigure) {
	t.Helper()
	if err := g.admin(n.Address(), func(a pb.AdminClient) (err error) {
		all, err = a.Figures(t.Context(), in)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, f := range all.GetFlows() {
		if f.GetFlow() == "CalStuAvgScore12" {
			flow = f
		}
	}
	return all, flow
}

// Every coordinator shows the rows of the whole cluster, and they are those that the clients know of. It does so while workers drain, start
// and lose their sessions, and after a coordinator has died; totals never go back.
func TestFigures(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := Cluster(t, 3, Register(students.Register), ConfFS(students.Conf), VirtualTime(), Coordinators(3))
		var ledger [batch.Failed + 1]uint64 // of the clients, by outcome; at 0 all rows
		last := map[string]uint64{}         // totals that each coordinator has shown
		load := func(clients int) {
			t.Helper()
			var sending errgroup.Group
			results := make([]*batch.Result, 10*clients)
			for n := range clients {
				c := g.Client()
				sending.Go(func() (err error) {
					for i := range 10 {
						rows := make([]students.Scores12, 20)
						for k := range rows {
							rows[k] = students.Scores12{ID: 1000*(k%4/3) + 20*i + k, Score1: 50, Score2: 100} // every fourth one is dropped
						}
						if results[10*n+i], err = c.Submit(t.Context(), "CalStuAvgScore12", client.Rows(rows...)); err != nil {
							return err
						}
						time.Sleep(500 * time.Millisecond)
					}
					return nil
				})
			}
			if err := sending.Wait(); err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				ledger[0] += 20
				ledger[batch.Done] += 20
				for _, o := range r.NotDone {
					ledger[o.Outcome]++
					ledger[batch.Done]--
				}
			}
		}
		coordinators, workers := g.Coordinators(), g.Workers() // that live
		var came *Node
		check := func(what string) {
			t.Helper()
			time.Sleep(5 * time.Second) // everybody has told everybody
			for _, n := range coordinators {
				all, f := figuresOf(t, g, n, &pb.FiguresRequest{})
				rows := f.GetRows()
				if got := [...]uint64{rows.GetIn(), rows.GetDone(), rows.GetFiltered(), rows.GetAborted(), rows.GetDead(), rows.GetFailed()}; got != ledger {
					t.Errorf("%s: %s shows %v, and the clients have counted %v", what, n.Name(), got, ledger)
				}
				// A coordinator that has just come knows nothing of workers that had ended.
				if n != came && (len(f.GetFunctions()) != 4 || f.GetFunctions()[3].GetRows() != ledger[0] || f.GetFunctions()[0].GetRows() != ledger[batch.Done]) {
					t.Errorf("%s: %s shows %v, and the clients have counted %v", what, n.Name(), f.GetFunctions(), ledger)
				}
				if f.GetInFlight() != 0 || f.GetOldestMilliseconds() != 0 || rows.GetIn() < last[n.ID()] {
					t.Errorf("%s: %s shows %v", what, n.Name(), f)
				}
				last[n.ID()] = rows.GetIn()
				if len(all.GetWorkers()) != len(workers) || len(all.GetCoordinators()) != len(coordinators) {
					t.Errorf("%s: %s shows %v and %v", what, n.Name(), all.GetWorkers(), all.GetCoordinators())
				}
				for _, w := range all.GetWorkers() {
					if w.GetReason() != "" || w.GetWindow().GetLimitRows() == 0 || w.GetLanes() == 0 {
						t.Errorf("%s: %s shows %v", what, n.Name(), w)
					}
				}
				for _, c := range all.GetCoordinators() {
					if c.GetReason() != "" {
						t.Errorf("%s: %s shows %v", what, n.Name(), c)
					}
				}
				if len(all.GetConnectors()) == 0 || all.GetConnectors()[0].GetState() != "connected" {
					t.Errorf("%s: %s shows %v", what, n.Name(), all.GetConnectors())
				}
			}
		}
		load(6)
		check("at first")
		if _, f := figuresOf(t, g, g.Coordinator(0), &pb.FiguresRequest{Flow: "CalStuAvgScore12", StepSeconds: 5}); f.GetPerSecond().GetIn() < 50 || len(f.GetSteps()) == 0 || f.GetFunctions()[0].GetP99Seconds() <= 0 {
			t.Errorf("the rates are %v", f)
		}
		if _, f := figuresOf(t, g, g.Coordinator(0), &pb.FiguresRequest{WithoutFunctions: true}); f.GetRows().GetIn() != ledger[0] || f.GetFunctions() != nil || f.GetKeys() != nil {
			t.Errorf("figures without functions are %v", f)
		}
		workers[0].Drain()
		workers = append(workers[1:], g.AddWorker(WorkerConfig{Register: students.Register}))
		load(3)
		check("after another worker has come for one that drained")
		workers[0].Drain()
		workers[0] = workers[0].Restart()
		load(3)
		check("after a worker has drained and started again")
		heal := coordinators[0].Cut(workers[0], workers[1], workers[2])
		time.Sleep(7 * time.Second) // connections break, and the lease does not end
		heal()
		load(3)
		check("after sessions broke")

		dead := coordinators[2]
		heal = dead.Cut(coordinators[0])
		time.Sleep(10 * time.Second)
		if all, _ := figuresOf(t, g, coordinators[0], &pb.FiguresRequest{}); !names(all, dead.ID()) {
			t.Errorf("a coordinator that does not answer is not named: %v", all.GetCoordinators())
		}
		heal()
		time.Sleep(5 * time.Second)
		dead.Kill()
		coordinators = coordinators[:2]
		time.Sleep(time.Minute)
		load(3)
		check("after a coordinator has died")
		came = g.AddCoordinator()
		coordinators = append(coordinators, came)
		load(3)
		check("after a coordinator has come")
	})
}

// names reports whether figures name a coordinator as one whose rows are missing.
func names(all *pb.FiguresResponse, coordinator string) bool {
	for _, c := range all.GetCoordinators() {
		if c.GetId() == coordinator && c.GetReason() != "" {
			return true
		}
	}
	return false
}

// A history that nobody has is refused.
func TestFiguresRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := Cluster(t, 1, Register(students.Register), ConfFS(students.Conf), VirtualTime())
		for _, in := range []*pb.FiguresRequest{{StepSeconds: 7}, {Flow: "None"}} {
			err := g.admin(g.Coordinator(0).Address(), func(a pb.AdminClient) error {
				_, err := a.Figures(t.Context(), in)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "there is no") {
				t.Errorf("%v: %v", in, err)
			}
		}
	})
}
