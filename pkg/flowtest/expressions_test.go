package flowtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// order is a row of the flow that TestExpressionsAsGo runs. A pointer is nil where the row has null, or nothing.
type order struct {
	ID    *int64  `json:"id"`
	A     *int64  `json:"a"`
	B     *int64  `json:"b"`
	Name  *string `json:"name"`
	Items []item  `json:"items"`
}

type item struct {
	SKU *string `json:"sku"`
	N   *int64  `json:"n"`
}

// summed is a row in the middle of the flow.
type summed struct {
	ID    int64   `json:"id"`
	Total int64   `json:"total"`
	Half  float64 `json:"half"`
	Label string  `json:"label"`
	Items []item  `json:"items"`
}

// line is an output row.
type line struct {
	ID    int64  `json:"id"`
	SKU   string `json:"sku"`
	Total int64  `json:"total"`
}

var errNoValue = errors.New("the row has no value for it")

// registerOrders registers the Go functions that do the same as the documents of ordersAs.
func registerOrders(r *kis.Registry) {
	r.Func("Checked", kis.Verify(func(_ context.Context, row order) error {
		switch {
		case row.ID == nil || row.A == nil:
			return errNoValue
		case *row.A < 0:
			return kis.Drop("a is negative")
		}
		return nil
	}))
	r.Func("Summed", kis.Calculate(func(_ context.Context, row order) (summed, error) {
		b := int64(1)
		if row.B != nil {
			b = *row.B
		}
		total := *row.A + b
		if (total > *row.A) != (b > 0) || int64(float64(total)) != total || float64(total) >= math.MaxInt64 {
			return summed{}, errors.New("outside of what the row can hold")
		}
		label := "none"
		if row.Name != nil {
			label = *row.Name + "-" + strconv.FormatInt(*row.ID, 10)
		}
		return summed{*row.ID, total, float64(total) / 2, label, row.Items}, nil
	}))
	r.Func("Kept", kis.Save(func(_ context.Context, to kis.Writer, row summed) error {
		key := strconv.FormatInt(row.ID, 10)
		to.Set(key, "label", row.Label)
		to.Set(key, "half", row.Half)
		return nil
	}))
	r.Func("Lines", kis.Expand(func(_ context.Context, row summed, emit func(line)) error {
		var lines []line
		for _, i := range row.Items {
			if i.N == nil {
				return errNoValue
			}
			if *i.N <= 0 {
				continue
			}
			sku := "?"
			if i.SKU != nil {
				sku = *i.SKU
			}
			lines = append(lines, line{row.ID, sku, row.Total})
		}
		for _, l := range lines {
			emit(l)
		}
		return nil
	}))
}

// ordersAs returns the documents of the flow, with the functions in Go or as expressions.
func ordersAs(expressions bool) fstest.MapFS {
	text := "kistype: flow\nflow_name: Orders\nstatus: 1\nshard_key: id\nflows: [{fname: Checked}, {fname: Summed}, {fname: Kept}, {fname: Lines}]\n---\n" +
		"kistype: conn\ncname: Store\ntype: redis\naddrs: \"${REDIS_ADDR:127.0.0.1:6379}\"\nkey: order_\n"
	if !expressions {
		text += "---\nkistype: func\nfname: Checked\nfmode: Verify\n---\nkistype: func\nfname: Summed\nfmode: Calculate\n---\n" +
			"kistype: func\nfname: Kept\nfmode: Save\noption: {cname: Store}\n---\nkistype: func\nfname: Lines\nfmode: Expand\n"
		return fstest.MapFS{"orders.yml": {Data: []byte(text)}}
	}
	return fstest.MapFS{"orders.yml": {Data: []byte(text + `---
kistype: func
fname: Checked
fmode: Verify
source: {fields: {id: int, a: int, b: "int?", name: "string?", items: "[{sku: string?, n: int?}]?"}}
option:
  verify: a >= 0 and id == id and (b ?? 0) == (b ?? 0) and (name ?? "") == (name ?? "") and len(items ?? []) >= 0
  reason: '"a is negative"'
---
kistype: func
fname: Summed
fmode: Calculate
source: {fields: {id: int, a: int, b: "int?", name: "string?", items: "[{sku: string?, n: int?}]?"}}
option:
  calculate:
    id: id
    total: a + (b ?? 1)
    half: (a + (b ?? 1)) / 2
    label: 'name == null ? "none" : name + "-" + string(id)'
    items: items ?? []
---
kistype: func
fname: Kept
fmode: Save
option:
  cname: Store
  save:
    key: = string(id)
    set: {label: = label, half: half}
---
kistype: func
fname: Lines
fmode: Expand
option:
  expand: {each: items, where: item.n > 0, set: {id: id, sku: 'item.sku ?? "?"', total: total}}
`)}}
}

// drawOrder returns a row: sometimes null, missing, of another type, on the edge of 64 bits, or with keys that nobody reads.
func drawOrder(r *rand.Rand, id int) string {
	number := func() string {
		return []string{"0", "1", "7", "-3", "null", "9007199254740993", "9007199254740992", "9223372036854775807", "-9223372036854775808", "1.5", `"12"`, "true", "1e3", "9223372036854775808", "[1]"}[r.IntN(15)]
	}
	usual := func(of func() string) string {
		if r.IntN(3) > 0 {
			return strconv.Itoa(r.IntN(1000))
		}
		return of()
	}
	fields := []string{fmt.Sprintf(`"id":%d`, id)}
	add := func(name, value string) {
		if r.IntN(8) > 0 {
			fields = append(fields, strconv.Quote(name)+":"+value)
		}
	}
	add([]string{"a", "a", "a", "A"}[r.IntN(4)], usual(number))
	add("b", usual(number))
	add("name", []string{`"x"`, `""`, "null", `"学号 ü\u00e9\ud83d\ude00"`, `"a\"b\\n"`, "5"}[r.IntN(6)])
	var items []string
	for range r.IntN(4) {
		items = append(items, []string{`{"sku":"s","n":1}`, `{"n":2,"sku":"学"}`, `{"sku":"z","n":0}`, `{"sku":null,"n":3}`, `{"sku":"q"}`, `{"sku":"w","n":null}`, `{"sku":4,"n":1}`}[r.IntN(7)])
	}
	add("items", []string{"[" + strings.Join(items, ",") + "]", "null"}[min(r.IntN(6), 1)])
	add("", "1")
	add("let", `{"":null}`)
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return "{" + strings.Join(fields, ",") + "}"
}

// Functions as expressions end rows as the same functions in Go do, give the same output, and leave the same in Redis: in this process and on a
// cluster.
func TestExpressionsAsGo(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var rows []json.RawMessage
	for id := range 600 {
		rows = append(rows, json.RawMessage(drawOrder(random, id)))
	}
	ended, stored := map[string][]string{}, map[string]string{}
	for name, expressions := range map[string]bool{"Go": false, "expressions": true} {
		register := registerOrders
		if expressions {
			register = func(*kis.Registry) {}
		}
		local, err := flowexec.NewLocalFS(ordersAs(expressions), register)
		if err != nil {
			t.Fatal(err)
		}
		ended[name+" locally"] = howEnded(t, rows, func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error) {
			return local.Submit(ctx, flow, b)
		})
		if err := local.Close(); err != nil {
			t.Error(err)
		}
		g := flowtest.Cluster(t, 2, flowtest.Register(register), flowtest.ConfFS(ordersAs(expressions)))
		c := g.Client()
		ended[name+" on a cluster"] = howEnded(t, rows, func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error) {
			return c.Submit(ctx, flow, b)
		})
		stored[name] = ordersIn(t, g.Redis(), len(rows))
	}
	want := ended["Go locally"]
	for name, got := range ended {
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s\nends %s as   %s\nand locally in Go as %s", rows[i], name, got[i], want[i])
			}
		}
	}
	if stored["Go"] != stored["expressions"] {
		t.Errorf("Redis has, by Go code:\n%s\nby expressions:\n%s", stored["Go"], stored["expressions"])
	}
	for _, outcome := range []string{"done", "filtered in Checked", "dead in Checked", "dead in Summed", "dead in Lines"} {
		if n := strings.Count(strings.Join(want, "\n"), outcome); n < 3 {
			t.Errorf("only %d rows end as %s", n, outcome)
		}
	}
}

// howEnded submits rows in one batch, and returns for each row its output, or its outcome and the function.
func howEnded(t *testing.T, rows []json.RawMessage, submit func(context.Context, string, *batch.Batch) (*batch.Result, error)) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := submit(ctx, "Orders", client.Rows(rows...))
	if result == nil {
		t.Fatal(err)
	}
	ended := slices.Repeat([]string{"done "}, len(rows))
	for i, origin := range result.Output.Origins {
		ended[origin] += string(result.Output.Rows.Row(i))
	}
	for _, o := range result.NotDone {
		ended[o.Row] = fmt.Sprintf("%v in %s", o.Outcome, o.Function)
	}
	return ended
}

// ordersIn returns what a Redis has of the orders 0 to n-1.
func ordersIn(t *testing.T, address string, n int) string {
	t.Helper()
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	var all []string
	for id := range n {
		hash, err := r.HGetAll(t.Context(), "order_"+strconv.Itoa(id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(id, hash))
	}
	return strings.Join(all, "\n")
}
