package flowexec

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// OnceConfig says what a run apart from lanes is for.
type OnceConfig struct {
	// Copy is the copy of the flow that runs: one run at a time.
	Copy *kis.Copy
	// Batch names the rows. It is the newest of its stream, and those before are over: what a store remembers of them goes.
	Batch batch.ID
	// Connectors may be nil for flows that have none. Metrics may be nil. Observe is as in LanesConfig.
	Connectors Connectors
	// Saves is that of the process, for Loads in KisFlow's shape; nil: only those of this run are heard.
	Saves   *Saves
	Metrics *Metrics
	Observe func(Observed)
}

// Once runs rows of this process as one batch through a plan, and blocks until all have ended. Functions' contexts come from
// ctx; when it is done, what runs is failed.
func (p *Plan) Once(ctx context.Context, rows []any, c OnceConfig) RunResult {
	if rows == nil {
		rows = []any{}
	}
	l := StartLanes(LanesConfig{
		Flow: p.flow, Copies: 1, Context: ctx, Copy: c.Copy, Connectors: c.Connectors, Saves: c.Saves, Metrics: c.Metrics, Observe: c.Observe,
	})
	defer l.Stop()
	done := make(chan RunResult, 1)
	l.Enqueue(&Part{Plan: p, Batch: c.Batch, Floor: c.Batch.Sequence, BatchRows: len(rows), Values: rows, Attempt: 1, Done: func(r RunResult) { done <- r }})
	return <-done
}
