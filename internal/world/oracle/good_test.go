package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// revision is the flow's revision in histories made by hand.
const revision = 5

// stream is the stream of the client c.
var stream = batch.StreamID{1, 2, 3}

// good makes the history of a life in which every promise is kept: a coordinator, two workers, a flow of a form, and a client whose stream has
// two batches of three rows, with the keys k1, k2 and k1.
func good(form string) *history.History {
	f := scenario.Flow{Name: "F", Form: form}
	if forms.Of(form).LoadsOther {
		f.For = "G"
	}
	h := &history.History{
		Scenario: scenario.Scenario{
			Flows:        []scenario.Flow{f},
			Clients:      []scenario.Client{{Name: "c", How: "stream", Flow: "F", Host: "h9"}},
			Coordinators: []scenario.Process{{Name: "c1", Host: "h1"}, {Name: "c2", Host: "h2"}},
			Workers:      []scenario.Process{{Name: "w1", Host: "h3"}, {Name: "w2", Host: "h4"}},
		},
		Calm: 2 * time.Minute, Ended: 5 * time.Minute,
		Secrets: []history.Secret{{Name: "the password of Redis", Text: "s3cret"}},
	}
	for _, p := range h.Scenario.Coordinators {
		h.Lives = append(h.Lives, &history.Life{Process: p.Name, Kind: history.Coordinator, Number: 1, Settings: p, Snaps: []history.Snap{coordinatorSnap(time.Minute, 6, 2, 4)}})
	}
	for _, p := range h.Scenario.Workers {
		h.Lives = append(h.Lives, &history.Life{Process: p.Name, Kind: history.Worker, Number: 1, Settings: p, Snaps: []history.Snap{workerSnap(time.Minute, 4)}})
	}
	model := newFlow(f)
	etcd := map[string]history.EtcdKey{}
	for _, d := range append(forms.Documents(f, forms.First(f, "m1")), forms.Connectors{Addresses: "redis-1:6379"}.Documents()...) {
		at := int64(2)
		if d.Kind == definition.KindFunc {
			at = revision
		}
		h.Documents = append(h.Documents, history.Document{At: time.Second, Epoch: 1, Revision: at, Kind: string(d.Kind), Name: d.Name, Mark: "m1", YAML: string(d.YAML)})
		etcd["config/"+string(d.Kind)+"/"+d.Name] = history.EtcdKey{Value: string(d.YAML), Revision: at}
	}
	etcd["status/flow/F"] = history.EtcdKey{Value: `{"wanted":5,"active":5,"state":"active"}`, Revision: 6}
	for _, key := range []string{"workers/w1-1", "workers/w2-1", "coordinators/c1-1", "coordinators/c2-1"} {
		etcd[key] = history.EtcdKey{Value: "{}", Lease: 7}
	}
	store := history.Store{Connector: forms.Store, Kind: "redis", Lists: map[string][]string{}, Hashes: map[string]map[string]string{}, Records: map[string]history.Record{"kisgrid:once": {TTL: 3600}}}
	sums := map[string][2]int{}
	now := 10 * time.Second
	for number := 1; number <= 2; number++ {
		id := batch.ID{Stream: stream, Sequence: uint64(number)}
		b := &history.Batch{Client: "c", Flow: "F", Number: number, Results: true}
		t := &history.Try{At: now, Sent: now, ID: id, Answered: true, Revision: revision}
		for place, key := range []string{"k1", "k2", "k1"} {
			n := 3*number + place
			b.Rows = append(b.Rows, history.Row{Key: key, N: n, Bytes: 30})
			out := forms.Row{Key: key, N: n}
			for _, s := range model.form.Steps {
				if s.Declared {
					continue
				}
				now += time.Millisecond
				row := batch.RowID{Batch: id, Row: uint32(place)}
				h.Runs = append(h.Runs, history.Run{At: now, Process: "w1", Life: 1, Flow: "F", Function: model.form.Function("F", s.Stage), Mark: "m1", Revision: revision, ID: row, Key: key, N: n, Attempt: 1})
				if s.Mode == definition.ModeSave {
					list := forms.ListKey("F", key)
					store.Lists[list] = append(store.Lists[list], history.Entry{ID: row, Function: model.saves, Mark: "m1"}.String())
				}
			}
			before := sums[key]
			if model.form.Stretch && before[1] > 0 {
				found := lastN[key]
				out.Found = &found
			}
			sums[key] = [2]int{before[0] + n, before[1] + 1}
			lastN[key] = n
			text, err := json.Marshal(out)
			if err != nil {
				panic(err) // numbers and texts can be written
			}
			t.Outputs = append(t.Outputs, history.Output{Origin: uint32(place), Row: string(text)})
		}
		now += time.Millisecond
		t.Ended = now
		b.Tries = []*history.Try{t}
		h.Batches = append(h.Batches, b)
	}
	if model.saves != "" {
		for key, sum := range sums {
			hash := map[string]string{"n": fmt.Sprint(sum[0]), "count": fmt.Sprint(sum[1])}
			if model.declared {
				delete(hash, "count")
			}
			store.Hashes[forms.SumKey("F", key)] = hash
		}
	}
	h.Stores = []history.Store{store}
	probe := &history.Try{At: 4 * time.Minute, Call: true, ID: batch.ID{Stream: batch.StreamID{9}, Sequence: 1}, Ended: 4*time.Minute + time.Second, Answered: true, Revision: revision, NotDone: []batch.RowOutcome{{Row: 0, Outcome: batch.Filtered, Code: batch.CodeDropped, Function: model.form.Function("F", model.form.Steps[0].Stage), Reason: "dropped"}}}
	h.Batches = append(h.Batches, &history.Batch{Client: Probe, Flow: "F", Number: 1, Rows: []history.Row{{Key: "probe", Do: model.form.Steps[0].Stage + "=drop"}}, Tries: []*history.Try{probe}})
	h.Final = &history.Final{
		At: 4*time.Minute + 30*time.Second, Etcd: etcd, EtcdAfter: map[string]history.EtcdKey{"config/flow/F": {}},
		Snaps: map[string]history.Snap{
			"c1": restSnap(1), "c2": restSnap(0), "w1": workerRest(), "w2": workerRest(),
		},
	}
	return h
}

// lastN has the number of the last row of each key, while good makes a history.
var lastN = map[string]int{}

// sample makes a sample of a metric; labels are name, value, name, value.
func sample(name string, value float64, labels ...string) history.Sample {
	m := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		m[labels[i]] = labels[i+1]
	}
	return history.Sample{Name: name, Value: value, Labels: m}
}

// coordinatorSnap makes a coordinator's metrics while it works.
func coordinatorSnap(at time.Duration, in, done, inFlight float64) history.Snap {
	return history.Snap{At: at, Metrics: []history.Sample{
		sample("kisgrid_rows_in_total", in, "flow", "F"), sample("kisgrid_rows_ended_total", done, "flow", "F", "outcome", "done"),
		sample("kisgrid_rows_in_flight", inFlight, "flow", "F"), sample("kisgrid_coordinator_budget_left_bytes", 1000), sample("kisgrid_coordinator_streams", 1),
	}}
}

// restSnap makes a coordinator's metrics at rest.
func restSnap(leader float64) history.Snap {
	return history.Snap{At: 4 * time.Minute, Metrics: []history.Sample{
		sample("kisgrid_rows_in_total", 6, "flow", "F"), sample("kisgrid_rows_ended_total", 6, "flow", "F", "outcome", "done"),
		sample("kisgrid_rows_in_flight", 0, "flow", "F"), sample("kisgrid_coordinator_budget_left_bytes", defaultCoordinatorBudget), sample("kisgrid_coordinator_streams", 0),
		sample("kisgrid_coordinator_sessions", 2), sample("kisgrid_coordinator_leader", leader), sample("kisgrid_coordinator_cut_off", 0),
		sample("kisgrid_flow_revision", revision, "flow", "F"), sample("kisgrid_flow_unserved", 0, "flow", "F"),
		sample("kisgrid_connector_degraded", 0, "connector", "Store", "worker", "w1-1", "reason", ""),
	}}
}

// workerSnap makes a worker's metrics while it works.
func workerSnap(at time.Duration, rows float64) history.Snap {
	return history.Snap{At: at, Metrics: []history.Sample{
		sample("kisgrid_worker_rows_held", rows), sample("kisgrid_worker_bytes_held", 30*rows), sample("kisgrid_worker_rows_granted", 1000),
		sample("kisgrid_worker_bytes_granted", 100000), sample("kisgrid_worker_budget_rows", 256<<10), sample("kisgrid_worker_budget_bytes", 64<<20),
	}}
}

// workerRest makes a worker's metrics at rest.
func workerRest() history.Snap {
	s := workerSnap(4*time.Minute, 0)
	s.Metrics = append(s.Metrics, sample("kisgrid_worker_registered", 1))
	return s
}

// TestGood shows that no check complains of a life in which everything is as promised, in any form of flow.
func TestGood(t *testing.T) {
	for _, form := range scenario.Forms {
		clear(lastN)
		r := Judge(good(form.Name))
		if len(r.Breaches) > 0 {
			t.Errorf("%s:\n%s", form.Name, r)
		}
		for _, c := range All {
			if r.Checked[c.Name] == 0 && c.Name != "OneAfterTheOther" && !(c.Name == "EffectsOnce" && (form.Name == "plain")) && !(c.Name == "OrderPerKey" && !form.Sharded) {
				t.Errorf("%s: %s looked at nothing", form.Name, c.Name)
			}
		}
	}
}

// set changes the value of a metric in a snapshot.
func set(s history.Snap, name string, value float64) {
	for i := range s.Metrics {
		if s.Metrics[i].Name == name {
			s.Metrics[i].Value = value
		}
	}
}

// answer makes a row of a batch end with an outcome, and drops its output.
func answer(h *history.History, number, place int, o batch.RowOutcome) {
	t := h.Batches[number].Tries[0]
	o.Row = uint32(place)
	if o.Reason == "" {
		o.Reason = "a reason"
	}
	if o.Outcome == batch.Dead {
		o.NotKept = batch.NoStore
	}
	t.NotDone = append(t.NotDone, o)
	slices.SortFunc(t.NotDone, func(a, b batch.RowOutcome) int { return int(a.Row) - int(b.Row) })
	t.Outputs = slices.DeleteFunc(t.Outputs, func(out history.Output) bool { return out.Origin == uint32(place) })
}

// uneffect takes the effects of a row out of the store.
func uneffect(h *history.History, number, place int) {
	row := h.Batches[number].Rows[place]
	key := forms.ListKey("F", row.Key)
	h.Stores[0].Lists[key] = slices.DeleteFunc(h.Stores[0].Lists[key], func(text string) bool {
		e, _ := history.ParseEntry(text)
		return e.ID.Batch.Sequence == uint64(number+1) && int(e.ID.Row) == place
	})
	sum := h.Stores[0].Hashes[forms.SumKey("F", row.Key)]
	var n, count int
	fmt.Sscan(sum["n"], &n)
	fmt.Sscan(sum["count"], &count)
	sum["n"], sum["count"] = fmt.Sprint(n-row.N), fmt.Sprint(count-1)
}

// status4 returns a deed that writes the flow's status.
func status4(text string) func(h *history.History) {
	return func(h *history.History) { h.Final.Etcd["status/flow/F"] = history.EtcdKey{Value: text, Revision: 6} }
}

// unansweredChain gives the connector a wrong address, and the second batch no answer. Of its key k1 four rows wait for half a minute each.
func unansweredChain(h *history.History) {
	h.Scenario.Flows[0].Timeout = 30 * time.Second
	h.Changes = append(h.Changes, history.Change{At: 5 * time.Second, Change: scenario.Change{Kind: "bad-connector", Flow: "F"}})
	t := h.Batches[1].Tries[0]
	*t = history.Try{At: t.At, Sent: t.Sent, ID: t.ID}
	h.Runs = slices.DeleteFunc(h.Runs, func(r history.Run) bool { return r.ID.Batch == t.ID })
}

// slowBatch makes the second batch take almost two minutes.
func slowBatch(h *history.History) {
	h.Batches[1].Tries[0].Ended = h.Batches[1].Tries[0].At + 115*time.Second
	for _, life := range h.Lives {
		life.Began = -time.Hour
	}
}

// lateAnswer gives the flow short timeouts, and the second batch its answer 25 seconds after calm is over.
func lateAnswer(h *history.History) {
	h.Scenario.Flows[0].Timeout = 5 * time.Second
	h.Batches[1].Tries[0].Ended = 145 * time.Second
}

// goOn adds a run in each interval until three minutes: of another row each time, or of the same one again and again.
func goOn(h *history.History, every time.Duration, again bool) {
	run := h.Runs[0]
	run.ID.Row += 10
	for at := every; at < 3*time.Minute; at += every {
		if run.At = at; !again {
			run.ID.Row++
		}
		h.Runs = append(h.Runs, run)
	}
}

// redriven adds redrives of letters of the first row of the client, each of which took effect.
func redriven(h *history.History, letters byte) {
	h.Calls = append(h.Calls, history.Call{Verb: "dead redrive"})
	list := h.Stores[0].Lists["F:rows:k1"]
	e, _ := history.ParseEntry(list[0])
	for _, run := range slices.Clone(h.Runs) {
		for letter := range letters {
			if again := run; run.ID == e.ID {
				again.ID.Batch.Stream[0] += 100 + letter
				h.Runs = append(h.Runs, again)
			}
		}
	}
	for letter := range letters {
		again := e
		again.ID.Batch.Stream[0] += 100 + letter
		list = append(list, again.String())
	}
	h.Stores[0].Lists["F:rows:k1"] = list
}

// redrivenAgain adds a redrive of a letter that took effect, and a further one of the same letter after a time that did so, too.
func redrivenAgain(h *history.History, after time.Duration) {
	redriven(h, 1)
	list := h.Stores[0].Lists["F:rows:k1"]
	h.Stores[0].Lists["F:rows:k1"] = append(list, list[len(list)-1])
	for _, run := range slices.Clone(h.Runs) {
		if run.ID.Batch.Stream != stream {
			run.At += after
			h.Runs = append(h.Runs, run)
		}
	}
}

// savedAgain makes the Save run once more for the client's first row after a time, and take effect twice, while a link is slow.
func savedAgain(h *history.History, after time.Duration) {
	list := h.Stores[0].Lists["F:rows:k1"]
	h.Stores[0].Lists["F:rows:k1"] = slices.Insert(list, 0, list[0])
	h.Stores[0].Hashes["F:sum:k1"] = map[string]string{"n": "25", "count": "5"}
	h.Faults = append(h.Faults, history.Fault{At: time.Second, Until: 3 * time.Hour, Fault: scenario.Fault{Kind: "slow", Who: "w1", Whom: "c1"}})
	i := slices.IndexFunc(h.Runs, func(r history.Run) bool { return r.Function == "F_save" })
	again := h.Runs[i]
	again.At += after
	h.Runs = append(h.Runs, again)
}

// tooLargeForOne makes a row that is too large for one coordinator run after a later row of its key.
func tooLargeForOne(h *history.History) {
	h.Lives[0].Settings.RowBytes = 1000
	h.Batches[0].Rows[0].Bytes = 2000
	h.Runs[0], h.Runs[4] = h.Runs[4], h.Runs[0]
}

// unreasoned makes the first batch a call, of which two rows were dropped: the first with a reason of some bytes, the second without one. A
// coordinator takes batches of 2,000 bytes, so that half of an answer is about 1,100.
func unreasoned(h *history.History, bytes int) {
	h.Lives[0].Settings.BatchBytes, h.Lives[0].Settings.BatchRows = 2000, 3
	h.Batches[0].Tries[0].Call = true
	for place := range 2 {
		h.Batches[0].Rows[place].Do = "verify=drop"
		answer(h, 0, place, batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeDropped, Function: "F_verify", Reason: strings.Repeat("x", bytes)})
	}
	h.Batches[0].Tries[0].NotDone[1].Reason = ""
}

// otherType gives a worker another row type, and makes the first function run the first batch twice, the second time in another order than
// the first. The Calculate function gets the batch's first row so often, and never before the third one.
func otherType(h *history.History, often int) {
	h.Lives[3].Settings.Build = "row2"
	runs := slices.Clone(h.Runs[:6]) // two functions for each of three rows
	h.Runs = slices.Concat(runs[:1], runs[2:], runs[:2], h.Runs[6:])
	for range often - 1 {
		h.Runs = append(h.Runs, runs[1])
	}
}

// misfitAfterSave gives a worker another row type, and makes the first function run the second row of the first batch so often. The row was
// saved, and did not fit the row type of a Calculate function.
func misfitAfterSave(h *history.History, often int) {
	h.Lives[3].Settings.Build = "row2"
	first := slices.IndexFunc(h.Runs, func(r history.Run) bool { return r.ID.Row == 1 })
	for range often - 1 {
		h.Runs = append(h.Runs, h.Runs[first])
	}
	answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Function: "F_calculate"})
}

// hanging gives the second batch rows that hang, 150 seconds together at the least, and makes its client go away.
func hanging(h *history.History) {
	for n := range 6 {
		h.Batches[1].Rows = append(h.Batches[1].Rows, history.Row{Key: "k3", N: 100 + n, Bytes: 30})
	}
	t := h.Batches[1].Tries[0]
	*t = history.Try{At: 100 * time.Second, Sent: 100 * time.Second, ID: t.ID, Ended: 110 * time.Second, Gone: true}
	for place := range h.Batches[1].Rows {
		h.Batches[1].Rows[place].Do = "verify=hang"
	}
}

// probeLate makes the probe end because its time was up.
func probeLate(h *history.History) {
	h.Batches[2].Tries[0] = &history.Try{At: 4 * time.Minute, Ended: 260 * time.Second, Call: true, Err: "DEADLINE: time was up", Code: batch.CodeDeadline}
}

// comesBack makes the second batch slow while one worker is stopped, after the other one came back with other settings.
func comesBack(h *history.History, settings string) {
	slowBatch(h)
	h.Faults = append(h.Faults,
		history.Fault{At: time.Second, Until: 2 * time.Second, Fault: scenario.Fault{Kind: "kill", Who: "w1", Then: settings}},
		history.Fault{At: 20 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "stop", Who: "w2"}})
}
