package flowexec

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// OnceConfig is the configuration of one Plan.Once.
type OnceConfig struct {
	// Copy is the copy of the flow that the rows run on. Only one Once at a time may use it. nil means a new copy.
	Copy *kis.Copy
	// Batch is the id of the rows' batch, by which stores name their effects. All earlier batches of its stream must have ended: stores
	// forget their effects.
	Batch batch.ID
	// Connectors opens the connections that functions use. nil is for flows without connectors.
	Connectors Connectors
	// Saves tells Loads in KisFlow's shape when other flows of this process save something. nil means that they hear only of Saves of this
	// call.
	Saves *Saves
	// Metrics gets counts and durations. nil means that nothing is counted.
	Metrics *Metrics
	// Observe is called after each function, as LanesConfig.Observe is. nil means that nothing is called.
	Observe func(Observed)
}

// Once runs rows through the plan as one batch, and blocks until all of them have ended. A row is any value that Part.Values allows. ctx is
// the parent of the contexts that functions get; when it ends, the rows that have not ended fail with CANCELLED.
func (p *Plan) Once(ctx context.Context, rows []any, c OnceConfig) RunResult {
	if rows == nil {
		rows = []any{} // a part of values, without any
	}
	l := StartLanes(LanesConfig{
		Flow: p.flow, Copies: 1, Context: ctx, Copy: c.Copy, Connectors: c.Connectors, Saves: c.Saves, Metrics: c.Metrics, Observe: c.Observe,
	})
	defer l.Stop()
	done := make(chan RunResult, 1)
	l.Enqueue(&Part{
		Plan: p, Batch: c.Batch, Floor: c.Batch.Sequence, BatchRows: len(rows), Values: rows, Attempt: 1,
		Done: func(r RunResult) { done <- r },
	})
	return <-done
}
