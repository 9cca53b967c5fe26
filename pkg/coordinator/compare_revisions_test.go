package coordinator

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestCompareRevisions applies documents that must still be stored at the revisions at which their authors have read them. Of authors who
// write at the same time one succeeds, and the others are told.
func TestCompareRevisions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := pb.NewAdminClient(r.conn)
	apply := func(revision int64, option string, dry bool) error {
		stream, err := client.Apply(t.Context(), &pb.ApplyRequest{DryRun: dry, CompareRevisions: true, Documents: []*pb.Document{
			{Kind: "flow", Name: "F", Yaml: flowDocument("F", "id", "echo", "status: 0", option).YAML, Revision: revision},
		}})
		if err != nil {
			return err
		}
		return (&applying{t, stream}).ends()
	}
	stored := func() (revision int64, text string) {
		got, err := client.Get(t.Context(), &pb.GetRequest{Kind: "flows", Name: "F"})
		if err != nil {
			t.Fatal(err)
		}
		d := got.GetResources()[0].GetDocument()
		return d.GetRevision(), string(d.GetYaml())
	}
	wantCode(t, apply(1, "copies: 2", false), batch.CodeConflict, "somebody else has deleted flow/F")
	if err := r.apply(false, funcDocument("echo")).ends(); err != nil {
		t.Fatal(err)
	}
	if err := apply(0, "copies: 2", false); err != nil {
		t.Fatal(err)
	}
	first, before := stored()
	wantCode(t, apply(0, "copies: 3", false), batch.CodeConflict, "somebody else has created flow/F")
	wantCode(t, apply(first-1, "copies: 3", true), batch.CodeConflict, fmt.Sprintf("is at revision %d now, and was at %d", first, first-1))
	if now, text := stored(); now != first || text != before {
		t.Fatalf("the document is at revision %d, want %d:\n%s", now, first, text)
	}

	const authors = 6
	errs := make([]error, authors)
	var all sync.WaitGroup
	for i := range authors {
		all.Go(func() { errs[i] = apply(first, fmt.Sprintf("copies: %d", 10+i), false) })
	}
	all.Wait()
	_, text := stored()
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			if !strings.Contains(text, fmt.Sprintf("copies: %d\n", 10+i)) {
				t.Errorf("author %d was told that the document is written, and it is\n%s", i, text)
			}
		} else if code := batch.CodeOf(wire.FromStatus(err)); code != batch.CodeConflict {
			t.Errorf("author %d: %v", i, err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d authors have written the document", won, authors)
	}
}
