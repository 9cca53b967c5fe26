package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type row struct {
	ID   int    `json:"id"`
	Mark string `json:"mark,omitempty"`
}

// meeting lets a test meet its function: the function sends its row's mark, and waits until the test lets it return.
type meeting struct {
	begun chan string // the row's mark
	leave chan struct{}
}

func (m *meeting) register(r *kis.Registry) {
	r.Func("Meet", kis.Calculate(func(ctx context.Context, in row) (row, error) {
		if in.Mark != "" {
			m.begun <- in.Mark
			select {
			case <-m.leave:
			case <-ctx.Done():
				return in, ctx.Err()
			}
		}
		in.Mark = kis.From(ctx).Param("mark")
		return in, nil
	}))
	r.Func("Keep", kis.Save(func(_ context.Context, to kis.Writer, in row) error {
		to.Incr(fmt.Sprint(in.ID), "times", 1)
		return nil
	}))
}

const (
	meet = "kistype: flow\nflow_name: Meet\nstatus: 1\nshard_key: id\nflows: [{fname: Meet}]\n---\nkistype: func\nfname: Meet\nfmode: Calculate\n"
	keep = "kistype: flow\nflow_name: Keep\nstatus: 1\nshard_key: id\nflows: [{fname: Keep}]\n---\n" +
		"kistype: func\nfname: Keep\nfmode: Save\noption: {cname: Store}\n---\n" +
		"kistype: conn\ncname: Store\ntype: redis\naddrs: ${REDIS_ADDR}\nkey: kept_\nparams: {read_timeout: 200ms, dial_timeout: 200ms}\n"
)

// inVirtualTime ends the names of tests that run in virtual time.
const inVirtualTime = "/virtual_time"

// inBothTimes runs a test that makes its cluster by grid in real time and in virtual time.
func inBothTimes(t *testing.T, test func(*testing.T)) {
	t.Run("real time", func(t *testing.T) {
		t.Parallel()
		test(t)
	})
	t.Run("virtual time", func(t *testing.T) {
		t.Parallel()
		bubble.Test(t, test)
	})
}

func grid(t *testing.T, workers int, opts ...flowtest.Option) (*flowtest.Grid, *meeting) {
	t.Helper()
	m := &meeting{begun: make(chan string, 16), leave: make(chan struct{})}
	if strings.HasSuffix(t.Name(), inVirtualTime) {
		opts = append(opts, flowtest.VirtualTime())
	}
	g := flowtest.Cluster(t, workers, append(opts, flowtest.Register(m.register))...)
	if err := g.Apply(meet, keep); err != nil {
		t.Fatal(err)
	}
	return g, m
}

// run submits rows, and fails the test unless all are done.
func run(t *testing.T, c *client.Client, flow string, rows ...any) *client.Result {
	t.Helper()
	result, err := c.Submit(t.Context(), flow, client.Rows(rows...))
	if err != nil || len(result.NotDone) > 0 {
		t.Fatalf("flow %s: %+v, %v", flow, result, err)
	}
	return result
}

// until calls is again and again until it returns true. It is for states that give no signal.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

// ran is how many rows the functions of a worker were given.
func ran(n *flowtest.Node) float64 { return n.Metric("kisgrid_function_rows_total") }

func TestKilledWorkersRowRunsElsewhere(t *testing.T) { inBothTimes(t, killedWorkersRowRunsElsewhere) }

func killedWorkersRowRunsElsewhere(t *testing.T) {
	g, m := grid(t, 2)
	c := g.Client()
	owner := g.Owner("Meet", "1")
	done := make(chan error, 1)
	go func() {
		_, err := c.Submit(t.Context(), "Meet", client.Rows(row{1, "here"}))
		done <- err
	}()
	<-m.begun
	owner.Kill()
	<-m.begun // on the other worker
	close(m.leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	other := g.Owner("Meet", "1")
	if other == owner || ran(other) != 1 {
		t.Errorf("after %s died, %s has the row's slot and ran %g rows", owner.Name(), other.Name(), ran(other))
	}

	if again := g.Coordinator(0).Metric("kisgrid_rows_redispatched_total", "flow", "Meet", "why", "lost"); again != 1 {
		t.Errorf("%g rows were redispatched", again)
	}

	// The worker comes back under its name, and gets its slots back.
	again := g.AddWorker(flowtest.WorkerConfig{Name: owner.Name()})
	until(t, "the worker that came back owns the key", func() bool { return g.Owner("Meet", "1") == again })
	run(t, c, "Meet", row{ID: 1})
	if ran(again) != 1 {
		t.Errorf("the worker that came back ran %g rows", ran(again))
	}
}

func TestKilledCoordinatorsStreamGoesElsewhere(t *testing.T) {
	inBothTimes(t, killedCoordinatorsStreamGoesElsewhere)
}

func killedCoordinatorsStreamGoesElsewhere(t *testing.T) {
	g, _ := grid(t, 1, flowtest.Coordinators(2))
	s, err := g.Client().Stream(t.Context(), "Meet")
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		t.Helper()
		p, err := s.Send(t.Context(), client.Rows(row{ID: 1}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send()
	first, second := g.Coordinator(0), g.Coordinator(1)
	if first.Metric("kisgrid_coordinator_streams") == 0 {
		first, second = second, first
	}
	if before := second.Metric("kisgrid_rows_in_total"); before != 0 {
		t.Fatalf("%g rows came in through the coordinator that has no stream", before)
	}
	first.Kill()
	send()
	if got := second.Metric("kisgrid_rows_in_total", "flow", "Meet"); got != 1 {
		t.Errorf("%g rows came in through the coordinator that is left", got)
	}

	third := g.AddCoordinator()
	c := g.Client()
	until(t, "the new coordinator takes batches", func() bool {
		run(t, c, "Meet", row{ID: 1})
		return third.Metric("kisgrid_rows_in_total") > 0
	})
}

func TestDrainedWorkerHandsItsSlotsOver(t *testing.T) { inBothTimes(t, drainedWorkerHandsItsSlotsOver) }

func drainedWorkerHandsItsSlotsOver(t *testing.T) {
	g, m := grid(t, 2)
	c := g.Client()
	owner := g.Owner("Meet", "1")
	done := make(chan error, 1)
	go func() {
		_, err := c.Submit(t.Context(), "Meet", client.Rows(row{1, "here"}))
		done <- err
	}()
	<-m.begun
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		owner.Drain()
	}()
	until(t, "the slot has moved", func() bool { return g.Owner("Meet", "1") != owner })
	close(m.leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-drained
	if len(m.begun) > 0 || ran(owner) != 1 {
		t.Errorf("the worker that drained did not end what it ran: it ran %g rows, elsewhere began %d", ran(owner), len(m.begun))
	}
}

func TestPausedWorkerIsGivenUpAndComesBack(t *testing.T) {
	inBothTimes(t, pausedWorkerIsGivenUpAndComesBack)
}

func pausedWorkerIsGivenUpAndComesBack(t *testing.T) {
	g, _ := grid(t, 2)
	c := g.Client()
	owner := g.Owner("Meet", "1")
	resume := owner.Pause()
	run(t, c, "Meet", row{ID: 1}) // it runs once the lease is over
	if other := g.Owner("Meet", "1"); other == owner || ran(other) != 1 || ran(owner) != 0 {
		t.Errorf("while %s was paused, %s ran %g rows, and it %g", owner.Name(), other.Name(), ran(other), ran(owner))
	}
	resume()
	resume()
	until(t, "the worker has its keys again", func() bool { return g.Owner("Meet", "1") == owner })
	g.Await(2)
}

func TestShortPauseRepeatsNothing(t *testing.T) { inBothTimes(t, shortPauseRepeatsNothing) }

func shortPauseRepeatsNothing(t *testing.T) {
	g, _ := grid(t, 1)
	c := g.Client()
	id := g.Worker(0).ID()
	resume := g.Worker(0).Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// Either side may notice the deadline first: the client, or the coordinator, which knows it too.
	result, err := c.Submit(ctx, "Meet", client.Rows(row{ID: 1}))
	if err == nil && len(result.NotDone) == 0 || err != nil && !errors.Is(err, client.ErrUnanswered) {
		t.Errorf("a paused worker answered: %+v, %v", result, err)
	}
	resume()
	run(t, c, "Meet", row{ID: 2})
	if g.Worker(0).ID() != id || g.Worker(0).Metric("kisgrid_worker_parts_repeated_total") != 0 {
		t.Errorf("the worker is %s, and was %s", g.Worker(0).ID(), id)
	}
}

// A coordinator that hangs is noticed within five seconds, and the call goes on at another one.
func TestPausedCoordinatorIsNoticed(t *testing.T) { inBothTimes(t, pausedCoordinatorIsNoticed) }

func pausedCoordinatorIsNoticed(t *testing.T) {
	g, m := grid(t, 1, flowtest.Coordinators(2))
	c := g.Client()
	done := make(chan error, 1)
	go func() {
		r, err := c.Submit(t.Context(), "Meet", client.Rows(row{1, "here"}))
		if err == nil && len(r.NotDone) > 0 {
			err = fmt.Errorf("%+v", r.NotDone)
		}
		done <- err
	}()
	<-m.begun
	asked := g.Coordinator(0)
	if asked.Metric("kisgrid_rows_in_total") == 0 {
		asked = g.Coordinator(1)
	}
	resume := asked.Pause()
	began := time.Now()
	close(m.leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the call went on %s after its coordinator was paused", took)
	} else {
		t.Logf("the call went on after %s", took)
	}
	resume()
}

func TestWorkerCutOffFromEtcdServes(t *testing.T) { inBothTimes(t, workerCutOffFromEtcdServes) }

func workerCutOffFromEtcdServes(t *testing.T) {
	g, _ := grid(t, 1)
	w := g.Worker(0)
	heal := w.Cut(flowtest.Etcd)
	until(t, "the worker knows that etcd is away", func() bool { return w.Metric("kisgrid_worker_registered") == 0 })
	heal()
	until(t, "the worker is registered again", func() bool { return w.Metric("kisgrid_worker_registered") == 1 })
	run(t, g.Client(), "Meet", row{ID: 1})
}

func TestCutFromRedisHoldsASave(t *testing.T) { inBothTimes(t, cutFromRedisHoldsASave) }

func cutFromRedisHoldsASave(t *testing.T) {
	g, _ := grid(t, 1)
	c := g.Client()
	run(t, c, "Keep", row{ID: 1})
	heal := g.Worker(0).Cut(flowtest.Redis)
	p := make(chan error, 1)
	go func() {
		result, err := c.Submit(t.Context(), "Keep", client.Rows(row{ID: 1}))
		if err == nil && len(result.NotDone) > 0 {
			err = fmt.Errorf("%+v", result.NotDone)
		}
		p <- err
	}()
	until(t, "the connector is down", func() bool { return g.Worker(0).Metric("kisgrid_connector_up") == 0 })
	if len(p) > 0 {
		t.Fatalf("a Save went through the cut: %v", <-p)
	}
	run(t, c, "Meet", row{ID: 2}) // other parties are not cut off
	heal()
	if err := <-p; err != nil {
		t.Error(err)
	}
}

func TestCutBetweenTwo(t *testing.T) { inBothTimes(t, cutBetweenTwo) }

func cutBetweenTwo(t *testing.T) {
	g, _ := grid(t, 1, flowtest.Coordinators(2))
	c := g.Client()
	defer g.Coordinator(0).Cut(flowtest.Clients)()
	s, err := c.Stream(t.Context(), "Meet")
	if err != nil {
		t.Fatal(err)
	}
	pending, err := s.Send(t.Context(), client.Rows(row{ID: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if in := g.Coordinator(0).Metric("kisgrid_rows_in_total"); in != 0 {
		t.Errorf("%g rows came through a cut", in)
	}
	if in := g.Coordinator(1).Metric("kisgrid_rows_in_total"); in != 1 {
		t.Errorf("%g came to the other coordinator", in)
	}
}

func TestCutConnectionsBreak(t *testing.T) { inBothTimes(t, cutConnectionsBreak) }

func cutConnectionsBreak(t *testing.T) {
	g, _ := grid(t, 1)
	w := g.Worker(0)
	heal := w.Cut(g.Coordinator(0))
	until(t, "the session has ended", func() bool { return w.Metric("kisgrid_worker_sessions") == 0 })
	if w.Metric("kisgrid_worker_registered") != 1 {
		t.Error("the worker lost etcd too")
	}
	heal()
	run(t, g.Client(), "Meet", row{ID: 1})
}

func TestSlowTakesThatLong(t *testing.T) { inBothTimes(t, slowTakesThatLong) }

func slowTakesThatLong(t *testing.T) {
	const by = 60 * time.Millisecond
	g, _ := grid(t, 1)
	c := g.Client()
	restore := g.Worker(0).Slow(by, g.Coordinator(0))
	began := time.Now()
	run(t, c, "Meet", row{ID: 1})
	if took := time.Since(began); took < 2*by {
		t.Errorf("there and back took %s, %s in each direction", took, by)
	}
	restore()
}

func TestApply(t *testing.T) { inBothTimes(t, apply) }

func apply(t *testing.T) {
	g, _ := grid(t, 2, flowtest.Coordinators(2))
	c := g.Client()
	if err := g.Apply("kistype: func\nfname: Meet\nfmode: Calculate\noption: {default_params: {mark: changed}}\n"); err != nil {
		t.Fatal(err)
	}
	for range 4 { // calls go to both coordinators in turn
		rows, err := client.Output[row](run(t, c, "Meet", row{ID: 1}))
		if err != nil || len(rows) != 1 || rows[0].Mark != "changed" {
			t.Errorf("after the change, what comes out is %+v, %v", rows, err)
		}
	}
	for text, want := range map[string]string{
		"kistype: func\nfname: Meet\nfmode: Calkulate\n": "fmode",
		strings.Replace(meet, "flows: [{fname: Meet}]", "flows: [{fname: Meet}, {fname: Lost}]", 1) + "---\nkistype: func\nfname: Lost\nfmode: Verify\n": "Lost",
	} {
		if err := g.Apply(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a change that can't be gives %v", err)
		}
	}
	run(t, c, "Meet", row{ID: 1})
}

// fatal takes the place of a test, so that its end can be seen.
type fatal struct {
	*testing.T
	said string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

func TestMistakesEndTheTest(t *testing.T) {
	t.Parallel()
	ends := func(want string, does func(flowtest.TB)) {
		t.Helper()
		f := &fatal{T: t}
		defer func() {
			if r := recover(); r != f || !strings.Contains(f.said, want) {
				t.Errorf("got %v, %q; want %q", r, f.said, want)
			}
		}()
		does(f)
	}
	ends("no such file", func(t flowtest.TB) { flowtest.Cluster(t, 0, flowtest.Conf("not there")) })
	ends(batch.CodeUnknownFlow.String(), func(t flowtest.TB) { flowtest.Cluster(t, 0).Owner("Lost", "1") })
}
