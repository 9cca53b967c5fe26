package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kisgrid/kisgrid/examples/kafka"
	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

const (
	topic = "SourceStuScore"
	group = "group1"
	rows  = 300
)

// broker starts a Kafka in this process with a topic of so many rows, one of which is no JSON.
func broker(t *testing.T) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	var records []*kgo.Record
	for i := range rows {
		value := fmt.Sprintf(`{"stu_id":%d,"score_1":%d,"score_2":90,"score_3":80}`, i, i%100)
		if i == 17 {
			value = "not json"
		}
		records = append(records, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: []byte(value)})
	}
	if err := producer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return cluster.ListenAddrs()
}

// consumer joins the group.
func consumer(t *testing.T, brokers []string) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseAllowingRebalance)
	return c
}

// committed is how many records of its partitions a consumer has committed.
func committed(c *kgo.Client) (n int64) {
	for _, offset := range c.CommittedOffsets()[topic] {
		n += max(offset.Offset, 0)
	}
	return n
}

func nobody(*kgo.Record, batch.RowOutcome) {}

// The offsets are committed after the answer: who dies before it leaves the rows to others.
func TestNoRowIsLostWithItsConsumer(t *testing.T) {
	brokers := broker(t)
	died := errors.New("the consumer dies")
	dying := consumer(t, brokers)
	err := kafka.Consume(t.Context(), dying, "CalStuAvgScore", func(context.Context, string, *batch.Batch) (*batch.Result, error) {
		return nil, died
	}, nobody)
	if !errors.Is(err, died) {
		t.Fatalf("Consume returned %v", err)
	}
	if n := committed(dying); n != 0 {
		t.Fatalf("the offsets of %d records are committed, which have no answer", n)
	}
	dying.CloseAllowingRebalance()

	local, err := flowexec.NewLocal("../kisflow/9-serialize/conf", scores.Register)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	answered, dead, first := 0, "", true
	done := make(chan error)
	for range 2 { // each with partitions of its own
		c := consumer(t, brokers)
		submit := func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			if first { // what could not be answered is submitted again
				first = false
				return nil, batch.Errorf(batch.CodeUnavailable, "no coordinator is there")
			}
			if n := committed(c); n > int64(answered) {
				t.Errorf("the offsets of %d records are committed, and only %d are answered", n, answered)
			}
			result, err := local.Submit(ctx, flow, b)
			if err != nil {
				return nil, err
			}
			columns, err := b.Columns()
			if answered += columns.Len(); answered >= rows {
				cancel()
			}
			return result, err
		}
		go func() {
			done <- kafka.Consume(ctx, c, "CalStuAvgScore", submit, func(r *kgo.Record, o batch.RowOutcome) {
				mu.Lock()
				defer mu.Unlock()
				if o.Outcome == batch.Dead {
					dead += string(r.Key) + " " + o.Code.String() + "\n"
				}
			})
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if answered < rows || !strings.Contains(dead, "17 ROW_UNDECODABLE\n") {
		t.Errorf("%d rows are answered, and %q told dead; want %d, 17 ROW_UNDECODABLE", answered, dead, rows)
	}
}
