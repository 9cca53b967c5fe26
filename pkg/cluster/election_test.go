package cluster_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

var withPrefix = clientv3.WithPrefix()

// awaitKeys waits until there are n keys below a prefix, and returns them, oldest first.
func awaitKeys(t *testing.T, raw *clientv3.Client, below string, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	changes := raw.Watch(ctx, below, withPrefix, clientv3.WithCreatedNotify())
	for {
		if change, open := <-changes; !open {
			t.Fatalf("waited in vain for %d keys below %s: %v", n, below, change.Err())
		}
		got, err := raw.Get(ctx, below, withPrefix, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Kvs) == n {
			var keys []string
			for _, kv := range got.Kvs {
				keys = append(keys, string(kv.Key))
			}
			return keys
		}
	}
}

// A campaign whose own key goes while it waits must not lead by the absence of older ones.
func testCampaignDeleted(t *testing.T, s *server) {
	one, two := s.open(t, cluster.Config{}), s.open(t, cluster.Config{})
	first := lead(t, one, "c-1")
	elected := make(chan *cluster.Leadership, 1)
	go func() {
		l, err := two.Campaign(context.Background(), "c-2", 0)
		if err != nil {
			t.Error(err)
		}
		elected <- l
	}()
	raw := s.raw(t)
	waiting := awaitKeys(t, raw, prefix(t)+"leader/", 2)[1]
	if _, err := raw.Delete(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	if again := awaitKeys(t, raw, prefix(t)+"leader/", 2)[1]; again == waiting {
		t.Errorf("it waits at the deleted key %s", again)
	}
	if err := first.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := <-elected
	if err := second.PutStatus(t.Context(), status("A", 0)); err != nil {
		t.Error(err)
	}
	if err := second.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

// Campaigns stand in one line with those of etcd's own recipe.
func testForeignCampaign(t *testing.T, s *server) {
	store, raw := s.open(t, cluster.Config{}), s.raw(t)
	session, err := concurrency.NewSession(raw, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	foreign := concurrency.NewElection(session, prefix(t)+"leader")
	if err := foreign.Campaign(t.Context(), "foreign"); err != nil {
		t.Fatal(err)
	}
	elected := make(chan *cluster.Leadership, 1)
	go func() {
		l, err := store.Campaign(context.Background(), "c-1", time.Minute)
		if err != nil {
			t.Error(err)
		}
		elected <- l
	}()
	awaitKeys(t, raw, prefix(t)+"leader/", 2)
	select {
	case <-elected:
		t.Fatal("two lead")
	default:
	}
	if err := foreign.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := <-elected
	leader, err := foreign.Leader(t.Context())
	if err != nil || string(leader.Kvs[0].Value) != "c-1" {
		t.Errorf("etcd's recipe takes %v for the leader, %v", leader, err)
	}
	if err := l.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}
