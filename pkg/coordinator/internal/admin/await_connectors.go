package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deadlineMargin is what is left of a caller's time, at the least, when it is told how connectors stand.
const deadlineMargin = 500 * time.Millisecond

// awaitConnectors waits until all connectors of active flows are connected, for so long at the most, and tells how they stand.
func (a *admin) awaitConnectors(ctx context.Context, flows []string, wait time.Duration) (*pb.Connectors, error) {
	if deadline, bound := ctx.Deadline(); bound {
		wait = min(wait, time.Until(deadline)-deadlineMargin)
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for last := wait <= 0; ; {
		_, changed := a.Board.Watch()
		c, ok := a.Fleet.Connectors(ctx, flows...)
		switch {
		case !ok && ctx.Err() != nil:
			return nil, batch.Errorf(batch.CodeCancelled, "the flows are active; how their connectors stand says kisgrid get connectors: %w", ctx.Err())
		case !ok:
			return nil, refuse.Stopped()
		case last || len(c.Degraded)+len(c.Opening) == 0:
			return &pb.Connectors{Degraded: toWire(append(c.Degraded, c.Opening...)...), Unknown: toWire(c.Unknown...)}, nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-over.C:
			last = true
		case <-a.Draining:
			last = true
		case <-ctx.Done():
		}
	}
}

// activeOf are the flows among these that are active.
func activeOf(told map[string]*pb.Progress) []string {
	var active []string
	for _, flow := range slices.Sorted(maps.Keys(told)) {
		if told[flow].GetState() == cluster.StateActive {
			active = append(active, flow)
		}
	}
	return active
}

// toWire is how connectors stand as callers are told.
func toWire(all ...flowstate.ConnectorStatus) []*pb.ConnectorStanding {
	out := make([]*pb.ConnectorStanding, len(all))
	for i, s := range all {
		out[i] = &pb.ConnectorStanding{Connector: s.Name, Worker: s.Worker, Reason: s.Reason}
	}
	return out
}
