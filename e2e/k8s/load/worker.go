package main

import (
	"context"
	"strconv"
	"time"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// row is one row of flow Load.
type row struct {
	Line     string `json:"line"`     // the shard key; one stream sends all rows of a line, in order
	Sequence int    `json:"sequence"` // the number of the row in its line, from 1
}

// greed is one row of flow Greedy. Its function takes as much memory as MiB says, to make the kernel kill the worker.
type greed struct {
	MiB int `json:"mib"`
}

// prefix is the beginning of the keys of all lines in Redis. Each key is a list of the sequences of the line's rows, in the order in
// which they took effect.
const prefix = "load:"

// register registers the functions of the worker. Work uses the CPU for as many microseconds as its parameter says. Trace leaves a
// trace of each row in Redis. Greed takes as much memory as its row says.
func register(r *kis.Registry) {
	r.Func("Work", kis.Calculate(func(ctx context.Context, in row) (row, error) {
		micros, err := strconv.Atoi(kis.From(ctx).Param("micros"))
		if err != nil {
			return in, err
		}
		for end := time.Now().Add(time.Duration(micros) * time.Microsecond); time.Now().Before(end); {
			continue // it must use the CPU, so that the autoscaler sees it
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
