package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// numbered is a row of the flows whose functions go wrong. They do so for rows whose N is 1.
type numbered struct {
	ID int `json:"id"`
	N  int `json:"n"`
}

// registerTroubled registers functions that go wrong, each in another way, on a row whose n is 1. They pass on rows whose n is 0.
func registerTroubled(release <-chan struct{}) func(*kis.Registry) {
	return func(r *kis.Registry) {
		trouble := func(what func(ctx context.Context) error) kis.Func {
			return kis.Verify(func(ctx context.Context, row numbered) error {
				if row.N == 1 {
					return what(ctx)
				}
				return nil
			})
		}
		r.Func("Fails", trouble(func(context.Context) error { return errors.New("no luck today") }))
		r.Func("Panics", trouble(func(context.Context) error { panic("out of cheese") }))
		r.Func("Hangs", trouble(func(context.Context) error { <-release; return nil }))
		r.Func("Drops", trouble(func(context.Context) error { return kis.Drop("n is %d", 1) }))
	}
}

// troubledDocuments are the documents of a flow for each function of registerTroubled, and of some flows that can't run.
func troubledDocuments() []definition.Document {
	docs := []definition.Document{
		testgrid.Document(definition.KindFlow, "Disabled", "status: 0\nflows: [{fname: Fails}]\n"),
		testgrid.Document(definition.KindFlow, "Orphaned", "status: 1\nflows: [{fname: NobodyHasIt}]\n"),
		testgrid.Document(definition.KindFunc, "NobodyHasIt", "fmode: Verify\n"),
		testgrid.Document(definition.KindFlow, "Misspelt", "status: 1\nshard_kye: id\nflows: [{fname: Fails}]\n"),
	}
	for _, name := range []string{"Fails", "Panics", "Hangs", "Drops"} {
		docs = append(docs,
			testgrid.Document(definition.KindFunc, name, "fmode: Verify\ntimeout: 2s\n"),
			testgrid.Document(definition.KindFlow, name, "status: 1\nshard_key: id\nflows: [{fname: "+name+"}]\n"))
	}
	return docs
}

// TestBadInput submits each kind of bad row, and checks its outcome, code and reason. The good rows beside it must be done.
func TestBadInput(t *testing.T) {
	release := make(chan struct{})
	g := flowtest.Cluster(t, 2, flowtest.Register(registerTroubled(release)))
	t.Cleanup(func() { close(release) })
	if err := g.Put(troubledDocuments()...); err != nil {
		t.Fatal(err)
	}
	k := g.Client(client.WithRetryFor(0))
	good := `{"id":1,"n":0}`
	for _, flow := range []string{"Fails", "Panics", "Hangs", "Drops"} {
		testprocess.Until(t, flow+" is active", func() error {
			_, err := k.Submit(t.Context(), flow, client.Rows(good))
			return err
		})
	}
	for flow, code := range map[string]batch.Code{"Disabled": batch.CodeFlowDisabled, "Orphaned": batch.CodeNoCapableWorker, "Misspelt": batch.CodeFlowUncompilable} {
		testprocess.Until(t, flow+" is refused", func() error {
			_, err := k.Submit(t.Context(), flow, client.Rows(good))
			if batch.CodeOf(err) != code {
				return fmt.Errorf("the error is %w", err)
			}
			return nil
		})
	}

	rows := []struct {
		name, flow, row string
		outcome         batch.Outcome
		code            batch.Code
		reason          string
	}{
		{"a row that is not JSON", "Fails", `not json`, batch.Dead, batch.CodeRowUndecodable, "JSON"},
		{"half a row", "Fails", `{"id":1,`, batch.Dead, batch.CodeRowUndecodable, ""},
		{"a wrong type", "Fails", `{"id":1,"n":"one"}`, batch.Dead, batch.CodeRowUndecodable, "n"},
		{"a shard key of a wrong type", "Fails", `{"id":"one","n":0}`, batch.Dead, batch.CodeRowUndecodable, "id"},
		{"no shard key", "Fails", `{"n":0}`, batch.Dead, batch.CodeMissingShardKey, `"id"`},
		{"a shard key that is null", "Fails", `{"id":null}`, batch.Dead, batch.CodeMissingShardKey, `"id"`},
		{"a row over the limit", "Fails", `{"id":1,"pad":"` + strings.Repeat("x", 1<<20) + `"}`, batch.Dead, batch.CodeRowTooLarge, "limit of 1048576 bytes"},
		{"an error", "Fails", `{"id":1,"n":1}`, batch.Dead, batch.CodeFunctionError, "no luck today"},
		{"a panic", "Panics", `{"id":1,"n":1}`, batch.Dead, batch.CodeFunctionPanic, "out of cheese"},
		{"a function that never returns", "Hangs", `{"id":1,"n":1}`, batch.Dead, batch.CodeFunctionTimeout, "2s"},
		{"a row that is dropped", "Drops", `{"id":1,"n":1}`, batch.Filtered, batch.CodeDropped, "n is 1"},
	}
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			r, err := k.Submit(t.Context(), c.flow, client.Rows(good, c.row, `{"id":2,"n":0}`))
			if err != nil {
				t.Fatal(err)
			}
			if len(r.NotDone) != 1 {
				t.Fatalf("the rows that are not done: %+v", r.NotDone)
			}
			got := r.NotDone[0]
			if got.Row != 1 || got.Outcome != c.outcome || got.Code != c.code || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("the row ended so: %+v\nwant %s, %s, and a reason with %q", got, c.outcome, c.code, c.reason)
			}
		})
	}

	columns := func(ends ...uint32) *client.Batch { return client.Pack(batch.Columns{Data: []byte(good), Ends: ends}) }
	batches := []struct {
		name, flow string
		batch      *client.Batch
		code       batch.Code
		message    string
	}{
		{"an unknown flow", "Nowhere", client.Rows(good), batch.CodeUnknownFlow, `no flow "Nowhere"`},
		{"a disabled flow", "Disabled", client.Rows(good), batch.CodeFlowDisabled, "status: 1"},
		{"a flow whose function no worker has", "Orphaned", client.Rows(good), batch.CodeNoCapableWorker, "NobodyHasIt"},
		{"a document with an unknown key", "Misspelt", client.Rows(good), batch.CodeFlowUncompilable, "shard_kye"},
		{"an empty batch", "Fails", client.Rows[string](), batch.CodeEmptyBatch, "at least one"},
		{"columns that end early", "Fails", columns(3), batch.CodeBadColumns, "3 of 14 bytes"},
		{"columns that run backwards", "Fails", columns(9, 3, 14), batch.CodeBadColumns, "row 1 ends at byte 3"},
	}
	for _, c := range batches {
		t.Run(c.name, func(t *testing.T) {
			_, err := k.Submit(t.Context(), c.flow, c.batch)
			if batch.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.message) {
				t.Errorf("the error is %v\nwant %s with %q", err, c.code, c.message)
			}
			if errors.Is(err, client.ErrUnanswered) {
				t.Error("a batch that was refused before any row ran is called unanswered")
			}
		})
	}

	// No other row was affected.
	for _, flow := range []string{"Fails", "Panics", "Hangs", "Drops"} {
		if r, err := k.Submit(t.Context(), flow, client.Rows(good)); err != nil || len(r.NotDone) != 0 {
			t.Errorf("afterwards a good row of %s gives %+v, %v", flow, r, err)
		}
	}
}
