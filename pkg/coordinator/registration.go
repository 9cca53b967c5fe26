package coordinator

import (
	"context"
	"reflect"
	"time"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// register keeps this coordinator's key in etcd, with its record, until ctx is done. When the key is lost, it registers again. It always
// returns nil.
func (c *Coordinator) register(ctx context.Context) error {
	record := cluster.Coordinator{ID: c.id, Address: c.config.Advertise, Build: c.config.Build, Started: time.Now().UTC(), Guarded: c.guard != nil && c.config.Transport.TLSCert != "", Limits: cluster.LimitsOf(c.config.Limits)}
	if c.config.HTTP != nil {
		record.HTTP = serve.HTTPAddress(c.config.HTTP.Addr(), c.config.Advertise)
	}
	for ctx.Err() == nil {
		record = c.currentRecord(ctx, record)
		registration, err := c.config.Store.RegisterCoordinator(ctx, record, c.config.Lease)
		if err == nil {
			c.keepRecord(ctx, registration, record)
		} else if ctx.Err() == nil {
			c.log.Warn("this coordinator is not registered; it is tried again", "error", err)
			sleep(ctx, time.Second)
		}
	}
	return nil
}

// keepRecord keeps the record in etcd up to date until the key is lost or ctx is done. Then it removes the key.
func (c *Coordinator) keepRecord(ctx context.Context, r *cluster.Registration[cluster.Coordinator], record cluster.Coordinator) {
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := r.Close(closing); err != nil {
			c.log.Warn("this coordinator's key stays until its lease is over", "error", err)
		}
	}()
	news := time.NewTicker(balanceInterval)
	defer news.Stop()
	for {
		if next := c.currentRecord(ctx, record); !reflect.DeepEqual(next, record) && r.Update(ctx, next) == nil {
			record = next // a change that could not be written is tried again
		}
		select {
		case <-ctx.Done():
			return
		case <-r.Lost():
			c.log.Warn("this coordinator's key was lost; it registers again", "error", r.Err())
			return
		case <-c.leadershipChanged:
		case <-news.C:
		}
	}
}

// currentRecord returns a copy of the record in which the fields that change over time have their values of now, such as Leader and
// Streams.
func (c *Coordinator) currentRecord(ctx context.Context, record cluster.Coordinator) cluster.Coordinator {
	record.Leader, record.Ready, record.Streams = c.leading.Load(), c.ingest.whyClosed() == nil, c.ingest.streamCount()
	now := c.board.Load()
	record.Sessions, record.CutOff, record.Namesakes = &now.Sessions, now.CutOff, now.SharingName
	record.Missed, record.Unreachable = len(now.Unreachable), now.Unreachable[:min(len(now.Unreachable), cluster.MaxUnreachable)]
	record.Cordoned = c.rowsAtCordoned(ctx)
	return record
}

// rowsAtCordoned returns how many rows of this coordinator each registered worker that is cordoned has not answered, by the worker's id. It
// returns nil if there is no such worker, or if ctx is done.
func (c *Coordinator) rowsAtCordoned(ctx context.Context) map[string]cluster.CordonedRows {
	rows := c.fleet.cordonedWorkers(ctx)
	if len(rows) == 0 {
		return nil
	}
	counted := make(map[string]cluster.CordonedRows, len(rows))
	if !c.loop.do(ctx, func(l *schedulerLoop) {
		for id, since := range rows {
			counted[id] = cluster.CordonedRows{Rows: l.scheduler.Unanswered(id), Since: since}
		}
	}) {
		return nil // counted may still be written to
	}
	return counted
}
