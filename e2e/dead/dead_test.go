package dead

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// payment is a row of flow Pay. The flow counts it, prices it, checks it and saves it.
type payment struct {
	Account int `json:"account"`
	N       int `json:"n"`
}

// priced is the row that the function Price makes of a payment.
type priced struct {
	Account int `json:"account"`
	N       int `json:"n"`
	Cents   int `json:"cents"`
}

var accounts = 500

// register registers the functions of flow Pay.
func register(r *kis.Registry) {
	r.Func("Count", kis.Save(func(_ context.Context, to kis.Writer, p payment) error {
		to.Append("log:count:"+strconv.Itoa(p.Account), strconv.Itoa(p.N))
		return nil
	}))
	r.Func("Price", kis.Calculate(func(_ context.Context, p payment) (priced, error) {
		return priced{p.Account, p.N, 100 * p.N}, nil
	}))
	r.Func("Check", kis.Verify(func(ctx context.Context, p priced) error {
		if kis.From(ctx).Param("strict") != "" && p.Cents < 1_000_000_000 {
			return fmt.Errorf("%d cents are not enough", p.Cents)
		}
		return nil
	}))
	r.Func("Store", kis.Save(func(_ context.Context, to kis.Writer, p priced) error {
		key := "last:" + strconv.Itoa(p.Account)
		to.Set(key, "cents", p.Cents)
		to.Incr(key, "sum", p.Cents)
		to.Append("log:store:"+strconv.Itoa(p.Account), strconv.Itoa(p.N))
		return nil
	}))
}

// documents are the documents of flow Pay. Where strict is set, its function Check refuses each row.
func documents(strict bool) map[string]string {
	params := ""
	if strict {
		params = "\n    params: {strict: \"yes\"}"
	}
	save := "kistype: func\nfname: %s\nfmode: Save\noption: {cname: Pay}\n"
	return map[string]string{
		"flow":  "kistype: flow\nflow_name: Pay\nstatus: 1\nshard_key: account\nflows:\n  - fname: Count\n  - fname: Price\n  - fname: Check" + params + "\n  - fname: Store\n",
		"count": fmt.Sprintf(save, "Count"),
		"price": "kistype: func\nfname: Price\nfmode: Calculate\n",
		"check": "kistype: func\nfname: Check\nfmode: Verify\n",
		"store": fmt.Sprintf(save, "Store"),
		"conn":  "kistype: conn\ncname: Pay\naddrs: \"${REDIS_ADDR}\"\ntype: redis\nkey: \"pay:\"\n",
	}
}

// submit sends the rows with the numbers first to end-1. It returns the rows that are not done, with their outcomes.
func submit(t *testing.T, c *client.Client, first, end int, options ...client.SubmitOption) (notDone []client.RowOutcome) {
	t.Helper()
	const size = 1000
	s, err := c.Stream(t.Context(), "Pay")
	if err != nil {
		t.Fatal(err)
	}
	var sent []*client.Pending
	for n := first; n < end; n += size {
		var rows []payment
		for i := n; i < min(n+size, end); i++ {
			rows = append(rows, payment{i % accounts, i})
		}
		p, err := s.Send(t.Context(), client.Rows(rows...), append(options, client.NoOutput())...)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, p)
	}
	for _, p := range sent {
		r, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		notDone = append(notDone, r.NotDone...)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return notDone
}

// faultless is the data that Redis must have after the rows 0 to n-1 without a fault.
func faultless(n int) map[string]string {
	logs, fields := map[string][]string{}, map[string]map[string]string{}
	for i := range n {
		a := strconv.Itoa(i % accounts)
		key := "pay:last:" + a
		if fields[key] == nil {
			fields[key] = map[string]string{}
		}
		logs["pay:log:count:"+a] = append(logs["pay:log:count:"+a], strconv.Itoa(i))
		fields[key]["cents"] = strconv.Itoa(100 * i)
		sum, _ := strconv.Atoi(fields[key]["sum"])
		fields[key]["sum"] = strconv.Itoa(sum + 100*i)
		logs["pay:log:store:"+a] = append(logs["pay:log:store:"+a], strconv.Itoa(i))
	}
	all := map[string]string{}
	for key, list := range logs {
		all[key] = strings.Join(list, " ")
	}
	for key, f := range fields {
		all[key] = fmt.Sprint(f)
	}
	return all
}

// expectData fails the test where the data of Redis differs from the wanted data.
func expectData(t *testing.T, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	shown := 0
	for key, value := range want {
		if got[key] != value && shown < 3 {
			t.Errorf("%s is\n%.300s, not\n%.300s", key, got[key], value)
			shown++
		}
	}
	t.Errorf("Redis has %d keys, want %d", len(got), len(want))
}

// TestRedriveKilled redrives 10,000 letters after their function was corrected. It kills the coordinator that runs the redrive, and a
// command line too. In the end Redis has the same data as without the fault, with the rows of each account in order.
func TestRedriveKilled(t *testing.T) {
	const rows = 10_000
	r := start(t, 2, register)
	r.apply(documents(true))
	notDone := submit(t, r.Dial(), 0, rows)
	if len(notDone) != rows {
		t.Fatalf("%d rows are not done", len(notDone))
	}
	for _, o := range notDone {
		if o.Outcome != batch.Dead || !o.Kept || o.NotKept != 0 || o.Function != "Check" {
			t.Fatalf("a row ended %+v", o)
		}
	}
	if letters, s := r.list("--limit", "3"); len(letters) != 3 || s.Letters != rows || !strings.Contains(string(letters[1].Row), `"cents":`) || letters[1].Function != "Check" {
		t.Fatalf("the list begins with %+v; the store: %+v", letters, s)
	}
	r.apply(documents(false))
	if out := r.must("dead", "redrive", "--flow", "Pay", "--dry-run"); !strings.Contains(out, "10000 letters would be redriven, 0 could not be") {
		t.Errorf("the dry run says %s", out)
	}

	// The first command line is killed once some letters are deleted, and the coordinator of the second one later.
	left := func() int { return int(r.redis.XLen(t.Context(), "kisgrid:dead:{Pay}:letters").Val()) }
	first := r.StartKisgrid(testprocess.Config{}, "dead", "redrive", "--flow", "Pay")
	testprocess.Until(t, "letters are redriven", func() error {
		if left() > rows-500 {
			return errors.New("too few yet")
		}
		return nil
	})
	first.Kill()
	killed := left()
	if killed == 0 {
		t.Error("the command line was killed too late to show anything")
	}
	second := r.StartKisgrid(testprocess.Config{}, "dead", "redrive", "--flow", "Pay", "-o", "json")
	testprocess.Until(t, "letters are redriven again", func() error {
		for line := range strings.Lines(second.Out()) {
			var p struct{ Done int }
			if err := json.Unmarshal([]byte(line), &p); err == nil && p.Done >= 100 {
				return nil // some hundreds of letters are deleted
			}
		}
		return fmt.Errorf("too few yet: %s", second.Out())
	})
	coordinators := 0
	for _, c := range r.Coordinators {
		if who, _, _ := strings.Cut(r.redis.Get(t.Context(), "kisgrid:dead:{Pay}:redrive").Val(), "/"); who != "" && strings.Contains(c.Log(), "id="+who) {
			t.Logf("%d letters were left when the command line was killed, %d when the coordinator was", killed, left())
			c.Kill()
			coordinators++
		}
	}
	if coordinators != 1 {
		t.Errorf("%d coordinators were killed", coordinators)
	}
	if code := second.Wait(); code != 0 {
		t.Fatalf("the redrive ended with %d:\n%s%s", code, second.Out(), second.Log())
	}
	t.Logf("the redrive said:\n%s%s", second.Out(), second.Log())
	expectData(t, r.data(), faultless(rows))
	if letters, s := r.list(); len(letters) != 0 || s.Letters != 0 {
		t.Errorf("%d letters are left, the store says %d", len(letters), s.Letters)
	}
}

// TestOneRedrive starts a second redrive of a flow while one runs. The same coordinator must refuse it too, so that each function
// runs once.
func TestOneRedrive(t *testing.T) {
	var mended atomic.Bool
	var checks atomic.Int64
	entered, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	r := start(t, 1, func(registry *kis.Registry) {
		register(registry)
		registry.Func("Gate", kis.Verify(func(context.Context, payment) error {
			switch {
			case !mended.Load():
				return errors.New("not yet")
			case checks.Add(1) == 1:
				close(entered)
			}
			<-goOn
			return nil
		}))
	})
	d := documents(false)
	d["flow"] = strings.Replace(d["flow"], "flows:\n", "flows:\n  - fname: Gate\n", 1)
	d["gate"] = "kistype: func\nfname: Gate\nfmode: Verify\n"
	r.apply(d)
	submit(t, r.Dial(), 0, 10)
	mended.Store(true)
	first := r.StartKisgrid(testprocess.Config{}, "dead", "redrive", "--flow", "Pay")
	<-entered
	if out, code := r.kisgrid("dead", "redrive", "--flow", "Pay", "--retry-for", "1ms"); code != 1 || !strings.Contains(out, "CONFLICT") {
		t.Errorf("the second redrive ended with %d:\n%s", code, out)
	}
	release()
	if code := first.Wait(); code != 0 {
		t.Errorf("the first redrive ended with %d:\n%s%s", code, first.Out(), first.Log())
	}
	if n := checks.Load(); n != 10 {
		t.Errorf("the mended function ran %d times for 10 letters", n)
	}
}

// TestOperator keeps, edits, redrives and drops letters with the command line.
func TestOperator(t *testing.T) {
	r := start(t, 1, register)
	r.apply(documents(true))
	c := r.Dial()
	submit(t, c, 0, 10)
	letters, _ := r.list()
	if len(letters) != 10 {
		t.Fatalf("there are %d letters", len(letters))
	}
	at := slices.IndexFunc(letters, func(l letter) bool { return strings.Contains(string(l.Row), `"n":3`) })
	id := letters[at].ID
	letters = slices.Delete(letters, at, at+1)
	if out := r.must("dead", "show", id); !strings.Contains(out, "300 cents are not enough") || !strings.Contains(out, `{"account":3,"n":3,"cents":300}`) {
		t.Errorf("show says:\n%s", out)
	}
	if out, code := r.kisgrid("dead", "edit", id, "--row", `{"account":`); code != 1 || !strings.Contains(out, "ROW_UNDECODABLE") {
		t.Errorf("half an object is taken: %d, %s", code, out)
	}
	r.must("dead", "edit", id, "--row", `{"account":3,"n":3,"cents":1000000000}`)
	out, code := r.kisgrid("dead", "redrive", "--flow", "Pay")
	if code != 1 || !strings.Contains(out, "10 letters: 1 done, 0 filtered, 0 aborted; 9 died again and stay, 0 could not be run and stay") ||
		!strings.Contains(out, "1 in Check of Pay: FUNCTION_ERROR: 500 cents are not enough") {
		t.Errorf("the redrive ended with %d:\n%s", code, out)
	}
	if got := r.redis.HGet(t.Context(), "pay:last:3", "cents").Val(); got != "1000000000" {
		t.Errorf("the edited row saved %q", got)
	}
	again, _ := r.list()
	if len(again) != 9 || again[0].ID != letters[0].ID || again[0].Redrives != 1 || again[8].ID != letters[8].ID {
		t.Errorf("after the redrive there are %+v", again)
	}

	// Letters whose function is no longer in the flow stay where they are.
	gone := documents(false)
	gone["flow"] = strings.Replace(gone["flow"], "  - fname: Check\n", "", 1)
	r.apply(gone)
	if out, code := r.kisgrid("dead", "redrive", "--flow", "Pay"); code != 1 || !strings.Contains(out, "9 could not be run and stay") || !strings.Contains(out, "function Check, in which the row died, is not in revision") {
		t.Errorf("the redrive ended with %d:\n%s", code, out)
	}
	if out := r.must("dead", "drop", "--flow", "Pay", "--function", "Check", "--dry-run"); out != "9 letters would be dropped\n" {
		t.Errorf("the dry run says %s", out)
	}
	if out := r.must("dead", "drop", "--flow", "Pay", "--code", "LOAD_TIMEOUT"); out != "0 letters dropped\n" {
		t.Errorf("the drop says %s", out)
	}
	if out := r.must("dead", "drop", letters[0].ID, letters[1].ID); out != "2 letters dropped\n" {
		t.Errorf("the drop says %s", out)
	}
	if out, code := r.kisgrid("dead", "drop"); code != 1 || !strings.Contains(out, "--all") {
		t.Errorf("a drop of nothing in particular ended with %d: %s", code, out)
	}
	r.apply(documents(false))
	r.must("dead", "redrive", letters[2].ID)
	if rest, s := r.list("--since", "1h"); len(rest) != 6 || s.Letters != 6 {
		t.Errorf("%d letters are left", len(rest))
	}
	if out, code := r.kisgrid("dead", "show", letters[0].ID); code != 1 || !strings.Contains(out, "NOT_FOUND") {
		t.Errorf("a dropped letter is shown: %d, %s", code, out)
	}
}

// TestRedriveResults prints the output of the flow for the rows of letters, as submit does, with the rows of each account in order.
// Without a selection of letters it runs none.
func TestRedriveResults(t *testing.T) {
	const rows = 2000
	r := start(t, 2, register)
	r.apply(documents(true))
	submit(t, r.Dial(), 0, rows)
	r.apply(documents(false))
	if out, code := r.kisgrid("dead", "redrive"); code != 1 || !strings.Contains(out, "--all") {
		t.Errorf("a redrive of nothing in particular ended with %d:\n%s", code, out)
	}
	if letters, _ := r.list(); len(letters) != rows {
		t.Fatalf("%d letters are left", len(letters))
	}
	code, out, log := r.Kisgrid("", "dead", "redrive", "--all", "--results")
	if code != 0 || !strings.Contains(log, fmt.Sprintf("%d letters: %d done", rows, rows)) {
		t.Fatalf("the redrive ended with %d:\n%s", code, log)
	}
	last, n := map[int]int{}, 0
	for line := range strings.Lines(out) {
		var p priced
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if before, some := last[p.Account]; some && p.N != before+accounts || !some && p.N != p.Account || p.Cents != 100*p.N {
			t.Errorf("after %d of account %d comes %+v", last[p.Account], p.Account, p)
		}
		last[p.Account] = p.N
		n++
	}
	if letters, _ := r.list(); n != rows || len(letters) != 0 {
		t.Errorf("%d rows are printed of %d, and %d letters are left", n, rows, len(letters))
	}
	expectData(t, r.data(), faultless(rows))
}

// TestNotKept checks the reason for each dead row that is not kept: the client wanted only a report, or the store is full, away, or
// not configured.
func TestNotKept(t *testing.T) {
	dead := testprocess.Address(t)
	stop := testgrid.StartRedis(t, dead)
	r := start(t, 1, register, "--dead-letters", "redis://"+dead, "--dead-letters-max", "5")
	r.apply(documents(true))
	c := r.Dial()
	count := func(outcomes []client.RowOutcome) map[batch.NotKept]int {
		n := map[batch.NotKept]int{}
		for _, o := range outcomes {
			if o.Outcome != batch.Dead || o.Kept != (o.NotKept == 0) {
				t.Errorf("a row ended %+v", o)
			}
			n[o.NotKept]++
		}
		return n
	}
	expect := func(what string, outcomes []client.RowOutcome, want map[batch.NotKept]int) {
		t.Helper()
		if got := count(outcomes); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("reported only", submit(t, c, 0, 3, client.ReportOnly()), map[batch.NotKept]int{batch.ReportOnly: 3})
	if letters, _ := r.list(); len(letters) != 0 {
		t.Errorf("%d rows are kept that were to be reported only", len(letters))
	}
	expect("nearly full", submit(t, c, 0, 7), map[batch.NotKept]int{0: 5, batch.StoreFull: 2})
	if _, s := r.list(); !s.Full || s.Refused != 2 || s.Limit != 5 {
		t.Errorf("the store is %+v", s)
	}
	if out := r.must("dead", "list"); !strings.Contains(out, "Pay: 5 of at most 5 letters - FULL") || !strings.Contains(out, "2 dead rows were not kept") {
		t.Errorf("list says:\n%s", out)
	}
	r.must("dead", "drop", "--all")
	expect("with room again", submit(t, c, 20, 22), map[batch.NotKept]int{0: 2})
	stop()
	expect("away", submit(t, c, 30, 40), map[batch.NotKept]int{batch.StoreAway: 10})
	if out, code := r.kisgrid("dead", "list"); code != 1 || !strings.Contains(out, "UNAVAILABLE") || !strings.Contains(out, dead) {
		t.Errorf("list ended with %d:\n%s", code, out)
	}

	none := start(t, 1, register, "--dead-letters=")
	none.apply(documents(true))
	expect("without a store", submit(t, none.Dial(), 0, 4), map[batch.NotKept]int{batch.NoStore: 4})
	if out, code := none.kisgrid("dead", "list"); code != 1 || !strings.Contains(out, "--dead-letters") {
		t.Errorf("list ended with %d:\n%s", code, out)
	}
}

// TestLargeBatch keeps 65,536 dead rows that functions have made large: 64 MiB of them in one batch.
func TestLargeBatch(t *testing.T) {
	var fixed atomic.Bool
	type wide struct {
		N    int    `json:"account"`
		Text string `json:"text"`
	}
	text := strings.Repeat("x", 1000)
	r := start(t, 1, func(r *kis.Registry) {
		r.Func("Widen", kis.Calculate(func(_ context.Context, p payment) (wide, error) { return wide{p.Account, text}, nil }))
		r.Func("Fail", kis.Verify(func(context.Context, wide) error {
			if fixed.Load() {
				return nil
			}
			return errors.New("no")
		}))
	})
	r.apply(map[string]string{
		"flow":  "kistype: flow\nflow_name: Wide\nstatus: 1\nshard_key: account\nflows:\n  - fname: Widen\n  - fname: Fail\n",
		"widen": "kistype: func\nfname: Widen\nfmode: Calculate\n",
		"fail":  "kistype: func\nfname: Fail\nfmode: Verify\n",
	})
	rows := make([]payment, 65536)
	for i := range rows {
		rows[i].Account = i
	}
	s, err := r.Dial().Stream(t.Context(), "Wide")
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Send(t.Context(), client.Rows(rows...))
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, o := range result.NotDone {
		if o.Kept {
			kept++
		}
	}
	if kept != len(rows) {
		t.Errorf("%d of %d rows are kept", kept, len(rows))
	}
	if letters, status := r.list("--limit", "1"); status.Letters != len(rows) || len(letters) != 1 || len(letters[0].Row) < 1000 {
		t.Errorf("the store has %d letters", status.Letters)
	}
}
