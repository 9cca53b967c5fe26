package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// growing registers an Expand x and a Calculate c that do with a row what its number's last digit says: a few rows of one, many,
// none, large ones, an error, one that a retry mends, a drop. With 99 they abort the batch.
func growing(b *bed, r *kis.Registry) {
	do := func(ctx context.Context, i in) (rows, bytes int, err error) {
		switch {
		case i.N == 99:
			return 0, 0, kis.Abort("enough")
		case i.N%10 == 4:
			return 0, 0, errors.New("bad")
		case i.N%10 == 5 && kis.From(ctx).Attempt == 1:
			return 0, 0, errors.New("not yet")
		case i.N%10 == 6:
			return 0, 0, kis.Drop("not wanted")
		case i.N%10 == 7:
			return 60, 10, nil
		case i.N%10 == 8:
			return 2, 3000, nil
		}
		return i.N % 10, 10, nil
	}
	r.Func("x", kis.Expand(func(ctx context.Context, i in, emit func(in)) error {
		rows, bytes, err := do(ctx, i)
		b.note("%s%d", i.K, i.N)
		for n := range rows {
			emit(in{K: i.K[:1] + strings.Repeat("y", bytes), N: n})
		}
		return err
	}))
	r.Func("c", kis.Calculate(func(ctx context.Context, i in) (in, error) {
		_, bytes, err := do(ctx, i)
		return in{K: i.K[:1] + strings.Repeat("z", 10*bytes), N: i.N}, err
	}))
}

// TestRunsThatMakeMuch has random rows go through functions that make much of them, with bounds and without: each row ends the same,
// with the same output in the same order; a key's rows enter the function in their order. Where each row comes to as much, no call
// of Done brings more than the bounds and what comes of the first 16 rows.
func TestRunsThatMakeMuch(t *testing.T) {
	const runBytes, pieceBytes = 4000, 1500
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		flow      string
		functions []string
		abort     bool
	}{
		{"shard_key: k\n", []string{"x Expand; retry_times: 2; retry_duration: 10ms"}, false},
		{"shard_key: k\n", []string{"c Calculate; retry_times: 2", "x Expand; retry_times: 2"}, false},
		{"shard_key: k\n", []string{"x Expand", "c Calculate; retry_times: 1"}, false},
		{"", []string{"x Expand; retry_times: 2; retry_duration: 10ms"}, true},
		{"", []string{"c Calculate; retry_times: 2"}, true},
		{"", []string{"x Expand; retry_times: 2", "c Calculate"}, true},
	} {
		for round := range 3 {
			rows := make([]string, 60+random.IntN(60))
			for i := range rows {
				rows[i] = fmt.Sprintf("%c %d", 'a'+random.IntN(20), random.IntN(90))
			}
			even := round == 0 && len(c.functions) == 1
			for i := range rows {
				if even {
					rows[i] = fmt.Sprintf("%c 7", 'a'+i%20) // 1,600 or 200 bytes
				}
			}
			if c.abort && round == 2 {
				rows[random.IntN(len(rows))] = "a 99"
			}
			run := func(runBytes int64, pieceBytes int) (ended, noted string, largest int) {
				bubble.Test(t, func(t *testing.T) {
					b := newBed(t, c.flow, growing, c.functions...)
					b.lanes.Stop()
					b.lanes = flowexec.StartLanes(flowexec.LanesConfig{
						Flow: "F", Copies: 1, Connectors: pool{b.store}, RunBytes: runBytes, PieceBytes: pieceBytes,
					})
					defer b.lanes.Stop()
					p := b.send(rows...)
					if err := b.lanes.Drain(t.Context()); err != nil {
						t.Fatal(err)
					}
					noted, ended = b.noted(), b.ended(p)
					for _, r := range b.runs {
						largest = max(largest, len(r.Output.Rows.Data))
					}
				})
				return ended, noted, largest
			}
			want, _, unbound := run(0, 0)
			got, noted, largest := run(runBytes, pieceBytes)
			if got != want {
				t.Fatalf("%s%v: rows %v ended as\n%s\nnot, as without bounds,\n%s", c.flow, c.functions, rows, got, want)
			}
			if even && (largest > runBytes+16*1600 || unbound <= runBytes) {
				t.Errorf("%s%v: Done got %d bytes of output at once, without bounds it was %d", c.flow, c.functions, largest, unbound)
			}
			if c.flow == "" || len(c.functions) > 1 {
				continue
			}
			for key := 'a'; key < 'a'+20; key++ {
				var in []string
				for _, row := range rows {
					if strings.HasPrefix(row, string(key)) {
						in = append(in, strings.ReplaceAll(row, " ", ""))
					}
				}
				entered := strings.Fields(noted)
				entered = slices.DeleteFunc(entered, func(s string) bool { return !strings.HasPrefix(s, string(key)) })
				if entered = slices.Compact(entered); !slices.Equal(entered, slices.Compact(in)) { // retries come at once
					t.Errorf("rows of key %c entered as %v, and came as %v", key, entered, in)
				}
			}
		}
	}
}
