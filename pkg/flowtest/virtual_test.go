package flowtest_test

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// A cluster lives through faults in virtual time.
func TestVirtualTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := flowtest.Cluster(t, 3, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf), flowtest.VirtualTime(), flowtest.Coordinators(2))
		c := g.Client()
		submit := func() {
			t.Helper()
			result, err := c.Submit(t.Context(), "CalStuAvgScore12", client.Rows(students.Scores12{ID: 101, Score1: 100, Score2: 90}))
			if err != nil {
				t.Fatal(err)
			}
			averages, err := client.Output[students.Avg](result)
			if err != nil || len(averages) != 1 || averages[0].Avg != 95 {
				t.Errorf("got %v, %v", averages, err)
			}
		}
		submit()
		owner := g.Owner("CalStuAvgScore12", "101")
		heal := owner.Cut(flowtest.Redis)
		time.AfterFunc(30*time.Second, heal)
		submit() // waits for the end of the cut, or another worker's turn
		time.Sleep(10 * time.Minute)
		submit()
		owner.Kill()
		submit()
		owner.Restart()
		resume := g.Coordinator(0).Pause()
		submit()
		time.AfterFunc(time.Minute, resume)
		time.Sleep(10 * time.Minute)
		submit()
		g.Worker(0).Drain()
		submit()
	})
}
