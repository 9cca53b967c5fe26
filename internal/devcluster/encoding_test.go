package devcluster_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/typepb"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

const encodingDocuments = `
kistype: flow
status: 1
flow_name: Average
shard_key: stu_id
flows: [{fname: VerifyStu}, {fname: AvgStuScore12}]
---
kistype: flow
status: 1
flow_name: Twice
shard_key: name
flows: [{fname: Double}]
---
{kistype: func, fname: VerifyStu, fmode: Verify}
---
{kistype: func, fname: AvgStuScore12, fmode: Calculate}
---
{kistype: func, fname: Double, fmode: Calculate}
`

// Rows in encodings that only clients and functions can read go through a cluster by the shard keys that the client has hashed.
func TestEncodings(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k, err := devcluster.Start(ctx, devcluster.Config{Workers: 2, Register: func(r *kis.Registry) {
		students.Register(r)
		r.Func("Double", kis.Calculate(func(_ context.Context, v *typepb.EnumValue) (*typepb.EnumValue, error) {
			return &typepb.EnumValue{Name: v.Name, Number: 2 * v.Number}, nil
		}))
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "encodings.yml"), []byte(encodingDocuments), 0o600); err != nil {
		t.Fatal(err)
	}
	_, docs, err := definition.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Put(ctx, docs); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(k.Coordinator())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	submit := func(flow string, columns batch.Columns) (*client.Result, error) {
		for {
			result, err := c.Submit(ctx, flow, client.Pack(columns))
			if batch.CodeOf(err) != batch.CodeUnknownFlow {
				return result, err
			}
			select {
			case <-ctx.Done():
				return nil, errors.Join(err, ctx.Err())
			case <-time.After(20 * time.Millisecond): // a revision's begin gives a client no signal
			}
		}
	}

	rows := batch.Columns{Encoding: batch.MessagePack}
	field := batch.NewKeyField("stu_id")
	const n = 100
	for i := range n {
		var row bytes.Buffer
		e := msgpack.NewEncoder(&row)
		e.SetCustomStructTag("json")
		if err := e.Encode(students.Scores12{ID: i, Score1: i, Score2: i + 1}); err != nil {
			t.Fatal(err)
		}
		rows.Append(row.Bytes())
	}
	if _, err := submit("Average", rows); batch.CodeOf(err) != batch.CodeMissingKeys {
		t.Errorf("without keys: %v, want MISSING_KEYS", err)
	}
	for i := range n {
		key, err := field.HashValue([]byte(strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		rows.Keys = append(rows.Keys, key)
	}
	result, err := submit("Average", rows)
	if err != nil || len(result.NotDone) > 0 {
		t.Fatalf("%v, %+v", err, result)
	}
	averages, err := client.Output[students.Avg](result)
	if err != nil || len(averages) != n {
		t.Fatalf("%d averages, %v", len(averages), err)
	}
	for i, origin := range result.Output.Origins {
		if want := (students.Avg{ID: int(origin), Avg: float64(origin) + 0.5}); averages[i] != want {
			t.Errorf("row %d became %+v, want %+v", origin, averages[i], want)
		}
	}

	messages := batch.Columns{Encoding: batch.Protobuf, Keys: []uint64{7}}
	row, err := proto.Marshal(&typepb.EnumValue{Name: "a", Number: 21})
	if err != nil {
		t.Fatal(err)
	}
	messages.Append(row)
	if result, err = submit("Twice", messages); err != nil || len(result.NotDone) > 0 {
		t.Fatalf("%v, %+v", err, result)
	}
	var got typepb.EnumValue
	if out := result.Output.Rows; out.Len() != 1 || out.Encoding != batch.Protobuf {
		t.Fatalf("the output is %+v, want a message", out)
	} else if err := proto.Unmarshal(out.Row(0), &got); err != nil || got.Number != 42 {
		t.Errorf("the message became %v, %v", &got, err)
	}

	if result, err = submit("Twice", batch.Columns{Data: []byte("x"), Ends: []uint32{1}, Keys: []uint64{1}, Encoding: "avro"}); err != nil || len(result.NotDone) != 1 || result.NotDone[0].Code != batch.CodeRowUndecodable {
		t.Errorf("an unknown encoding: %v, %+v", err, result)
	}
}
