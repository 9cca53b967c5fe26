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

// deadlineMargin is how long before the caller's deadline a wait ends, so that there is time to send the answer.
const deadlineMargin = 500 * time.Millisecond

// awaitConnectors blocks until no connector of the flows is degraded or being opened, but no longer than wait, and returns the states of
// those that are not connected.
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

// activeOf returns the names of the flows whose last progress says that they are active, in order. told has the last progress by flow.
func activeOf(told map[string]*pb.Progress) []string {
	var active []string
	for _, flow := range slices.Sorted(maps.Keys(told)) {
		if told[flow].GetState() == cluster.StateActive {
			active = append(active, flow)
		}
	}
	return active
}

// toWire converts states of connectors to messages for callers.
func toWire(all ...flowstate.ConnectorStatus) []*pb.ConnectorStanding {
	out := make([]*pb.ConnectorStanding, len(all))
	for i, s := range all {
		out[i] = &pb.ConnectorStanding{Connector: s.Name, Worker: s.Worker, Reason: s.Reason}
	}
	return out
}
