package flowtest_test

import (
	"testing"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

func TestWorkerCrash(t *testing.T) {
	g := flowtest.Cluster(t, 3, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf))
	stream, err := g.Client().Stream(t.Context(), "CalStuAvgScore12")
	if err != nil {
		t.Fatal(err)
	}
	var sent []*client.Pending
	for i := range 100 {
		p, err := stream.Send(t.Context(), client.Rows(students.Scores12{ID: i, Score1: 100, Score2: 90}, students.Scores12{ID: 101}))
		if err != nil {
			t.Fatal(err)
		}
		if sent = append(sent, p); i == 50 {
			g.Owner("CalStuAvgScore12", "101").Kill()
		}
	}
	for i, p := range sent {
		if result, err := p.Wait(t.Context()); err != nil || len(result.NotDone) > 0 {
			t.Errorf("batch %d: %+v, %v", i, result, err)
		}
	}
}
