package cluster_test

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

func testSlowFollower(t *testing.T, s *server) {
	store, raw := s.open(t, cluster.Config{}), s.raw(t)
	follower := followDocuments(t, store)
	// The follower is not read: it is held up in its first call, of nothing, while this happens.
	const changes = 120
	last := int64(0)
	for i := range changes {
		last = put(t, raw, fmt.Sprintf("%sconfig/flow/F%d", prefix(t), i%20), fmt.Sprint(i))
		if i%50 == 25 {
			compact(t, raw)
		}
	}
	compact(t, raw)
	s.settle()
	shown := 0
	got := follower.await(t, "the last change", func(d documents) bool { shown++; return d.revision >= last })
	if len(got.all) != 20 || string(got.all[0].YAML) != fmt.Sprint(changes-20) {
		t.Errorf("after all changes: %v", got)
	}
	if shown > changes/2 {
		t.Errorf("%d states were shown to one who slept through %d changes", shown, changes)
	}
}

func testCutOffFollower(t *testing.T, s *server) {
	p := s.line(t)
	log := newJournal()
	store, raw := s.open(t, cluster.Config{Endpoints: []string{p.address}, Network: p.network, Logger: log}), s.raw(t)
	put(t, raw, prefix(t)+"config/flow/A", "1")
	put(t, raw, prefix(t)+"config/flow/B", "1")
	follower := followDocuments(t, store)
	follower.await(t, "A and B", func(d documents) bool { return len(d.all) == 2 })
	p.cut()
	log.await(t, 1, "out of reach")
	last := put(t, raw, prefix(t)+"config/flow/A", "2")
	if _, err := raw.Delete(t.Context(), prefix(t)+"config/flow/B"); err != nil {
		t.Fatal(err)
	}
	compact(t, raw)
	p.mend()
	got := follower.await(t, "what happened meanwhile", func(d documents) bool { return d.revision > last && len(d.all) == 1 })
	if string(got.all[0].YAML) != "2" {
		t.Errorf("after the cut: %v", got)
	}
	// The watch that was begun anew goes on.
	last = put(t, raw, prefix(t)+"config/flow/C", "1")
	follower.await(t, "C", func(d documents) bool { return d.revision >= last && len(d.all) == 2 })
}

func testPages(t *testing.T, s *server) {
	store, raw := s.open(t, cluster.Config{}), s.raw(t)
	const n = 600
	for from := 0; from < n; from += 100 {
		var puts []clientv3.Op
		for i := range 100 {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%sconfig/flow/F%03d", prefix(t), from+i), fmt.Sprint(from+i)))
		}
		if _, err := raw.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	_, all, err := store.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != n {
		t.Fatalf("read %d of %d", len(all), n)
	}
	for i, d := range all {
		if string(d.YAML) != fmt.Sprint(i) {
			t.Fatalf("document %d is %v", i, d)
		}
	}
}

func TestFollowEndsWithItsStore(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.start(t)
	store := s.open(t, cluster.Config{})
	follower := followWorkers(t, store)
	<-follower.states
	campaign := make(chan error, 1)
	holder, err := store.Campaign(t.Context(), "c-1", 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := store.Campaign(context.Background(), "c-2", 0)
		campaign <- err
	}()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-follower.ended, batch.CodeShutdown)
	wantCode(t, <-campaign, batch.CodeShutdown)
	awaitClosed(t, "Lost", holder.Lost())
	wantCode(t, holder.Resign(t.Context()), batch.CodeShutdown)
}
