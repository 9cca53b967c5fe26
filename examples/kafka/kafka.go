// Package kafka runs the records of a Kafka topic through a flow: it consumes records, submits them as a batch, and commits their
// offsets once each row has an outcome. Do the same for a queue that asks you to acknowledge each message (NSQ, RocketMQ):
// acknowledge a message after Submit has returned nil, and have it delivered again after an error.
package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Submitter submits a batch to a flow, and returns when each of its rows has an outcome. The methods Submit of *client.Client and
// *flowexec.Local are Submitters.
type Submitter func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error)

// pause is the time for which run waits before it submits the same batch again.
const pause = 200 * time.Millisecond

// Consume reads records with consumer, and submits their values, which are JSON rows, to a flow. When ctx is done or the consumer
// is closed, it returns nil. It returns an error if records can't be read, if a batch is refused for good, or if offsets can't be
// committed. The consumer belongs to a group, and has the options kgo.DisableAutoCommit and kgo.BlockRebalanceOnPoll.
//
// Offsets are committed after all rows before them have a final outcome. So a consumer that dies loses no row: the next consumer
// submits the rows since the last commit again. Consume calls tell for each row with another outcome than done, such as dead or
// filtered.
func Consume(ctx context.Context, consumer *kgo.Client, flow string, submit Submitter, tell func(*kgo.Record, batch.RowOutcome)) error {
	for {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume for flow %s: %w", flow, err)
		}
		err := run(ctx, fetches.Records(), flow, submit, tell)
		if err == nil {
			err = consumer.CommitUncommittedOffsets(ctx)
		}
		consumer.AllowRebalance()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("consume for flow %s: %w", flow, err)
		}
	}
}

// run submits records as one batch until each row has a final outcome. As long as rows have failed, or the submission has failed
// with a retryable error, it submits the same batch again, under its id. It returns an error if ctx is done or the batch is
// refused for good.
func run(ctx context.Context, records []*kgo.Record, flow string, submit Submitter, tell func(*kgo.Record, batch.RowOutcome)) error {
	if len(records) == 0 {
		return nil
	}
	rows := make([]json.RawMessage, len(records))
	for i, r := range records {
		rows[i] = r.Value
	}
	b := batch.Rows(rows...)
	for {
		result, err := submit(ctx, flow, b)
		switch {
		case err != nil && !batch.CodeOf(err).Retryable():
			return err
		case err == nil && !failed(result):
			for _, o := range result.NotDone {
				tell(records[o.Row], o)
			}
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// failed reports whether the batch has to be submitted again, because a row has the outcome failed: the cluster could not execute
// it, and the row itself is not to blame.
func failed(r *batch.Result) bool {
	for _, o := range r.NotDone {
		if o.Outcome == batch.Failed {
			return true
		}
	}
	return false
}
