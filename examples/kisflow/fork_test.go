package kisflow

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

type order struct {
	ID    int    `json:"id"`
	Items []item `json:"items"`
}

type item struct {
	Name string `json:"name"`
}

const splitDocuments = `kistype: flow
status: 1
flow_name: Orders
shard_key: id
flows: [{fname: Split}]
---
kistype: func
fname: Split
fmode: Expand
`

// On a cluster a function that runs a fork of its flow is told what to do instead, and doing that works.
func TestForkInACluster(t *testing.T) {
	before := func(ctx context.Context, flow kis.Flow, orders []*order) error {
		fork := flow.Fork(ctx)
		for _, order := range orders {
			_ = fork.CommitRowBatch(order.Items)
		}
		return fork.Run(ctx)
	}
	after := func(_ context.Context, flow kis.Flow, orders []*order) error {
		for i, order := range orders {
			if err := flow.From(i).CommitRowBatch(order.Items); err != nil {
				return err
			}
		}
		return nil
	}
	conf := t.TempDir()
	if err := os.WriteFile(filepath.Join(conf, "orders.yml"), []byte(splitDocuments), 0o600); err != nil {
		t.Fatal(err)
	}
	split := func(fn kis.FaaS) *batch.Result {
		local, err := flowexec.NewLocal(conf, func(r *kis.Registry) { r.FaaS("Split", fn) })
		if err != nil {
			t.Fatal(err)
		}
		defer local.Close()
		result, err := local.Submit(t.Context(), "Orders", batch.Rows(order{1, []item{{"a"}, {"b"}}}, order{2, []item{{"c"}}}))
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	refused := split(before)
	if len(refused.NotDone) != 2 || len(refused.Output.Origins) > 0 {
		t.Fatalf("with a fork: %+v", refused)
	}
	if o := refused.NotDone[0]; o.Outcome != batch.Dead || !strings.Contains(o.Reason, "flow.From(i)") || !strings.Contains(o.Reason, "package client") {
		t.Errorf("it is told %+v", o)
	}
	if result := split(after); len(result.NotDone) > 0 || len(result.Output.Origins) != 3 || result.Output.Origins[2] != 1 {
		t.Errorf("with commits: %+v", result)
	}
}
