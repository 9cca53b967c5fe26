package dead

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// TestExplainGivenUp explains a key whose rows don't move: its first row waits for a key that nobody saves, and its client has given
// it up. The explanation must name the row behind it, with the reason for its wait. Once the key is saved both rows end.
func TestExplainGivenUp(t *testing.T) {
	type limit struct {
		Cents string `json:"cents"`
	}
	r := start(t, 1, func(registry *kis.Registry) {
		registry.Func("Limit", kis.Load(func(p payment) string { return "limit:" + strconv.Itoa(p.Account) },
			func(_ context.Context, p payment, _ *limit) (payment, error) { return p, nil }))
		registry.Func("SetLimit", kis.Save(func(_ context.Context, to kis.Writer, p payment) error {
			to.Set("limit:"+strconv.Itoa(p.Account), "cents", p.N)
			return nil
		}))
	})
	r.apply(map[string]string{
		"flow":     "kistype: flow\nflow_name: Pay\nstatus: 1\nshard_key: account\ntimeout: 10m\nflows:\n  - fname: Limit\n",
		"limit":    "kistype: func\nfname: Limit\nfmode: Load\noption: {cname: Pay, wait: 10m}\n",
		"limits":   "kistype: flow\nflow_name: Limits\nstatus: 1\nshard_key: account\nflows:\n  - fname: SetLimit\n",
		"setlimit": "kistype: func\nfname: SetLimit\nfmode: Save\noption: {cname: Pay}\n",
		"conn":     documents(false)["conn"],
	})
	explain := func(want ...string) (out string) {
		t.Helper()
		testprocess.Until(t, "the rows are explained", func() error {
			out = r.must("explain", "Pay", "7")
			for _, text := range want {
				if !strings.Contains(out, text) {
					return fmt.Errorf("without %q it says\n%s", text, out)
				}
			}
			return nil
		})
		return out
	}
	explain("rows of the key that have not ended: 0\n")
	c := r.Dial()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ended := make(chan error, 2)
	submit := func(ctx context.Context, n int) {
		_, err := c.Submit(ctx, "Pay", client.Rows(payment{7, n}))
		ended <- err
	}
	go submit(ctx, 1)
	explain("1 parked in worker w", `key "pay:limit:7" of connector Pay, for another 9m`, "function Limit")
	giveUp()
	if err := <-ended; err == nil {
		t.Error("a call that was given up ended well")
	}
	explain("not ended: 1, 1 given up by their clients", "given up by its client", "end by themselves")
	go submit(t.Context(), 2)
	explain("not ended: 2, 1 given up by their clients", "2 parked in worker w", "order: behind row 0 of batch ")

	var e struct {
		Rows []struct {
			Where, Worker, Function, Connector, Key, Behind string
			WaitsFor                                        string `json:"waits_for"`
			GivenUp                                         string `json:"given_up"`
			Seconds, Until                                  float64
		} `json:"key_rows"`
		Counts []struct {
			Where string
			Rows  int
		} `json:"key_counts"`
		GivenUp int `json:"given_up"`
	}
	if out := r.must("explain", "Pay", "7", "-o", "json", "--limit", "1"); json.Unmarshal([]byte(out), &e) != nil || len(e.Rows) != 1 || len(e.Counts) != 1 ||
		e.Counts[0].Rows != 2 || e.GivenUp != 1 || e.Rows[0].WaitsFor != "key" || e.Rows[0].Key != "pay:limit:7" || e.Rows[0].GivenUp != "cancelled" {
		t.Errorf("as JSON it is explained\n%s", out)
	}
	if _, err := c.Submit(t.Context(), "Limits", client.Rows(payment{7, 100})); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the row behind it ended with %v", err)
	}
	explain("rows of the key that have not ended: 0\n")
}
