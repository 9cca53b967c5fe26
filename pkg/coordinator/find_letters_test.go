package coordinator

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestFilterSeesMaskedRows looks for letters by contents that are hidden from some callers. A filter must not tell of hidden contents by which
// letters it selects.
func TestFilterSeesMaskedRows(t *testing.T) {
	store, err := deadletter.Open(deadletter.Config{URL: "redis://" + miniredis.RunT(t).Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	field := batch.NewKeyField("id")
	key, err := field.HashValue([]byte("101"))
	if err != nil {
		t.Fatal(err)
	}
	l := &deadletter.Letter{
		ID: batch.NewStreamID(), Sequence: 1, Flow: "Mine", Function: "echo", Code: batch.CodeFunctionError, Reason: "4711 is no card", ShardKey: "id", Key: key,
		Row: []byte(`{"id":101,"name":"Ada","card":"4711"}`), Origin: batch.RowID{Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 3}},
	}
	if _, err := store.Keep(t.Context(), "Mine", []*deadletter.Letter{l}); err != nil {
		t.Fatal(err)
	}
	var f accessFile
	f.add("sees", "Mine", access.Rights())
	f.add("masked", "Mine", []access.Right{access.View, access.Rows, access.Operate}, "card", "id")
	f.add("viewer", "Mine", []access.Right{access.View})
	f.add("operator", "Mine", []access.Right{access.Operate})
	r := newRig(t, func(c *Config) { c.DeadLetters, c.AccessFile = store, f.write(t) })
	client := pb.NewAdminClient(r.conn)
	list := func(ctx context.Context, in *pb.ListDeadRequest) (n int, err error) {
		events, err := client.ListDead(ctx, in)
		for err == nil {
			var e *pb.DeadEvent
			if e, err = events.Recv(); e.GetLetter() != nil {
				n++
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, wire.FromStatus(err)
	}
	fields := func(name, value string) *pb.DeadFilter {
		return &pb.DeadFilter{Fields: []*pb.FieldValue{{Field: name, Value: value}}}
	}
	for _, c := range []struct {
		filter       *pb.DeadFilter
		sees, masked int
	}{
		{fields("name", "Ada"), 1, 1},
		{fields("card", "4711"), 1, 0},
		{&pb.DeadFilter{Text: "Ada"}, 1, 1},
		{&pb.DeadFilter{Text: "4711"}, 1, 0},
		{&pb.DeadFilter{Text: "is no card"}, 1, 0},
		{&pb.DeadFilter{Key: "101"}, 1, 0},
		{&pb.DeadFilter{Batch: l.Origin.Batch.String()}, 1, 1},
		{&pb.DeadFilter{Batch: l.Origin.Batch.Stream.String() + "-4"}, 0, 0},
	} {
		for who, want := range map[string]int{"sees": c.sees, "masked": c.masked} {
			if n, err := list(f.as(t, who), &pb.ListDeadRequest{Filter: c.filter}); err != nil || n != want {
				t.Errorf("%s finds %d letters by %v, want %d: %v", who, n, c.filter, want, err)
			}
		}
		content := c.filter.GetBatch() == ""
		n, err := list(f.as(t, "viewer"), &pb.ListDeadRequest{Filter: c.filter, NoRows: true})
		if err != nil || n != 0 && content {
			t.Errorf("a viewer finds %d letters by %v: %v", n, c.filter, err)
		}
		named := &pb.DeadFilter{Flow: "Mine", Fields: c.filter.GetFields(), Text: c.filter.GetText(), Key: c.filter.GetKey(), Batch: c.filter.GetBatch()}
		_, err = client.DropDead(f.as(t, "operator"), &pb.DropDeadRequest{Filter: named, DryRun: true})
		if denied := batch.CodeOf(wire.FromStatus(err)) == batch.CodePermissionDenied; denied != content {
			t.Errorf("an operator selects by %v: %v", named, err)
		}
	}
	for _, id := range []string{l.ID.String(), l.ID.String()[:8]} {
		if n, err := list(f.as(t, "viewer"), &pb.ListDeadRequest{Filter: &pb.DeadFilter{Ids: []string{id}}, NoRows: true}); err != nil || n != 1 {
			t.Errorf("%s finds %d letters: %v", id, n, err)
		}
	}
}

// TestPruneKeepsOthers deletes only documents that the caller may change.
func TestPruneKeepsOthers(t *testing.T) {
	var f accessFile
	f.add("mine", "Mine, Mine-*", access.Rights())
	f.add("all", "'*'", access.Rights())
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	client := pb.NewAdminClient(r.conn)
	apply := func(who string, prune bool, docs ...*pb.Document) (actions []string) {
		t.Helper()
		events, err := client.Apply(f.as(t, who), &pb.ApplyRequest{Documents: docs, Prune: prune})
		for err == nil {
			var e *pb.ApplyEvent
			if e, err = events.Recv(); e.GetDiff() != nil {
				for _, c := range e.GetDiff().GetChanges() {
					actions = append(actions, c.GetAction()+" "+c.GetKind()+"/"+c.GetName())
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return actions
	}
	doc := func(kind, name string, yaml []byte) *pb.Document {
		return &pb.Document{Kind: kind, Name: name, Yaml: yaml}
	}
	flow := func(name string, function string) *pb.Document {
		return doc("flow", name, flowDocument(name, "id", function, "status: 0").YAML)
	}
	echo, other := doc("func", "echo", funcDocument("echo").YAML), doc("func", "other", funcDocument("other").YAML)
	apply("all", false, flow("Mine", "echo"), flow("Mine-2", "echo"), flow("Other", "other"), echo, other)
	if got := apply("mine", true, flow("Mine", "echo"), echo); !slices.Equal(got, []string{"unchanged flow/Mine", "unchanged func/echo", "delete flow/Mine-2"}) {
		t.Errorf("a caller with rights on some flows prunes %q", got)
	}
	if got := apply("all", true, flow("Mine", "echo"), echo); len(got) != 4 || !slices.Contains(got, "delete flow/Other") || !slices.Contains(got, "delete func/other") {
		t.Errorf("a caller with all rights prunes %q", got)
	}
}
