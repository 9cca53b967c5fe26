package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// testNames has many workers register under one name at once, none of which makes room for another: exactly one of them registers. Then
// another one takes its place in one transaction. Workers whose names only begin with this name are not asked.
func testNames(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	follower := followWorkers(t, s.open(t, cluster.Config{}))
	longer := workerA
	longer.ID, longer.Name = "w-x-1", "w-x"
	r, err := store.RegisterWorker(t.Context(), longer, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	register := func(id string, judge func(cluster.Worker) cluster.NamesakeVerdict) (bool, *cluster.Worker) {
		w := workerA
		w.ID, w.Name = id, "w"
		r, holder, err := store.RegisterNamed(t.Context(), w, 0, func(o cluster.Worker) cluster.NamesakeVerdict {
			if o.Name != "w" {
				t.Errorf("asked about %s", o.Name)
			}
			return judge(o)
		})
		if err != nil {
			t.Error(err)
		}
		if r != nil {
			t.Cleanup(func() { _ = r.Close(context.Background()) }) // etcd may be gone
		}
		return r != nil, holder
	}
	holds := func(cluster.Worker) cluster.NamesakeVerdict { return cluster.NamesakeKeeps }
	var all sync.WaitGroup
	var registered atomic.Int64
	for i := range 8 {
		all.Go(func() {
			ok, holder := register(fmt.Sprintf("w-%d", i), holds)
			if ok {
				registered.Add(1)
			} else if holder == nil || holder.Name != "w" {
				t.Errorf("kept out by %v", holder)
			}
		})
	}
	all.Wait()
	if n := registered.Load(); n != 1 {
		t.Fatalf("%d workers have one name", n)
	}
	if ok, holder := register("w-next", func(cluster.Worker) cluster.NamesakeVerdict { return cluster.NamesakeYields }); !ok {
		t.Fatalf("kept out by %v", holder)
	}
	follower.await(t, "one took the other's place", has("w-next", "w-x-1"))
	if ok, _ := register("w-beside", func(cluster.Worker) cluster.NamesakeVerdict { return cluster.NamesakeShares }); !ok {
		t.Error("kept out by one that shares")
	}
	follower.await(t, "both stand", has("w-next", "w-beside", "w-x-1"))
}
