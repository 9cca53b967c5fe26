package flowtest

import (
	"context"
	"net"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
)

// simulate starts what takes the places of the machine, etcd and Redis in virtual time, until the test ends.
func (o *options) simulate(t TB) error {
	bubble.OneProcessor(t)
	machine := simnet.New(1).Host("grid")
	etcd, err := simetcd.Start(t.Context(), simetcd.Config{Members: []simetcd.Member{{Name: "etcd", Network: machine, Address: "127.0.0.1:2379"}}})
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Errorf("stop the simulated etcd: %v", err)
		}
	})
	o.config.Machine, o.config.EtcdAt = simredis.ForClients(machine), etcd.Addresses()[0]
	if o.config.Redis != "" {
		t.Fatalf("start a cluster: a Redis at %s can't be reached in virtual time: leave RedisAt or VirtualTime out", o.config.Redis)
	}
	redis, err := simredis.Start(t.Context(), simredis.Config{
		Listen: func(ctx context.Context) (net.Listener, error) { return machine.Listen(ctx, "127.0.0.1:6379") },
	})
	if err != nil {
		return err
	}
	t.Cleanup(redis.Close)
	o.config.Redis = "127.0.0.1:6379"
	return nil
}
