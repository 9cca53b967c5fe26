package flowexec_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

type numbered struct {
	ID int `json:"id"`
}

// What a function says after it asked for its connection has no value of ${NAME}: errors of the client behind it do.
func TestFunctionsSayNoValues(t *testing.T) {
	files := fstest.MapFS{"all.yml": {Data: []byte("kistype: flow\nstatus: 1\nflow_name: F\nshard_key: id\nflows:\n  - fname: save\n---\n" +
		"kistype: func\nfname: save\nfmode: Save\noption:\n  cname: Store\n---\nkistype: conn\ncname: Store\ntype: memory\nkey: ${SECRET}\n")}}
	local, err := flowexec.NewLocalFS(files, func(r *kis.Registry) {
		r.Func("save", kis.Save(func(ctx context.Context, _ kis.Writer, row numbered) error {
			if _, err := kis.From(ctx).Connection(); err != nil {
				return err
			}
			if row.ID == 1 {
				panic("can't reach hunter2")
			}
			return fmt.Errorf("dial tcp: lookup hunter2: no such host")
		}))
	}, flowexec.WithOpeners(map[string]connector.Opener{"memory": memory.New().Open}),
		flowexec.WithEnvironment(func(string) (string, bool) { return "hunter2", true }))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	result, err := local.Submit(t.Context(), "F", batch.Rows(numbered{1}, numbered{2}))
	if err != nil || len(result.NotDone) != 2 {
		t.Fatalf("%v, %v", result, err)
	}
	for _, o := range result.NotDone {
		if strings.Contains(o.Reason, "hunter2") || !strings.Contains(o.Reason, "${SECRET}") {
			t.Errorf("row %d: %s", o.Row, o.Reason)
		}
	}
}
