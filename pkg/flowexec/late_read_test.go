package flowexec_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// slowRow takes ten seconds to be read if its number is 1.
type slowRow in

func (r *slowRow) UnmarshalJSON(text []byte) error {
	var fields in
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	*r = slowRow(fields)
	if r.N == 1 {
		time.Sleep(10 * time.Second)
	}
	return nil
}

// Code of a row's type that returns after its goroutine was abandoned touches nothing that the lane goes on with.
func TestReadingThatReturnsLate(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, flowLines, func(_ *bed, r *kis.Registry) {
				r.Func("v", kis.Verify(func(context.Context, slowRow) error { return nil }))
			}, "v Verify; timeout: 2s")
			p := b.send("a 0", "b 1", "c 2")
			time.Sleep(time.Minute)
			b.expectEnded(p, "[0 1 2] 1 FUNCTION_TIMEOUT v 0→a0 2→c2")
		})
	}
}
