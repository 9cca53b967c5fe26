package flowtest_test

import (
	"context"
	"fmt"
	"os"

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

// exampleTB stands for the *testing.T that an example does not have.
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
