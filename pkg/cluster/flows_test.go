package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func followFlows(t *testing.T, s *cluster.Store) *following[[]cluster.ActiveFlow] {
	t.Helper()
	return startFollowing(t, s.FollowFlows)
}

func lead(t *testing.T, s *cluster.Store, id string) *cluster.Leadership {
	t.Helper()
	l, err := s.Campaign(t.Context(), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Resign(context.Background()) })
	return l
}

func status(flow string, active int64) cluster.FlowStatus {
	return cluster.FlowStatus{Flow: flow, Wanted: active, Active: active, State: cluster.StateActive}
}

func entry(flow string, revision int64, accepted time.Time) cluster.HistoryEntry {
	documents := []definition.Document{{Kind: "flow", Name: flow, YAML: []byte(fmt.Sprint("revision ", revision)), Revision: revision}}
	return cluster.HistoryEntry{Flow: flow, Revision: revision, Accepted: accepted, Enabled: true, Documents: documents, Digest: definition.Digest(documents)}
}

func testFlows(t *testing.T, s *server) {
	log := newJournal()
	leader, other := s.open(t, cluster.Config{}), s.open(t, cluster.Config{Logger: log})
	follower := followFlows(t, other)
	if first := <-follower.states; len(first) != 0 {
		t.Errorf("shown at first, of nothing: %v", first)
	}
	l := lead(t, leader, "c-1")
	wanted := cluster.FlowStatus{
		Flow: "B", Wanted: 7, State: cluster.StateRejected, Applied: 1, Of: 2, Updated: workerA.Started,
		Workers: []cluster.WorkerVerdict{{ID: "a-1", State: "rejected", Reasons: []string{"no function F"}}}, Reasons: []string{"a-1: no function F"},
	}
	if err := l.PutStatus(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	got := follower.await(t, "B", func(flows []cluster.ActiveFlow) bool { return len(flows) == 1 })
	if diff := cmp.Diff([]cluster.ActiveFlow{{Status: wanted}}, got); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}

	// A follower sees a status only with its entry, however fast revisions follow each other, and whenever the follower begins.
	const revisions = 60
	whole := func(flows []cluster.ActiveFlow) bool {
		last := int64(0)
		for _, f := range flows {
			if f.Status.Active == 0 {
				continue
			}
			if f.Active == nil || f.Active.Revision != f.Status.Active || f.Active.Flow != f.Status.Flow {
				t.Errorf("torn apart: %+v with %+v", f.Status, f.Active)
				continue
			}
			last = f.Active.Revision
		}
		return last == revisions
	}
	activating := make(chan error, 1)
	go func() {
		for r := int64(1); r <= revisions; r++ {
			if err := l.Activate(context.Background(), status("A", r), entry("A", r, workerA.Started)); err != nil {
				activating <- err
				return
			}
		}
		activating <- nil
	}()
	for range 3 {
		late := followFlows(t, other)
		late.await(t, "the last revision", whole)
	}
	got = follower.await(t, "the last revision", whole)
	if err := <-activating; err != nil {
		t.Fatal(err)
	}
	e := entry("A", revisions, workerA.Started)
	want := []cluster.ActiveFlow{{Status: status("A", revisions), Active: &e}, {Status: wanted}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}

	read, err := other.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read.Flows); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}

	put(t, s.raw(t), prefix(t)+"status/flow/B", "not JSON")
	put(t, s.raw(t), prefix(t)+"status/func/F", "{}")
	follower.await(t, "B unreadable", func(flows []cluster.ActiveFlow) bool { return len(flows) == 1 })
	if err := l.DeleteStatus(t.Context(), "A"); err != nil {
		t.Fatal(err)
	}
	follower.await(t, "no flow", func(flows []cluster.ActiveFlow) bool { return len(flows) == 0 })
	if err := l.DeleteStatus(t.Context(), "A"); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
	log.await(t, 1, "status/flow/B") // one of the four followers tells of it
	if n := log.count("status/flow/B"); n != 1 || log.count("skipping") != 1 {
		t.Errorf("want one report, of B:\n%s", log.text)
	}
}

func testHistory(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	l := lead(t, store, "c-1")
	now := time.Now().UTC()
	for r := int64(1); r <= 14; r++ {
		// Revision 3 ruled until 5 minutes ago; it and later ones are young enough.
		accepted := now.Add(-time.Hour)
		if r >= 4 {
			accepted = now.Add(-5 * time.Minute)
		}
		if err := l.Activate(t.Context(), status("A", r), entry("A", r, accepted)); err != nil {
			t.Fatal(err)
		}
	}
	odd := entry("AB", 20, now) // whose name begins like A's
	odd.ShardKey = "stu_id"
	odd.Enabled = false
	odd.Documents = []definition.Document{
		{Kind: "flow", Name: "AB", YAML: []byte("<&> \"quoted\"\n\u2028"), Revision: 20},
		{Kind: "func", Name: "latin", YAML: []byte("\xe4\n"), Revision: 3},
		{Kind: "func", Name: "quotes", YAML: []byte(strings.Repeat("\"\n", 400<<10)), Revision: 4},
		{Kind: "conn", Name: "empty", Revision: 5},
	}
	odd.Digest = definition.Digest(odd.Documents)
	if err := l.Activate(t.Context(), status("AB", 20), odd); err != nil {
		t.Fatal(err)
	}
	got, err := store.Revision(t.Context(), "AB", 20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&odd, got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("an odd entry (-want +got):\n%.2000s", diff)
	}
	answer, err := s.raw(t).Get(t.Context(), prefix(t)+"history/flow/A/14")
	if err != nil || len(answer.Kvs) != 1 || !strings.Contains(string(answer.Kvs[0].Value), `"yaml":"revision 14"`) {
		t.Errorf("history is not readable by people: %v, %v", answer, err)
	}
	odd.Documents[2].YAML = []byte(strings.Repeat("x", 3<<19))
	err = l.Activate(t.Context(), status("AB", 20), odd)
	wantCode(t, err, batch.CodeBadDocument, `revision 20 of flow "AB"`, "etcd takes 1572864")

	for _, c := range []struct {
		keep int
		age  time.Duration
		want []int64
	}{
		{14, 0, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}},
		{cluster.HistoryKeep, cluster.HistoryAge, []int64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}},
		{cluster.HistoryKeep, time.Minute, []int64{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}},
		{0, cluster.HistoryAge, []int64{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}},
		{0, time.Minute, nil},
	} {
		if err := l.TrimHistory(t.Context(), "A", c.keep, c.age); err != nil {
			t.Fatal(err)
		}
		history, err := store.History(t.Context(), "A")
		if err != nil {
			t.Fatal(err)
		}
		var kept []int64
		for _, e := range history {
			kept = append(kept, e.Revision)
		}
		if diff := cmp.Diff(c.want, kept); diff != "" {
			t.Errorf("keep %d, %s (-want +got):\n%s", c.keep, c.age, diff)
		}
	}
	_, err = store.Revision(t.Context(), "A", 14)
	wantCode(t, err, batch.CodeRevisionGone, `revision 14 of flow "A"`)
	if _, err := store.Revision(t.Context(), "AB", 20); err != nil {
		t.Errorf("the other flow's: %v", err)
	}
	wantCode(t, l.Activate(t.Context(), status("A", 2), entry("A", 3, now)), batch.CodeInternal)
	wantCode(t, l.Activate(t.Context(), status("a/b", 2), entry("a/b", 2, now)), batch.CodeInternal, "slash")
	wantCode(t, l.PutStatus(t.Context(), status("", 2)), batch.CodeInternal, "empty")
}

func testCampaign(t *testing.T, s *server) {
	one, two := s.open(t, cluster.Config{}), s.open(t, cluster.Config{})
	first := lead(t, one, "c-1")
	elected := make(chan *cluster.Leadership, 1)
	go func() {
		l, err := two.Campaign(context.Background(), "c-2", time.Minute)
		if err != nil {
			t.Error(err)
		}
		elected <- l
	}()
	raw := s.raw(t)
	awaitKeys(t, raw, prefix(t)+"leader/", 2)
	select {
	case <-elected:
		t.Fatal("two lead")
	default:
	}
	if err := first.Activate(t.Context(), status("A", 1), entry("A", 1, time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := first.Resign(t.Context()); err != nil {
			t.Error(err)
		}
	}
	second := <-elected
	for what, err := range map[string]error{
		"Activate":     first.Activate(t.Context(), status("A", 2), entry("A", 2, workerA.Started)),
		"PutStatus":    first.PutStatus(t.Context(), status("A", 1)),
		"DeleteStatus": first.DeleteStatus(t.Context(), "A"),
		"TrimHistory":  first.TrimHistory(t.Context(), "A", 0, 0),
	} {
		if !errors.Is(err, cluster.ErrNotLeader) {
			t.Errorf("%s by the former leader: %v", what, err)
		}
		wantCode(t, err, batch.CodeConflict, `flow "A"`, "does not lead any more")
	}
	awaitClosed(t, "Lost of the former leader", first.Lost())
	history, err := two.History(t.Context(), "A")
	if err != nil || len(history) != 1 {
		t.Errorf("the former leader wrote: %v, %v", history, err)
	}
	if err := second.Activate(t.Context(), status("A", 2), entry("A", 2, workerA.Started)); err != nil {
		t.Error(err)
	}
	// A leader whose key somebody deletes.
	if _, err := raw.Delete(t.Context(), prefix(t)+"leader/", withPrefix); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, "Lost after the key", second.Lost())
	wantCode(t, second.Err(), batch.CodeNotFound, "leader/")
	third := lead(t, one, "c-3")
	if err := second.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if err := third.PutStatus(t.Context(), status("A", 2)); err != nil {
		t.Error(err)
	}
	// A campaign given up leaves nothing behind.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := two.Campaign(ctx, "c-4", 0)
		ended <- err
	}()
	awaitKeys(t, raw, prefix(t)+"leader/", 2)
	cancel()
	wantCode(t, <-ended, batch.CodeCancelled)
	awaitKeys(t, raw, prefix(t)+"leader/", 1)
}
