package world

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

// makeCoordinator does what the program coordinator does before it serves: it opens etcd, the store of dead letters and the listener.
func (n *process) makeCoordinator() error {
	s := &n.setting
	etcd := n.w.etcdFor(n.net, n.log)
	etcd.MaxOperations = s.TxnOps
	store, err := cluster.Open(etcd)
	if err != nil {
		return err
	}
	n.close = append(n.close, store.Close)
	var letters *deadletter.Store
	if s.Letters {
		letters, err = deadletter.Open(deadletter.Config{URL: n.w.redisURL(), Password: n.w.redisPassword(), Max: s.LettersMax, Network: n.net})
		if err != nil {
			return err
		}
		n.close = append(n.close, letters.Close)
	}
	listen := s.Listen
	if listen == "" {
		listen = ":7700"
	}
	settings := n.transport()
	settings.Logger = n.log.Named("transport")
	listener, err := serve.ListenNear(n.ctx, n.net, listen, s.Listen == "" && s.Advertise == "", n.log)
	if err != nil {
		return err
	}
	advertise, err := serve.Advertised(n.net, s.Advertise, listen, listener.Addr(), etcd.Endpoints)
	if err != nil {
		_ = listener.Close()
		return err
	}
	registry := prometheus.NewRegistry()
	c, err := coordinator.New(coordinator.Config{
		Store: store, Listener: listener, Advertise: advertise, Transport: settings, Lease: s.Lease, NoWorker: s.NoWorker,
		Limits: batch.Limits{RowBytes: s.RowBytes, BatchRows: s.BatchRows, BatchBytes: s.BatchBytes}, Budget: s.Budget,
		DeadLetters: letters, Build: s.Build, Logger: n.log, Registry: registry,
	})
	if err != nil {
		_ = listener.Close()
		return err
	}
	n.address = advertise
	n.service, n.metrics, n.id = c, registry, c.ID
	return nil
}
