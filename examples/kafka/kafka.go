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

// Submitter submits a batch, and returns when each of its rows has an outcome. *client.Client and *flowexec.Local are Submitters.
type Submitter func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error)

// pause is how long Consume waits before it submits a batch again.
const pause = 200 * time.Millisecond

// Consume submits the values of records, which are JSON rows, until ctx is done or the consumer is closed; then it returns nil.
// The consumer belongs to a group, and has the options kgo.DisableAutoCommit and kgo.BlockRebalanceOnPoll.
//
// Offsets are committed after all rows before them have a final outcome. So a consumer that dies loses no row: the next consumer
// submits the rows since the last commit again. tell is called with rows that died or were filtered.
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

// run submits records until each has a final outcome. If rows have failed, it submits the same batch again, under its id.
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

// failed reports whether a row has to be submitted again, because the cluster failed and not the row.
func failed(r *batch.Result) bool {
	for _, o := range r.NotDone {
		if o.Outcome == batch.Failed {
			return true
		}
	}
	return false
}
