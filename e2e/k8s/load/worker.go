package main

import (
	"context"
	"strconv"
	"time"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// row is one row of flow Load.
type row struct {
	Line     string `json:"line"` // its shard key: rows of a line are sent by one client, in order
	Sequence int    `json:"sequence"`
}

// greed is one row of flow Greedy.
type greed struct {
	MiB int `json:"mib"`
}

// traces is the key of a line's list, without the connector's prefix: the sequences of its rows, as they took effect.
const prefix = "load:"

// register registers what the worker can do: Work takes a moment now and then, Trace leaves a trace of each row, Greed takes
// all memory.
func register(r *kis.Registry) {
	r.Func("Work", kis.Calculate(func(ctx context.Context, in row) (row, error) {
		micros, err := strconv.Atoi(kis.From(ctx).Param("micros"))
		if err != nil {
			return in, err
		}
		for end := time.Now().Add(time.Duration(micros) * time.Microsecond); time.Now().Before(end); {
			continue // for the autoscaler it must be work, not sleep
		}
		return in, nil
	}))
	r.Func("Trace", kis.Save(func(_ context.Context, to kis.Writer, in row) error {
		to.Append(in.Line, in.Sequence)
		return nil
	}))
	r.Func("Greed", kis.Calculate(func(ctx context.Context, in greed) (greed, error) {
		var hoard [][]byte
		for range in.MiB {
			piece := make([]byte, 1<<20)
			for i := 0; i < len(piece); i += 4096 {
				piece[i] = 1
			}
			hoard = append(hoard, piece)
			if ctx.Err() != nil {
				return in, ctx.Err()
			}
		}
		return greed{len(hoard)}, nil
	}))
}
