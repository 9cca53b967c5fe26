package flowexec_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A row that may be tried for ever ends with the flow's timeout, however quick its attempts and the pauses between them are. The
// clock is the real one, as a virtual one stands still while a lane is at work.
func TestQuickRetriesEnd(t *testing.T) {
	for _, function := range []string{"row Verify", "whole Calculate"} {
		for _, pause := range []string{"0s", "1ns", "1ms"} {
			for _, flowLines := range []string{"shard_key: k\n", ""} {
				t.Run(function+" "+pause+" "+flowLines, func(t *testing.T) {
					t.Parallel()
					fail := func(i in) error {
						if i.N == 1 {
							return errors.New("no")
						}
						return nil
					}
					registry := kis.NewRegistry()
					registry.Func("row", kis.Verify(func(_ context.Context, i in) error { return fail(i) }))
					registry.Func("whole", kis.Batch(func(_ context.Context, rows []in) ([]in, error) {
						for _, i := range rows {
							if err := fail(i); err != nil {
								return nil, err
							}
						}
						return rows, nil
					}))
					plan, err := flowexec.Compile(bundle(t, chain(flowLines+"timeout: 200ms\n", function+"; retry_times: 2000000000; retry_duration: "+pause)), registry)
					if err != nil {
						t.Fatal(err)
					}
					ended := make(chan flowexec.RunResult, 10)
					lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1})
					defer lanes.Stop()
					part := &flowexec.Part{Plan: plan, BatchRows: 3, Attempt: 1, Done: func(r flowexec.RunResult) { ended <- r }}
					for n, key := range []string{"a", "b", "c"} {
						part.Columns.Append([]byte(row(key, n)))
						if flowLines != "" {
							part.Columns.Keys = append(part.Columns.Keys, keyOf(key))
						}
					}
					lanes.Enqueue(part)
					late := time.After(2 * time.Minute)
					for rows, failed := 0, 0; rows < 3; {
						select {
						case r := <-ended:
							if rows += len(r.Rows); r.Rows == nil {
								rows = 3
							}
							for _, o := range r.NotDone {
								if failed++; o.Code != batch.CodeRowTimeout || o.Row != 1 && (function == "row Verify" || flowLines != "") {
									t.Errorf("%+v", o)
								}
							}
							if rows == 3 && failed == 0 {
								t.Error("the row that fails is done")
							}
						case <-late:
							t.Fatalf("only %d rows have ended", rows)
						}
					}
				})
			}
		}
	}
}

// Retries of a call for several keys that the rows have no time for are left out: each key is called alone, and the one that fails
// costs itself alone.
func TestRetriesWithoutTime(t *testing.T) {
	for _, pause := range []string{"1s", "25s", "2m"} {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, "shard_key: k\ntimeout: 1m\n", func(_ *bed, r *kis.Registry) {
				r.Func("f", kis.Batch(func(_ context.Context, rows []in) ([]in, error) {
					for _, i := range rows {
						if i.N == 1 {
							return nil, errors.New("no")
						}
					}
					return rows, nil
				}))
			}, "f Calculate; retry_times: 1000; retry_duration: "+pause)
			p := b.send("a 0", "b 1", "c 2", "a 3")
			time.Sleep(time.Hour)
			b.expectEnded(p, "[0 1 2 3] 1 ROW_TIMEOUT f 0→a0 2→c2 3→a3")
		})
	}
}
