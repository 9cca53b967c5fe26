package cluster_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// testLogs tests that terms of a log rise, whoever begins them, and that the log stays on its revision, which the history keeps, until it is
// drained.
func testLogs(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	l := lead(t, store, "c-1")
	id := batch.LogIDOf("topic", "0")
	activate := func(revision int64, ago time.Duration) {
		t.Helper()
		if err := l.Activate(t.Context(), status("F", revision), entry("F", revision, time.Now().Add(-ago))); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(floor uint64, drained bool, want cluster.Log) {
		t.Helper()
		got, err := store.BeginTerm(t.Context(), "F", id, floor, cluster.TermOptions{Drained: drained})
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(got.Began) > time.Hour {
			t.Errorf("it began at %v", got.Began)
		}
		want.Flow, want.ID, want.Began = "F", id, got.Began
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("the log (- wanted, + got):\n%s", diff)
		}
	}
	_, err := store.BeginTerm(t.Context(), "F", id, 0, cluster.TermOptions{})
	wantCode(t, err, batch.CodeUnknownFlow)
	if err := l.PutStatus(t.Context(), cluster.FlowStatus{Flow: "F", State: cluster.StatePending}); err != nil {
		t.Fatal(err)
	}
	_, err = store.BeginTerm(t.Context(), "F", id, 0, cluster.TermOptions{})
	wantCode(t, err, batch.CodeFlowDisabled)

	activate(10, 3*time.Hour)
	begin(5, false, cluster.Log{Term: 1, Revision: 10, Floor: 5})
	activate(20, 2*time.Hour)
	begin(5, false, cluster.Log{Term: 2, Revision: 10, Floor: 5})
	_, err = store.BeginTerm(t.Context(), "F", id, 4, cluster.TermOptions{})
	wantCode(t, err, batch.CodeLogRewound, "its floor is 5")
	activate(30, time.Hour)
	if err := l.TrimHistory(t.Context(), "F", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if history := revisionsOf(t, store, "F"); !slices.Equal(history, []int64{10, 30}) {
		t.Errorf("the history has %v: the log runs on 10, and nobody on 20", history)
	}
	begin(7, true, cluster.Log{Term: 3, Revision: 30, Floor: 7})
	activate(40, time.Hour)
	if err := l.TrimHistory(t.Context(), "F", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if history := revisionsOf(t, store, "F"); !slices.Equal(history, []int64{30, 40}) {
		t.Errorf("the history has %v: the log runs on 30, and no longer on 10", history)
	}

	// Readers that begin at the same time all get terms of their own.
	var mu sync.Mutex
	var terms []uint64
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			got, err := store.BeginTerm(t.Context(), "F", id, 7, cluster.TermOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			terms = append(terms, got.Term)
		})
	}
	readers.Wait()
	if slices.Sort(terms); !slices.Equal(terms, []uint64{4, 5, 6, 7}) {
		t.Errorf("terms of readers that began together: %v", terms)
	}

	// A history that has lost the revision stops the log, unless it is drained. A record that can't be read stops it, too.
	raw := s.raw(t)
	if _, err := raw.Delete(t.Context(), prefix(t)+"history/flow/F/30"); err != nil {
		t.Fatal(err)
	}
	_, err = store.BeginTerm(t.Context(), "F", id, 8, cluster.TermOptions{})
	wantCode(t, err, batch.CodeRevisionGone)
	begin(8, true, cluster.Log{Term: 8, Revision: 40, Floor: 8})
	if got, err := store.BeginTerm(t.Context(), "F", id, 3, cluster.TermOptions{Resume: true}); err != nil || got.Term != 9 || got.Floor != 8 {
		t.Errorf("a reader without a floor of its own: %+v, %v", got, err)
	}
	if logs, err := store.Logs(t.Context(), "F"); err != nil || len(logs) != 1 || logs[0].Term != 9 {
		t.Errorf("logs of the flow: %+v, %v", logs, err)
	}
	put(t, raw, prefix(t)+"log/F/"+id.String(), "no JSON")
	_, err = store.BeginTerm(t.Context(), "F", id, 8, cluster.TermOptions{})
	wantCode(t, err, batch.CodeInternal, "can't be read")
}

// revisionsOf returns the revisions in the history of a flow.
func revisionsOf(t *testing.T, s *cluster.Store, flow string) (all []int64) {
	t.Helper()
	history, err := s.History(t.Context(), flow)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range history {
		all = append(all, e.Revision)
	}
	return all
}
