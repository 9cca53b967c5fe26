package flowexec_test

import (
	"context"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A test puts data into the connectors of a Local before, and looks at them afterwards. Test files beside the documents are passed over.
func TestWithMemory(t *testing.T) {
	ctx := context.Background()
	store := memory.New()
	conn, err := store.Open(ctx, &definition.Connector{Name: "Store"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Save(ctx, connector.Cause{}, []connector.Effect{{Op: connector.Incr, Key: "p_a", Field: "n", Value: "40"}}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	local, err := flowexec.NewLocalFS(fstest.MapFS{
		"all.yml": {Data: []byte("kistype: flow\nstatus: 1\nflow_name: Sum\nflows: [{fname: Add}]\n---\nkistype: func\nfname: Add\nfmode: Save\noption: {cname: Store, save: {key: '{id}', incr: {n: n}}}\n" +
			"---\nkistype: conn\ncname: Store\ntype: redis\naddrs: nowhere\nkey: p_\nparams: {pool_size: 3}\n")},
		"all_test.yml": {Data: []byte("tests: []\n")},
	}, func(*kis.Registry) {}, flowexec.WithMemory(store))
	if err != nil {
		t.Fatal(err)
	}
	result, err := local.Submit(ctx, "Sum", batch.Rows(map[string]any{"id": "a", "n": 2}))
	if err != nil || len(result.NotDone) > 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if err := local.Close(); err != nil {
		t.Error(err)
	}
	_, hashes := store.Data("Store")
	if diff := cmp.Diff(map[string]map[string]string{"p_a": {"n": "42"}}, hashes); diff != "" {
		t.Error(diff)
	}
}
