package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// The counts of rows come with the coordinator that counted them, and since when.
func TestCountsSayWhose(t *testing.T) {
	g := flowtest.Cluster(t, 1, flowtest.Register(registers("Check")), flowtest.Coordinators(2))
	runs(t, g, marks([]string{"Check"}), []string{"apply", "-f", "-"}, "active")
	first, second := g.Coordinator(0), g.Coordinator(1)
	if r, err := g.Client().Submit(t.Context(), "Marks", client.Rows(mark{1}, mark{2})); err != nil || len(r.NotDone) != 0 {
		t.Fatalf("submit: %v, %v", r, err)
	}
	total := 0
	for _, n := range []*flowtest.Node{first, second} {
		at := n.Address()
		got, err := kisgrid("get", "flows", "--server", at)
		if err != nil {
			t.Fatal(err)
		}
		prints(t, got, "COUNTED FOR", fmt.Sprintf("rows are those that came in through %s at %s; each coordinator counts its own", n.ID(), at))
		got, err = kisgrid("get", "flow", "Marks", "--server", at)
		if err != nil {
			t.Fatal(err)
		}
		prints(t, got, fmt.Sprintf("counted by  %s at %s, since 20", n.ID(), at))
		total += int(n.Metric("kisgrid_rows_in_total", "flow", "Marks"))
		got, err = kisgrid("get", "flow", "Marks", "-o", "json", "--server", at)
		if err != nil {
			t.Fatal(err)
		}
		prints(t, got, fmt.Sprintf(`"by": %q`, n.ID()), fmt.Sprintf(`"at": %q`, at), `"since": "20`, fmt.Sprintf(`"in": %d`, int(n.Metric("kisgrid_rows_in_total", "flow", "Marks"))))
	}
	if total != 2 {
		t.Errorf("both count %d rows", total)
	}
	// Both tell the rows of the whole cluster, as soon as they have asked each other.
	for _, n := range []*flowtest.Node{first, second} {
		until(t, n.ID()+" tells the rows of both", func() bool {
			got, err := kisgrid("get", "flow", "Marks", "--server", n.Address())
			if err != nil {
				t.Fatal(err)
			}
			return containsLine(got, "all rows    in 2; done 2, filtered 0, aborted 0, dead 0, failed 0, in flight 0 (through all coordinators: 2)")
		})
		got, err := kisgrid("get", "flows", "-o", "wide", "--server", n.Address())
		if err != nil {
			t.Fatal(err)
		}
		prints(t, got, "ALL ROWS", "IN/S", "ENDED/S", "ALL IN FLIGHT", "OLDEST", "ALL ROWS, IN/S and ENDED/S are those of all coordinators (2)\n")
		got, err = kisgrid("get", "flows", "-o", "jsonpath={[0].status.cluster.rows.done}", "--server", n.Address())
		if err != nil || !strings.Contains(got, "2") {
			t.Errorf("cluster.rows.done is %s, %v", got, err)
		}
	}
	// The rows of one that has died stay.
	second.Kill()
	until(t, "the dead coordinator is gone", func() bool {
		got, err := kisgrid("get", "flow", "Marks", "--server", first.Address())
		if err != nil {
			t.Fatal(err)
		}
		return containsLine(got, "all rows    in 2; done 2, filtered 0, aborted 0, dead 0, failed 0, in flight 0 (through all coordinators: 1)")
	})
}

// Coordinators whose newest rows are missing in a sum are named.
func TestMissingRowsAreNamed(t *testing.T) {
	var out strings.Builder
	printCluster(&out, coordinator.ClusterRows{Coordinators: 2, Missing: map[string]string{"coordinator-b": "it is away\nfor long", "coordinator-a": "refused"}})
	want := "ALL ROWS, IN/S and ENDED/S are those of all coordinators (2)\nwithout news of coordinator-a: refused\nwithout news of coordinator-b: it is away …\n"
	if out.String() != want {
		t.Errorf("it prints %q instead of %q", out.String(), want)
	}
}

// The shard key of a flow that is not active is the one in its document, whatever else is wrong there.
func TestShardKeyOfRejectedFlow(t *testing.T) {
	g := flowtest.Cluster(t, 0)
	// The document is written into etcd directly, because apply refuses mistakes.
	put(t, g, "flow/Marks", "kistype: flow\nflow_name: Marks\nstatus: 1\nshard_key: id\nbogus: 1\nflows:\n  - fname: Lost\n")
	put(t, g, "flow/Other", "kistype: flow\nflow_name: Other\nstatus: 1\nshard_key: name\nflows:\n  - fname: Lost\n")
	put(t, g, "flow/Plain", "kistype: flow\nflow_name: Plain\nstatus: 1\nflows:\n  - fname: Lost\n")
	put(t, g, "flow/Torn", "kistype: flow\nflow_name: \"Torn\nshard_key: id\n")
	for flow, key := range map[string]string{"Marks": "id", "Other": "name", "Plain": "none", "Torn": "not known: the document can't be read"} {
		until(t, "flow "+flow+" is rejected", func() bool {
			out, err := kisgrid("get", "flow", flow, "--server", g.Coordinator(0).Address())
			if err != nil {
				t.Fatal(err)
			}
			prints(t, out, "shard key   "+key+"\n")
			return containsLine(out, "state       rejected")
		})
	}
	put(t, g, "flow/Marks", "kistype: flow\nflow_name: Marks\nstatus: 1\nshard_key: id\nflows:\n  - fname: Check\n")
	put(t, g, "func/Check", "kistype: func\nfname: Check\nfmode: Verify\n")
	g.AddWorker(flowtest.WorkerConfig{Register: registers("Check")})
	runs(t, g, "", []string{"rollout", "status", "Marks"}, "active")
	put(t, g, "flow/Marks", "kistype: flow\nflow_name: Marks\nstatus: 1\nshard_key: other\nbogus: 1\nflows:\n  - fname: Check\n")
	until(t, "what is wanted is rejected", func() bool {
		out := runs(t, g, "", []string{"get", "flow", "Marks"}, "shard key   id")
		return containsLine(out, "shard key   id (wanted: other)") && containsLine(out, "state       rejected")
	})
}
