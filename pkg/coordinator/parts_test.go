package coordinator

import (
	"fmt"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// manyDocuments are n flows, each with a function and a connector of its own, in no good order.
func manyDocuments(n int) (docs []definition.Document) {
	for i := range n {
		docs = append(docs, flowDocument(fmt.Sprintf("F%d", i), "id", fmt.Sprintf("save%d", i)),
			definition.Document{Kind: definition.KindFunc, Name: fmt.Sprintf("save%d", i), YAML: fmt.Appendf(nil,
				"kistype: func\nfname: save%d\nfmode: Save\noption:\n  cname: shelf%d\n  save:\n    key: a\n    set:\n      x: x\n", i, i)},
			definition.Document{Kind: definition.KindConn, Name: fmt.Sprintf("shelf%d", i), YAML: fmt.Appendf(nil, "kistype: conn\ncname: shelf%d\ntype: memory\nkey: k\n", i)})
	}
	return docs
}

// TestApplyInParts finds a document changed by somebody else between two parts.
func TestApplyInParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, _ = r.join("w")
	docs := manyDocuments(60)
	in := &pb.ApplyRequest{InParts: true}
	for _, d := range docs {
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	stream, err := pb.NewAdminClient(r.conn).Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&applying{t, stream}).ends(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"F0", "F59"} {
		if e := r.c.board.Load().Flows[d]; e == nil || e.Active == nil || e.Status.Wanted != e.Status.Active {
			t.Errorf("flow %s has not settled: %+v", d, e)
		}
	}
	_, stored, err := r.store.Documents(t.Context())
	if err != nil || len(stored) != len(docs) {
		t.Fatalf("%d documents stand, %v", len(stored), err)
	}
}
