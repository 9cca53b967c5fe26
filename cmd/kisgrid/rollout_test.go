package main

import (
	"regexp"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// apply waits for workers that are about to start: first there is none, then one that lacks a function, then all.
func TestApplyWaitsForWorkers(t *testing.T) {
	g := flowtest.Cluster(t, 0)
	docs := marks([]string{"Check", "Count"})
	apply := begin(t, g, docs, "apply", "-f", "-", "--timeout", patience.String())
	apply.out.await(t, "flow Marks: pending\n  no worker has registered")
	g.AddWorker(flowtest.WorkerConfig{Register: registers("Check")})
	apply.out.await(t, "function Count is missing on 1 live workers")
	g.AddWorker(flowtest.WorkerConfig{Register: registers("Check", "Count")})
	out, err := apply.end(t)
	if err != nil {
		t.Errorf("apply ended with %v", err)
	}
	prints(t, out, "flow Marks: active, taken by 1 of 1 workers")

	// A flow for which no worker comes is reported when the time is up, by apply and by rollout status.
	lacking := marks([]string{"Check", "Count", "Third"})
	fails(t, g, lacking, []string{"apply", "-f", "-", "--timeout", "1s"}, "flow Marks: pending", "stays active", "function Third is missing on 2 live workers", "not settled within --timeout 1s")
	fails(t, g, "", []string{"rollout", "status", "Marks", "--timeout", "1s"}, "flow Marks: pending", "Third")
	status := begin(t, g, "", "rollout", "status", "Marks")
	status.out.await(t, "flow Marks: pending")
	g.AddWorker(flowtest.WorkerConfig{Register: registers("Check", "Count", "Third")})
	if out, err := status.end(t); err != nil {
		t.Errorf("rollout status ended with %v:\n%s", err, out)
	}
}

// A flow that no worker can run is unserved, whatever became of the workers, and only as long as that is so.
func TestUnserved(t *testing.T) {
	g := flowtest.Cluster(t, 1, flowtest.Register(registers("Check")))
	runs(t, g, marks([]string{"Check"}), []string{"apply", "-f", "-"}, "active")
	served := func() bool { return g.Coordinator(0).Metric("kisgrid_flow_unserved", "flow", "Marks") == 0 }
	unserved := func(why string) {
		t.Helper()
		until(t, "the metric says that the flow is unserved", func() bool { return !served() })
		if out := runs(t, g, "", []string{"get", "flows"}); !regexp.MustCompile(`Marks +unserved `).MatchString(out) {
			t.Errorf("get flows prints:\n%s", out)
		}
		runs(t, g, "", []string{"get", "flow", "Marks"}, "unserved", "no worker can run it: ", why)
		runs(t, g, "", []string{"get", "flow", "Marks", "-o", "json"}, `"state": "unserved"`)
		fails(t, g, "", []string{"rollout", "status", "Marks", "--timeout", "1s"}, "flow Marks: unserved", why)
	}
	back := func() {
		t.Helper()
		until(t, "the flow is served", served)
		runs(t, g, "", []string{"rollout", "status", "Marks"}, "flow Marks: active")
		if out := runs(t, g, "", []string{"get", "flow", "Marks"}); strings.Contains(out, "unserved") {
			t.Errorf("while a worker can run it:\n%s", out)
		}
	}
	back()
	g.Worker(0).Drain()
	unserved("no worker has registered")
	other := g.AddWorker(flowtest.WorkerConfig{Register: registers("Other")})
	unserved("function Check is missing on 1 live workers")
	other.Drain()

	// rollout status waits for a worker that is about to come back, and reports the state after that.
	status := begin(t, g, "", "rollout", "status", "Marks")
	status.out.await(t, "flow Marks: unserved")
	w := g.AddWorker(flowtest.WorkerConfig{})
	if out, err := status.end(t); err != nil || !strings.HasSuffix(strings.TrimSpace(out), "flow Marks: active, taken by 1 of 1 workers") {
		t.Errorf("rollout status ended with %v:\n%s", err, out)
	}
	back()
	heal := w.Cut()
	unserved("worker " + w.ID() + ": ")
	heal()
	back()

	// A flow that is disabled is not unserved, nor is a deleted one.
	runs(t, g, strings.Replace(marks([]string{"Check"}), "status: 1", "status: 0", 1), []string{"apply", "-f", "-"}, "disabled")
	w.Drain()
	runs(t, g, "", []string{"rollout", "status", "Marks"}, "flow Marks: disabled")
	until(t, "the metric says nothing of it", served)
}

// undo drops a revision that is not active. Only when the newest revision is active does it go back to an older one.
func TestUndo(t *testing.T) {
	for name, bad := range map[string]string{
		"rejected":      marks([]string{"Check"}, "copies: 7") + "---\nkistype: func\nfname: Check\nfmode: Calculate\n",
		"a connector's": marks([]string{"Check"}) + "option:\n  cname: Lost\n---\nkistype: conn\ncname: Lost\ntype: redis\naddrs: ${KISGRID_TEST_NOBODY_HAS_IT}\nkey: k\n",
		"pending":       marks([]string{"Check", "Third"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := flowtest.Cluster(t, 1, flowtest.Register(registers("Check")))
			runs(t, g, marks([]string{"Check"}, "copies: 1"), []string{"apply", "-f", "-"}, "active")
			runs(t, g, marks([]string{"Check"}, "copies: 2"), []string{"apply", "-f", "-"}, "active")
			if name == "rejected" {
				bad = strings.Replace(bad, "---\nkistype: func\nfname: Check\nfmode: Verify\n", "", 1)
			}
			fails(t, g, bad, []string{"apply", "-f", "-", "--timeout", "3s"}, "flow Marks: ", "stays active")
			runsOn := func(copies string) {
				t.Helper()
				out := runs(t, g, "", []string{"get", "flow", "Marks"}, "copies: "+copies, "active\n")
				if strings.Contains(out, "because") {
					t.Errorf("it is not settled:\n%s", out)
				}
			}
			out := runs(t, g, "", []string{"rollout", "undo", "Marks"}, "the newest documents are not active, and are dropped; revision ", " stays", "flow Marks: active")
			if strings.Contains(out, "copies: 1") {
				t.Errorf("it goes back behind the active revision:\n%s", out)
			}
			runsOn("2")
			if out := runs(t, g, "", []string{"rollout", "undo", "Marks"}, "+copies: 1", "flow Marks: active"); strings.Contains(out, "dropped") {
				t.Errorf("the second undo says:\n%s", out)
			}
			runsOn("1")
			runs(t, g, "", []string{"rollout", "undo", "Marks"}, "+copies: 2", "flow Marks: active")
			runsOn("2")
		})
	}
	g := flowtest.Cluster(t, 1, flowtest.Register(registers("Check")))
	fails(t, g, marks([]string{"Third"}), []string{"apply", "-f", "-", "--timeout", "1s"}, "pending")
	fails(t, g, "", []string{"rollout", "undo", "Marks"}, "no revision of flow", "kisgrid delete flow")
}

// TestUndoToWhatIsRefusedByNow checks that undo can go back to a revision that was accepted once, although rules that came later
// would refuse its documents. Documents that were never accepted are refused.
func TestUndoToWhatIsRefusedByNow(t *testing.T) {
	t.Parallel()
	g := flowtest.Cluster(t, 1, flowtest.Register(registers("Check")))
	runs(t, g, marks([]string{"Check"}, "copies: 1"), []string{"apply", "-f", "-"}, "active")
	runs(t, g, marks([]string{"Check"}, "copies: 2"), []string{"apply", "-f", "-"}, "active")
	etcd := etcdOf(t, g)
	history, err := etcd.Get(t.Context(), "/kisgrid/history/flow/Marks/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend))
	if err != nil || len(history.Kvs) != 2 {
		t.Fatalf("%d entries, error %v", len(history.Kvs), err)
	}
	first := history.Kvs[0]
	if old := strings.Replace(string(first.Value), "copies: 1", "copies: 010", 1); old == string(first.Value) {
		t.Fatalf("the entry does not have its text: %s", first.Value)
	} else if _, err := etcd.Put(t.Context(), string(first.Key), old); err != nil {
		t.Fatal(err)
	}
	runs(t, g, "", []string{"rollout", "undo", "Marks"}, "flow Marks: active")
	runs(t, g, "", []string{"get", "flow", "Marks"}, "copies: 010", "active\n")
	fails(t, g, marks([]string{"Check"}, "copies: 011"), []string{"apply", "-f", "-"}, "copies: is 011")
}
