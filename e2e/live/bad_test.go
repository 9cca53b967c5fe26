package live

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// tally is a row type with a field that the type row does not have.
type tally struct {
	Points int `json:"points"`
}

// registerTally registers First and Second, and beside them the functions of the bad documents.
func registerTally(r *kis.Registry) {
	register(r)
	r.Func("Narrow", kis.Calculate(func(context.Context, row) (struct {
		ID int `json:"id"`
	}, error) {
		return struct {
			ID int `json:"id"`
		}{}, nil
	}))
	r.Func("Tally", kis.Verify(func(context.Context, tally) error { return nil }))
	r.Func("Keep", kis.Save(func(context.Context, kis.Writer, row) error { return nil }))
}

const flowKey = "/kisgrid/config/flow/Live"

// TestBadDocuments puts one bad document after another, as etcdctl would. The running revision must not change, not even when every
// coordinator restarts, and the status must say what is wrong in which line of which document.
func TestBadDocuments(t *testing.T) {
	flow := func(yaml string) definition.Document { return testgrid.Document(definition.KindFlow, "Live", yaml) }
	steps := func(names ...string) definition.Document {
		text := "status: 1\nshard_key: id\nflows:\n"
		for _, name := range names {
			text += "  - fname: " + name + "\n"
		}
		return flow(text)
	}
	raw := func(text string) definition.Document {
		return definition.Document{Kind: definition.KindFlow, Name: "Live", YAML: []byte(text)}
	}
	cases := []struct {
		name string
		put  []definition.Document
		del  []string
		says []string
	}{
		{"not YAML", []definition.Document{raw("kistype: flow\n\tflows: [\n")}, nil, []string{flowKey + ":2", "not YAML"}},
		{"not UTF-8", []definition.Document{raw("kistype: flow\nflow_name: \xff\n")}, nil, []string{flowKey, "UTF-8"}},
		{"empty", []definition.Document{raw("")}, nil, []string{flowKey, "empty"}},
		{"an unknown key", []definition.Document{flow("status: 1\nshard_kye: id\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":4", "shard_kye", "shard_key"}},
		{"a duplicate key", []definition.Document{flow("status: 1\nstatus: 0\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":4", "status"}},
		{"a wrong type", []definition.Document{flow("status: 1\ncopies: many\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":4", "copies", "many"}},
		{"a wrong type in a function", []definition.Document{testgrid.Document(definition.KindFunc, "First", "fmode: Calculate\ntimeout: soon\n")}, nil,
			[]string{"/kisgrid/config/func/First:4", "timeout", "soon"}},
		{"a function without a document", []definition.Document{steps("First", "Third")}, nil, []string{flowKey + ":7", "flows[1].fname", "Third"}},
		{"a connector without a document", []definition.Document{
			testgrid.Document(definition.KindFunc, "Keep", "fmode: Save\noption:\n  cname: Nowhere\n"), steps("First", "Keep")}, nil,
			[]string{"/kisgrid/config/func/Keep:5", "option.cname", "Nowhere"}},
		{"a name that differs from its key", []definition.Document{raw("kistype: flow\nflow_name: Life\nstatus: 1\nflows:\n  - fname: First\n")}, nil, []string{flowKey + ":2", "Life", "Live"}},
		{"a kind that differs from its key", []definition.Document{raw("kistype: conn\ncname: Live\ntype: memory\n")}, nil, []string{flowKey + ":1", "kistype", "conn"}},
		{"over 1 MiB", []definition.Document{raw("kistype: flow\nflow_name: Live\nstatus: 1\nflows:\n  - fname: First\n#" + strings.Repeat("x", 1<<20) + "\n")}, nil,
			[]string{flowKey, "over the limit of 1048576 bytes"}},
		{"row types that don't fit", []definition.Document{
			testgrid.Document(definition.KindFunc, "Narrow", "fmode: Calculate\n"), testgrid.Document(definition.KindFunc, "Tally", "fmode: Verify\n"),
			steps("Narrow", "Tally")}, nil, []string{"worker-1", "flow/Live:7", "flows[1].fname", "points"}},
		{"a mode that differs from the code's", []definition.Document{testgrid.Document(definition.KindFunc, "First", "fmode: Verify\n")}, nil,
			[]string{"worker-1", "func/First", "fmode", "Calculate"}},
		{"a name that no environment has", []definition.Document{
			testgrid.Document(definition.KindConn, "Store", "type: redis\naddrs: ${NO_SUCH_REDIS}\n"),
			testgrid.Document(definition.KindFunc, "Keep", "fmode: Save\noption:\n  cname: Store\n"), steps("First", "Keep")}, nil,
			[]string{"worker-1", "conn/Store", "addrs", "NO_SUCH_REDIS"}},
		{"a type of connector that nothing opens", []definition.Document{
			testgrid.Document(definition.KindConn, "Store", "type: stone\naddrs: here\n"),
			testgrid.Document(definition.KindFunc, "Keep", "fmode: Save\noption:\n  cname: Store\n"), steps("First", "Keep")}, nil,
			[]string{"conn/Store", "stone"}},
		{"a needed function deleted", nil, []string{"func/Second"}, []string{flowKey, "flows[1].fname", "Second"}},
	}

	r := start(t, devcluster.Config{Coordinators: 2, Workers: 1, Register: registerTally})
	revision := r.definitions.Put(documents(1)...)
	r.awaitState("Live", cluster.StateActive, revision)
	c := r.dial()
	runs := func(when string) {
		t.Helper()
		result, err := c.Submit(t.Context(), "Live", client.Rows(row{ID: 7}))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		out, err := client.Output[row](result)
		if err != nil || result.Revision != revision || len(out) != 1 || out[0].First != "1" || out[0].Second != "1" {
			t.Errorf("%s revision %d runs, with the output %+v (%v), want revision %d", when, result.Revision, out, err, revision)
		}
	}
	counted := func() (all float64) {
		for _, n := range r.Coordinators() {
			all += metric(r.t, n, "kisgrid_revisions_rejected_total", "Live")
		}
		return all
	}
	for i, bad := range cases {
		t.Run(bad.name, func(t *testing.T) {
			r.t, r.definitions.TB = t, t // a wait in vain ends this case only
			before := counted()
			if len(bad.put) > 0 {
				r.definitions.Put(bad.put...)
			}
			if len(bad.del) > 0 {
				r.definitions.Delete(bad.del...)
			}
			rejected := func(s cluster.FlowStatus) bool {
				text := strings.Join(s.Reasons, "\n")
				for _, want := range bad.says {
					if !strings.Contains(text, want) {
						return false
					}
				}
				return s.State == cluster.StateRejected && s.Active == revision && (s.Wanted > revision || len(bad.put) == 0)
			}
			what := fmt.Sprintf("rejected for %q, with revision %d active", bad.says, revision)
			r.definitions.Await("Live", what, rejected)
			runs("after a bad document")
			r.until("it is counted", func() error { // the leader counts it just after it has written the status
				if now := counted(); now != before+1 {
					return fmt.Errorf("the coordinators count %v rejected revisions, want %v", now, before+1)
				}
				return nil
			})
			r.restart(i%4 == 0)
			runs("after a bad document and a restart")
			for _, n := range r.Coordinators() {
				r.awaitAt(n, "Live", what, rejected)
			}
			r.definitions.Await("Live", what, rejected)
			// The good documents of before are written again, and become active under a new revision.
			revision = r.definitions.Put(documents(1)...)
			r.awaitState("Live", cluster.StateActive, revision)
			r.awaitRunning(c, revision)
		})
	}
}

// restart ends every coordinator, and then starts new ones at their addresses. Killed says whether they are killed, so that the next
// leader has to wait for a lease, or drained.
func (r *rig) restart(killed bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	old := r.Coordinators()
	for _, n := range old {
		if killed {
			n.Kill()
		} else if err := n.Drain(ctx); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, n := range old {
		if _, err := r.StartCoordinator(ctx, n.Address()); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.Await(ctx, 1); err != nil {
		r.t.Fatal(err)
	}
}

// until calls question again and again until it returns nil.
func (r *rig) until(what string, ask func() error) {
	r.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: %v", what, err)
		}
	}
}

// awaitAt waits until the status of a flow, as a coordinator tells it to kisgrid get flow, satisfies is.
func (r *rig) awaitAt(n *devcluster.Node, flow, what string, is func(cluster.FlowStatus) bool) {
	r.t.Helper()
	conn, err := grpc.NewClient(n.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	r.until(what+", as get says", func() error {
		got, err := pb.NewAdminClient(conn).Get(r.t.Context(), &pb.GetRequest{Kind: "flows", Name: flow})
		if err != nil {
			return err
		}
		var s cluster.FlowStatus
		if err := json.Unmarshal(got.GetResources()[0].GetStatus(), &s); err != nil {
			return err
		}
		if !is(s) {
			return fmt.Errorf("coordinator %s says %+v", n.Address(), s)
		}
		return nil
	})
}

// metric is the sum of the series of a metric that have the flow as label; an empty flow means all series.
func metric(t testing.TB, n *devcluster.Node, name, flow string) float64 {
	t.Helper()
	families, err := n.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (flow == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == flow) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// TestRejectionsAreCounted checks the metric that counts rejected revisions.
func TestRejectionsAreCounted(t *testing.T) {
	r := start(t, devcluster.Config{Workers: 1})
	r.awaitState("Live", cluster.StateActive, r.definitions.Put(documents(1)...))
	for i := range 3 {
		revision := r.definitions.Put(testgrid.Document(definition.KindFlow, "Live", fmt.Sprintf("bad_%d: 1\n", i)))
		r.awaitState("Live", cluster.StateRejected, revision)
	}
	n := r.Coordinators()[0]
	r.until("it counts them", func() error { // the leader counts just after it has written the status
		count, wanted, active := metric(t, n, "kisgrid_revisions_rejected_total", "Live"), metric(t, n, "kisgrid_flow_wanted_revision", "Live"), metric(t, n, "kisgrid_flow_revision", "Live")
		if count != 3 || wanted <= active || active == 0 {
			return fmt.Errorf("%v revisions are counted as rejected, %v is wanted and %v active", count, wanted, active)
		}
		return nil
	})
}

// TestOffAndGone disables and deletes a flow while rows of it are under way, on streams and in calls. These rows end as they would
// have without that. Later rows are refused with a code.
func TestOffAndGone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig)
		code   batch.Code
	}{
		"disabled": {func(r *rig) {
			d := documents(1)[0]
			d.YAML = []byte(strings.Replace(string(d.YAML), "status: 1", "status: 0", 1))
			r.definitions.Put(d)
		}, batch.CodeFlowDisabled},
		"deleted": {func(r *rig) { r.definitions.Delete("flow/Live") }, batch.CodeUnknownFlow},
	} {
		t.Run(name, func(t *testing.T) {
			entered, leave := make(chan struct{}, 16), make(chan struct{})
			r := start(t, devcluster.Config{Workers: 2, Register: func(reg *kis.Registry) {
				reg.Func("First", kis.Calculate(func(ctx context.Context, in row) (row, error) {
					entered <- struct{}{}
					select {
					case <-leave:
					case <-ctx.Done():
						return in, ctx.Err()
					}
					return first(ctx, in)
				}))
				reg.Func("Second", kis.Calculate(second))
			}})
			revision := r.definitions.Put(documents(1)...)
			r.awaitState("Live", cluster.StateActive, revision)
			k := r.dial()
			s, err := k.Stream(t.Context(), "Live")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			under, err := s.Send(t.Context(), client.Rows(row{ID: 1}))
			if err != nil {
				t.Fatal(err)
			}
			called := make(chan error, 1)
			go func() {
				result, err := k.Submit(t.Context(), "Live", client.Rows(row{ID: 2}))
				if err == nil && (result.Revision != revision || len(result.NotDone) > 0) {
					err = fmt.Errorf("it ended as %+v", result)
				}
				called <- err
			}()
			for range 2 {
				select {
				case <-entered:
				case <-time.After(patience):
					t.Fatal("the rows did not begin")
				}
			}
			c.change(r)
			// New batches are sent in calls and on the open stream.
			for end := time.Now().Add(patience); ; {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // a batch that is still taken waits as the first one does
				_, err := k.Submit(ctx, "Live", client.Rows(row{ID: 3}))
				cancel()
				if batch.CodeOf(err) == c.code {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("a new batch gives %v, want %s", err, c.code)
				}
			}
			p, err := s.Send(t.Context(), client.Rows(row{ID: 3}))
			if err == nil {
				_, err = p.Wait(t.Context())
			}
			if batch.CodeOf(err) != c.code {
				t.Errorf("a new batch on an open stream gives %v, want %s", err, c.code)
			}
			if _, err := k.Stream(t.Context(), "Live"); batch.CodeOf(err) != c.code {
				t.Errorf("a new stream gives %v, want %s", err, c.code)
			}
			close(leave)
			if result, err := under.Wait(t.Context()); err != nil || result.Revision != revision || len(result.NotDone) > 0 {
				t.Errorf("the batch under way on the stream ended as %+v, %v", result, err)
			}
			if err := <-called; err != nil {
				t.Errorf("the call under way: %v", err)
			}
		})
	}
}
