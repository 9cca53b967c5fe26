package simetcd_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
)

// start starts a cluster whose members are on hosts named etcd-1, etcd-2, … and returns it with a client that knows all of them.
func start(t *testing.T, members int, c simetcd.Config) (*simetcd.Etcd, *clientv3.Client, *simnet.Host) {
	t.Helper()
	n := simnet.New(1)
	for i := range members {
		name := fmt.Sprintf("etcd-%d", i+1)
		c.Members = append(c.Members, simetcd.Member{Name: name, Network: n.Host(name), Address: ":2379"})
	}
	e, err := simetcd.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	here := n.Host("here")
	return e, connect(t, here, clientv3.Config{Endpoints: e.Addresses()}), here
}

// connect opens a client on a machine, which ends with the test.
func connect(t *testing.T, from network.Network, c clientv3.Config) *clientv3.Client {
	t.Helper()
	c.Logger = zap.NewNop()
	c.MaxUnaryRetries = 1
	if from != nil {
		c.DialOptions = append(c.DialOptions, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return from.DialContext(ctx, "tcp", address)
		}))
	}
	client, err := clientv3.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// TestVirtualTime has a client keep a lease for an hour and watch its key, in a bubble. The key goes when the lease has run out.
func TestVirtualTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		_, client, _ := start(t, 1, simetcd.Config{})
		lease, err := client.Grant(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		changes := client.Watch(t.Context(), "a", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		if first := <-changes; !first.Created {
			t.Fatalf("the watch begins with %v", first)
		}
		if _, err := client.Put(t.Context(), "a/b", "x", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		if put := <-changes; len(put.Events) != 1 || string(put.Events[0].Kv.Value) != "x" {
			t.Fatalf("the watch shows %v", put)
		}
		keeping, stop := context.WithCancel(t.Context())
		renewed, err := client.KeepAlive(keeping, lease.ID)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range renewed {
			}
		}()
		time.Sleep(time.Hour)
		select {
		case early := <-changes:
			t.Fatalf("the watch shows %v, although the lease was renewed", early)
		default:
		}
		stop()
		from := time.Now()
		gone := <-changes
		if len(gone.Events) != 1 || gone.Events[0].Type != clientv3.EventTypeDelete {
			t.Errorf("the watch shows %v", gone)
		}
		if after := time.Since(from); after < 5*time.Second || after > 11*time.Second {
			t.Errorf("the key went %v after its lease of 10 s was renewed last", after)
		}
	})
}
