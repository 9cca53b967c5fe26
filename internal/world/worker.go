package world

import (
	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// Names of variables in the environment of workers, which the connector's document names.
const (
	envRedis    = "REDIS_ADDR"
	envPassword = "REDIS_PASSWORD"
)

// makeWorker does what the program worker does before it serves.
func (n *process) makeWorker() error {
	s := &n.setting
	registry := kis.NewRegistry()
	forms.Register(registry, n.w.s.Flows, s.Build, n.gate)
	etcd := n.w.etcdFor(n.net, n.log)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: s.Name, Listen: s.Listen, Advertise: s.Advertise, ListenElsewhere: s.Listen == "" && s.Advertise == "",
		Etcd: etcd, Lease: s.Lease, MemoryBudget: s.Budget, RowBudget: s.RowBudget,
		Limits:    batch.Limits{BatchRows: s.BatchRows, BatchBytes: s.BatchBytes},
		Transport: n.transport(), Network: n.forRedis(), Build: s.Build, Logger: n.log,
		Environment: func(name string) (string, bool) {
			switch name {
			case envRedis:
				return n.w.redisAddress(), true
			case envPassword:
				return n.w.redisPassword(), true
			}
			return "", false
		},
	})
	if err != nil {
		return err
	}
	n.service, n.metrics, n.id = w, w.Metrics(), w.ID
	return nil
}

// forRedis returns the process's network. Where waits for mutexes do not count, it is one in which go-redis holds none over the network.
func (n *process) forRedis() network.Network {
	if countMutexes() != nil {
		return simredis.ForClients(n.net)
	}
	return n.net
}
