package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// TestEtcdBeginsAnewBehindACut cuts one member of etcd off, and lets etcd begin anew before its clients notice the cut. A watch on a
// connection to that member must not go on at another one, from a revision that etcd reaches much later.
func TestEtcdBeginsAnewBehindACut(t *testing.T) {
	for cut := range 3 { // the watch is at one of the members
		t.Run(fmt.Sprintf("member %d", cut+1), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				n := simnet.New(1)
				var members []simetcd.Member
				for i := range 3 {
					name := fmt.Sprintf("etcd-%d", i+1)
					members = append(members, simetcd.Member{Name: name, Network: n.Host(name), Address: ":2379"})
				}
				etcd, err := simetcd.Start(t.Context(), simetcd.Config{Members: members})
				if err != nil {
					t.Fatal(err)
				}
				defer etcd.Close()
				for i := range 100 {
					etcd.Write(map[string][]byte{"/kisgrid/other": fmt.Append(nil, i)})
				}
				s, err := cluster.Open(cluster.Config{Endpoints: etcd.Addresses(), Network: n.Host("here")})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				known := make(chan string, 100)
				var following sync.WaitGroup
				defer func() {
					stop()
					following.Wait()
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}()
				following.Go(func() {
					_ = s.FollowWorkers(ctx, func(all map[string]cluster.Worker) { known <- strings.Join(slices.Sorted(maps.Keys(all)), " ") })
				})
				register := func(id string) {
					etcd.Write(map[string][]byte{"/kisgrid/workers/" + id: fmt.Appendf(nil, `{"id":%q,"name":%q,"address":"w:1"}`, id, id)})
				}
				await := func(workers string) {
					t.Helper()
					for late := time.After(time.Minute); ; {
						select {
						case got := <-known:
							if got == workers {
								return
							}
						case <-late:
							t.Fatalf("nobody is told of the workers %q", workers)
						}
					}
				}
				register("before")
				await("before")
				n.Host(fmt.Sprintf("etcd-%d", cut+1)).Down()
				time.Sleep(500 * time.Millisecond)
				if err := etcd.Restore(ctx, nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				n.Host(fmt.Sprintf("etcd-%d", cut+1)).Up()
				time.Sleep(10 * time.Second)
				register("after")
				await("after")
			})
		})
	}
}
