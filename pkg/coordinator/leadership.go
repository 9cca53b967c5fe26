package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
)

// campaign takes part in the election of the leader again and again, until ctx is done; then it returns nil. It pauses while another
// coordinator reaches more workers: a leader that reaches too few would wait for answers that it can't get.
//
//	                    elected in etcd
//	┌─────────────┐ ──────────────────────> ┌─────────┐
//	│ campaigning │                         │ leading │ decides revisions (package leader)
//	└─────────────┘ <────────────────────── └─────────┘
//	  │       ^       the key in etcd is lost    │
//	  │       │                                  │
//	  │ others reach more workers                │ others reach more workers: it resigns
//	  v       │                                  │
//	┌─────────────┐                              │
//	│   waiting   │ <────────────────────────────┘
//	└─────────────┘
func (c *Coordinator) campaign(ctx context.Context) error {
	for c.board.Await(ctx, func(now *flowstate.Snapshot) bool { return !now.OthersReachMore }) && ctx.Err() == nil {
		reaching, stop := whileReaching(ctx, c.board)
		c.lead(reaching)
		stop()
	}
	return nil
}

// lead takes part in one election: it waits until this coordinator is elected, and leads until the leadership is lost or ctx is done. Then
// it resigns.
func (c *Coordinator) lead(ctx context.Context) {
	log := c.log.Named("leader")
	leads := func(leads bool) {
		c.leading.Store(leads)
		select {
		case c.leadershipChanged <- struct{}{}:
		default:
		}
	}
	leadership, err := c.config.Store.Campaign(ctx, c.id, c.config.Lease)
	if err != nil {
		if ctx.Err() == nil {
			pointNotElected.Hit()
			log.Warn("the campaign ended; it is tried again", "error", err)
			sleep(ctx, time.Second)
		}
		return
	}
	pointElected.Hit()
	log.Info("leading", "id", c.id)
	leads(true)
	err = leader.Lead(ctx, leader.Config{
		Leadership: leadership, Store: c.config.Store, Fleet: c.fleet, News: c.fleet.leaderNews, HistoryAge: c.config.historyAge,
		MaxSteps: c.config.MaxSteps, RefuseDirect: c.config.RefuseDirect, ID: c.id, Rejections: c.rejections, Log: log,
	})
	leads(false)
	switch {
	case errors.Is(context.Cause(ctx), errOthersReachMore):
		pointResigned.Hit()
		log.Warn("leading no more", "error", errOthersReachMore)
	case err != nil && ctx.Err() == nil:
		pointDeposed.Hit()
		log.Warn("leading no more", "error", err)
	}
	resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := leadership.Resign(resigning); err != nil {
		log.Warn("the next leader waits for the lease to be over", "error", err)
	}
}
