package flowtest_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// A test hands its t to Cluster. The worker that has student 101 dies after the first batch; another one goes on.
func ExampleCluster() {
	t := new(exampleTB) // in a test: its *testing.T
	defer t.end()

	g := flowtest.Cluster(t, 3, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf))
	c := g.Client()
	for _, row := range []students.Scores12{{ID: 101, Score1: 100, Score2: 90}, {ID: 101, Score1: 60, Score2: 90}} {
		result, err := c.Submit(t.Context(), "CalStuAvgScore12", client.Rows(row))
		if err != nil {
			t.Fatalf("%v", err)
		}
		averages, err := client.Output[students.Avg](result)
		fmt.Println(averages, err)
		g.Owner("CalStuAvgScore12", "101").Kill()
	}
	// Output:
	// [{101 95}] <nil>
	// [{101 75}] <nil>
}

// Apply changes definitions while the cluster runs, and returns when the change is active. A change that can't be made is an error.
func ExampleGrid_Apply() {
	t := new(exampleTB)
	defer t.end()

	g := flowtest.Cluster(t, 1, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf))
	const check = "kistype: flow\nflow_name: Check\nstatus: 1\nflows: [{fname: VerifyStu}]\n"
	fmt.Println(g.Apply(check))
	r, err := g.Client().Submit(t.Context(), "Check", client.Rows(students.Scores12{ID: 101}, students.Scores12{ID: 5000}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, o := range r.NotDone {
		fmt.Println("row", o.Row, "is", o.Outcome, "with", o.Code)
	}
	err = g.Apply(strings.Replace(check, "VerifyStu", "Nowhere", 1))
	fmt.Println("a function without a document is refused:", err != nil)
	// Output:
	// <nil>
	// row 1 is filtered with DROPPED
	// a function without a document is refused: true
}

// A worker that is cut off from Redis keeps the rows that it has to save, and saves them when the cut ends.
func ExampleNode_Cut() {
	t := new(exampleTB)
	defer t.end()

	g := flowtest.Cluster(t, 1, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf))
	s, err := g.Client().Stream(t.Context(), "CalStuAvgScore12")
	if err != nil {
		t.Fatalf("%v", err)
	}
	heal := g.Worker(0).Cut(flowtest.Redis)
	p, err := s.Send(t.Context(), client.Rows(students.Scores12{ID: 101, Score1: 100, Score2: 90}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	heal()
	r, err := p.Wait(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	fmt.Println("rows that are not done:", len(r.NotDone))
	// Output: rows that are not done: 0
}

// exampleTB takes the place of the *testing.T that an example does not have.
type exampleTB struct{ cleanups []func() }

func (*exampleTB) Helper()                           {}
func (*exampleTB) Context() context.Context          { return context.Background() }
func (t *exampleTB) Cleanup(f func())                { t.cleanups = append(t.cleanups, f) }
func (*exampleTB) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (t *exampleTB) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	t.end()
	os.Exit(1)
}

func (t *exampleTB) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}
