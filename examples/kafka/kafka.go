// Package kafka runs the records of a topic through a flow: consume, submit, and commit the offsets once the answer is there.
// A queue that asks for each message to be acknowledged (NSQ, RocketMQ) is served the same way: acknowledge after Submit
// returned, and have the message delivered again when it returned an error.
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

// Submitter takes a batch, and returns when each of its rows has an outcome: *client.Client and *flowexec.Local do.
type Submitter func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error)

// pause is how long to wait until a batch is submitted again.
const pause = 200 * time.Millisecond

// Consume submits the values of records, which are rows of JSON, until ctx is done or the consumer is closed; that is no
// error. The consumer is one of a group, with kgo.DisableAutoCommit and kgo.BlockRebalanceOnPoll. Offsets are committed after
// all rows before them have an outcome that stays, so that a consumer that dies costs no row: the rows since are submitted
// once more, by whoever consumes next. tell is told of rows that did not make it: dead and filtered.
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

// run submits records until each has an outcome that stays. What failed is submitted again as the same batch, under its id.
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

// failed reports whether a row has to be submitted again: it is the cluster that failed, not the row.
func failed(r *batch.Result) bool {
	for _, o := range r.NotDone {
		if o.Outcome == batch.Failed {
			return true
		}
	}
	return false
}
