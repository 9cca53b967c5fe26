// Command slow is a worker for tests of overload. Its functions are: Slow, which takes a millisecond for each row; Quick, which takes
// no time; Wide, which makes a thousand rows of each; Large, which makes a row of 64 KiB; and Grow, which makes a row as long as its
// key says.
package main

import (
	"context"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// row is one row of each flow of the tests. Key is the shard key, and the size of the output for the function Grow.
type row struct {
	Key  int    `json:"key"`
	Text string `json:"text,omitempty"`
}

// main runs the worker with its five functions.
func main() {
	worker.Main(func(r *kis.Registry) {
		r.Func("Slow", kis.Calculate(func(ctx context.Context, in row) (row, error) {
			select {
			case <-time.After(time.Millisecond):
				return in, nil
			case <-ctx.Done():
				return in, ctx.Err()
			}
		}))
		r.Func("Wide", kis.Expand(func(_ context.Context, in row, emit func(row)) error {
			for range 1000 {
				emit(in)
			}
			return nil
		}))
		r.Func("Large", kis.Calculate(func(_ context.Context, in row) (row, error) {
			in.Text = strings.Repeat("x", 64<<10)
			return in, nil
		}))
		r.Func("Grow", kis.Calculate(func(_ context.Context, in row) (row, error) {
			in.Text = strings.Repeat("x", in.Key)
			return in, nil
		}))
		r.Func("Quick", kis.Calculate(func(_ context.Context, in row) (row, error) { return in, nil }))
	})
}
