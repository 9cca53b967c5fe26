//go:build linux

package once

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	redisconnector "github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// cutDocuments are a flow whose steps read and write keys in Redis that earlier rows of the same key have left there.
const cutDocuments = `
kistype: flow
flow_name: Cut
status: 1
shard_key: k
flows: [{fname: Last}, {fname: Sum}, {fname: Keep}, {fname: Now}, {fname: Log}]
---
kistype: func
fname: Last
fmode: Load
option: {cname: Store, on_missing: 'null', load: {key: '{k}', set: {last: n}}}
---
kistype: func
fname: Sum
fmode: Save
option: {cname: Store, save: {key: '{k}', incr: {sum: n}}}
---
kistype: func
fname: Keep
fmode: Save
option: {cname: Store}
---
kistype: func
fname: Now
fmode: Load
option: {cname: Store, load: {key: '{k}', set: {now: sum, kept: n}}}
---
kistype: func
fname: Log
fmode: Save
option: {cname: Store, save: {key: '{k}:log', append: {x: now}}}
`

// TestCutsOnRedis runs the same rows one by one and in batches of random sizes, over a Redis. The output of the flow and the data in
// Redis must be the same.
func TestCutsOnRedis(t *testing.T) {
	address := testprocess.Address(t)
	_, r := testgrid.RealRedis(t, address)
	random := rand.New(rand.NewPCG(4, 7))
	var rows []string
	for range 400 {
		rows = append(rows, fmt.Sprintf(`{"k":"%c","n":%d}`, 'a'+rune(random.IntN(random.IntN(20)+1)), random.IntN(100)))
	}
	want, state := runCuts(t, r, address, "one:", slices.Collect(slices.Chunk(rows, 1)))
	for i := range 3 {
		var batches [][]string
		for left := rows; len(left) > 0; {
			n := min(len(left), 1+random.IntN(150))
			batches, left = append(batches, left[:n]), left[n:]
		}
		got, left := runCuts(t, r, address, fmt.Sprintf("cut%d:", i), batches)
		for n := range want {
			if got[n] != want[n] {
				t.Fatalf("in %d batches row %d, %s, came out as %s, not %s", len(batches), n, rows[n], got[n], want[n])
			}
		}
		if !maps.Equal(left, state) {
			t.Errorf("%d batches left %v, not %v", len(batches), left, state)
		}
	}
}

// runCuts runs batches one after the other over keys with a prefix. It returns the output of the flow, and the data under the prefix
// in the end.
func runCuts(t *testing.T, r *redis.Client, address, prefix string, batches [][]string) (out []string, state map[string]string) {
	t.Helper()
	docs := cutDocuments + fmt.Sprintf("---\nkistype: conn\ncname: Store\ntype: redis\naddrs: %q\nkey: %q\n", address, prefix)
	set, err := definition.NewSet(definition.Split("cut.yml", []byte(docs)))
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		K string `json:"k"`
		N int    `json:"n"`
	}
	local, err := flowexec.NewLocalSet(set, func(r *kis.Registry) {
		r.Func("Keep", kis.Save(func(_ context.Context, to kis.Writer, in row) error {
			if in.N%7 == 0 {
				to.Delete(in.K)
			}
			to.Set(in.K, "n", in.N)
			to.Incr(in.K, "sum", 1)
			return nil
		}))
	}, flowexec.WithOpeners(map[string]connector.Opener{"redis": redisconnector.Open}))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testprocess.Patience)
	defer cancel()
	for _, rows := range batches {
		result, err := local.Submit(ctx, "Cut", batch.Rows(rows...))
		if err != nil || len(result.NotDone) > 0 {
			t.Fatalf("%+v, %v", result, err)
		}
		for i := range result.Output.Origins {
			out = append(out, string(result.Output.Rows.Row(i)))
		}
	}
	keys, err := r.Keys(ctx, prefix+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	state = make(map[string]string)
	for _, key := range keys {
		if strings.HasSuffix(key, ":log") {
			list, err := r.LRange(ctx, key, 0, -1).Result()
			state[strings.TrimPrefix(key, prefix)] = fmt.Sprint(list, err)
		} else {
			fields, err := r.HGetAll(ctx, key).Result()
			state[strings.TrimPrefix(key, prefix)] = fmt.Sprint(fields, err)
		}
	}
	return out, state
}
