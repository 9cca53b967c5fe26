package oracle

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
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

// breaches are ways to break a promise: the check that has to notice, the form of the flow, and the deed.
var breaches = []struct {
	oracle, name, form string
	deed               func(h *history.History)
}{
	{"OutcomeOnce", "a row has two outcomes", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeShutdown})
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeShutdown})
	}},
	{"OutcomeOnce", "a row that is not in the batch", "plain", func(h *history.History) {
		answer(h, 0, 3, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeShutdown})
	}},
	{"OutcomeOnce", "done among the rows that are not done", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Done})
	}},
	{"OutcomeOnce", "dead, neither kept nor not", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError})
		h.Batches[0].Tries[0].NotDone[0].NotKept = 0
	}},
	{"LedgerAddsUp", "a row is missing", "plain", func(h *history.History) { set(h.Lives[0].Snaps[0], "kisgrid_rows_in_total", 7) }},
	{"LedgerAddsUp", "a count goes back", "plain", func(h *history.History) {
		h.Lives[0].Snaps = append(h.Lives[0].Snaps, coordinatorSnap(90*time.Second, 5, 1, 4))
	}},
	{"LedgerAddsUp", "less than clients were told", "plain", func(h *history.History) {
		for _, c := range []string{"c1", "c2"} {
			set(h.Final.Snaps[c], "kisgrid_rows_in_total", 2)
			set(h.Final.Snaps[c], "kisgrid_rows_ended_total", 2)
		}
		h.Lives[0].Snaps, h.Lives[1].Snaps = nil, nil
	}},
	{"NothingRan", "a refused batch ran", "plain", func(h *history.History) {
		*h.Batches[0].Tries[0] = history.Try{At: time.Second, ID: h.Batches[0].Tries[0].ID, Ended: 2 * time.Second, Err: "OVERLOADED: try again", Code: batch.CodeOverloaded}
	}},
	{"NothingRan", "a refused batch has effects", "chain", func(h *history.History) {
		id := h.Batches[0].Tries[0].ID
		*h.Batches[0].Tries[0] = history.Try{At: time.Second, ID: id, Ended: 2 * time.Second, Err: "OVERLOADED: try again", Code: batch.CodeOverloaded}
		h.Runs = slices.DeleteFunc(h.Runs, func(r history.Run) bool { return r.ID.Batch == id })
	}},
	{"NothingRan", "a batch of nobody ran", "plain", func(h *history.History) { h.Runs[0].ID.Batch.Sequence = 77 }},
	{"DoneMeansEffect", "an effect is missing", "chain", func(h *history.History) { uneffect(h, 0, 2) }},
	{"DoneMeansEffect", "a function did not run", "plain", func(h *history.History) { h.Runs = h.Runs[1:] }},
	{"DoneMeansEffect", "an effect was lost, but by a failover of another time", "chain", func(h *history.History) {
		uneffect(h, 0, 2)
		h.Events = append(h.Events, history.Event{Kind: history.RedisLost, At: time.Minute, Since: 50 * time.Second})
	}},
	{"EffectsOnce", "an effect twice", "chain", func(h *history.History) {
		list := h.Stores[0].Lists["F:rows:k1"]
		h.Stores[0].Lists["F:rows:k1"] = append(list, strings.Replace(list[0], ":m1", ":m2", 1))
	}},
	{"EffectsOnce", "a sum has a row twice", "chain", func(h *history.History) { h.Stores[0].Hashes["F:sum:k2"]["n"] = "100" }},
	{"EffectsOnce", "a sum without a list", "chain", func(h *history.History) {
		h.Stores[0].Hashes["F:sum:k3"] = map[string]string{"n": "1", "count": "1"}
	}},
	{"EffectsOnce", "a declared sum has too much", "declared", func(h *history.History) { h.Stores[0].Hashes["F:sum:k2"]["n"] = "100" }},
	{"EffectsOnce", "a declared sum lacks a done row", "declared", func(h *history.History) { h.Stores[0].Hashes["F:sum:k2"]["n"] = "4" }},
	{"EffectsOnce", "an effect of nobody", "chain", func(h *history.History) {
		e, _ := history.ParseEntry(h.Stores[0].Lists["F:rows:k2"][0])
		e.ID.Batch.Stream[0]++
		h.Stores[0].Lists["F:rows:k2"][0] = e.String()
	}},
	{"EffectsOnce", "a redriven row twice", "chain", func(h *history.History) {
		h.Calls = append(h.Calls, history.Call{Verb: "dead redrive"})
		list := h.Stores[0].Lists["F:rows:k1"]
		e, _ := history.ParseEntry(list[0])
		for _, run := range slices.Clone(h.Runs) {
			for letter := range byte(2) {
				if again := run; run.ID == e.ID {
					again.ID.Batch.Stream[0] += 100 + letter
					h.Runs = append(h.Runs, again)
				}
			}
		}
		for letter := range byte(2) {
			again := e
			again.ID.Batch.Stream[0] += 100 + letter
			list = append(list, again.String())
		}
		h.Stores[0].Lists["F:rows:k1"] = list
	}},
	{"EffectsOnce", "an effect under another key", "chain", func(h *history.History) {
		lists := h.Stores[0].Lists
		lists["F:rows:k2"], lists["F:rows:k1"] = lists["F:rows:k1"], lists["F:rows:k2"]
	}},
	{"EffectsOnce", "a text that nobody wrote", "chain", func(h *history.History) { h.Stores[0].Lists["F:rows:k2"][0] = "x" }},
	{"EffectsOnce", "an effect of a row that was dropped", "chain", func(h *history.History) {
		h.Batches[0].Rows[1].Do = "verify=drop"
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeDropped, Function: "F_verify"})
	}},
	{"OrderPerKey", "a later row ran first", "plain", func(h *history.History) {
		h.Runs[0], h.Runs[4] = h.Runs[4], h.Runs[0]
	}},
	{"OrderPerKey", "a later row took effect first", "chain", func(h *history.History) {
		list := h.Stores[0].Lists["F:rows:k1"]
		list[0], list[2] = list[2], list[0]
	}},
	{"OneRevision", "two revisions", "plain", func(h *history.History) { h.Runs[3].Revision = 4 }},
	{"OneRevision", "two marks", "plain", func(h *history.History) { h.Runs[2].Mark = "m2" }},
	{"OneRevision", "two flows", "plain", func(h *history.History) { h.Runs[2].Flow = "G" }},
	{"OneRevision", "the answer names another one", "plain", func(h *history.History) { h.Batches[0].Tries[0].Revision = 4 }},
	{"OneRevision", "an effect of another one", "chain", func(h *history.History) {
		list := h.Stores[0].Lists["F:rows:k1"]
		list[0] = strings.Replace(list[0], ":m1", ":m2", 1)
	}},
	{"AllDocuments", "a document of another time", "plain", func(h *history.History) {
		for i := range h.Runs {
			if h.Runs[i].Function == "F_calculate" {
				h.Runs[i].Mark = "m0"
			}
		}
	}},
	{"AllDocuments", "a revision that is none of the flow's", "plain", func(h *history.History) {
		for i := range h.Runs {
			h.Runs[i].Revision = 99
		}
	}},
	{"RowByRow", "a plain row is dead", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Function: "F_verify"})
	}},
	{"RowByRow", "a plain row failed without a cause", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeNoCapableWorker})
		for _, life := range h.Lives {
			life.Began = -time.Hour
		}
	}},
	{"RowByRow", "too large, within the limits", "lost", func(h *history.History) {
		h.Batches[0].Rows[1].Do = "batch=lose"
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTooLarge, Function: "F_save"})
	}},
	{"RowByRow", "too old, within the once-window", "chain", func(h *history.History) {
		h.Batches[0].Older = 50 * time.Minute
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeBatchTooOld, Function: "F_save"})
	}},
	{"RowByRow", "a row that drops itself is done", "plain", func(h *history.History) { h.Batches[0].Rows[1].Do = "verify=drop" }},
	{"RowByRow", "dead in another function", "chain", func(h *history.History) {
		h.Batches[0].Rows[1].Do = "verify=error"
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Function: "F_save"})
	}},
	{"RowByRow", "a row of another key pays", "lineage", func(h *history.History) {
		h.Batches[0].Rows[0].Do = "batch=error"
		h.Batches[0].Rows[1].Do = ""
		for place := range 2 {
			uneffect(h, 0, place)
			answer(h, 0, place, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Function: "F_batch"})
		}
	}},
	{"RowByRow", "a Load in vain for a key that was there", "load", func(h *history.History) {
		h.Scenario.Flows = append(h.Scenario.Flows, scenario.Flow{Name: "G", Form: "set"})
		h.Batches = append(h.Batches, &history.Batch{Client: "d", Flow: "G", Rows: []history.Row{{Key: "k2"}}, Tries: []*history.Try{{At: time.Second, Ended: 2 * time.Second, Answered: true, Call: true}}})
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLoadTimeout, Function: "F_load"})
	}},
	{"RowByRow", "an output is missing", "plain", func(h *history.History) { h.Batches[0].Tries[0].Outputs = h.Batches[0].Tries[0].Outputs[1:] }},
	{"RowByRow", "an output of another row", "plain", func(h *history.History) { h.Batches[0].Tries[0].Outputs[0].Origin = 1 }},
	{"RowByRow", "an output of a dropped row", "plain", func(h *history.History) {
		h.Batches[0].Rows[1].Do = "verify=drop"
		outputs := slices.Clone(h.Batches[0].Tries[0].Outputs)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeDropped, Function: "F_verify"})
		h.Batches[0].Tries[0].Outputs = outputs
	}},
	{"OneAfterTheOther", "a row found an older value", "stretch", func(h *history.History) {
		out := &h.Batches[1].Tries[0].Outputs[2]
		out.Row = strings.Replace(out.Row, `"found":6`, `"found":5`, 1)
	}},
	{"Codes", "INTERNAL", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeInternal})
	}},
	{"Codes", "a code of another outcome", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeFunctionError})
	}},
	{"Codes", "no reason", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeShutdown})
		h.Batches[0].Tries[0].NotDone[0].Reason = ""
	}},
	{"Codes", "a call with a row's code", "plain", func(h *history.History) {
		h.Calls = append(h.Calls, history.Call{Verb: "get", Error: "try again", Code: batch.CodePoison})
	}},
	{"Codes", "a call without advice", "plain", func(h *history.History) {
		h.Calls = append(h.Calls, history.Call{Verb: "get", Error: "no", Code: batch.CodeNotFound})
	}},
	{"NoPanic", "a panic", "plain", func(h *history.History) {
		h.Events = append(h.Events, history.Event{Kind: history.Panicked, Who: "w1"})
	}},
	{"NoPanic", "a process ended by one", "plain", func(h *history.History) { h.Lives[0].Error = "panic: nil" }},
	{"NoPanic", "a log of INTERNAL", "plain", func(h *history.History) {
		h.Lives[0].Logs = append(h.Lives[0].Logs, history.Line{Level: "error", Text: "run: INTERNAL: index out of range"})
	}},
	{"NoSecret", "a log has a password", "plain", func(h *history.History) {
		h.Lives[0].Logs = append(h.Lives[0].Logs, history.Line{Text: "dial redis://:s3cret@redis-1"})
	}},
	{"NoSecret", "a label has it", "plain", func(h *history.History) { h.Final.Snaps["c1"].Metrics[0].Labels["flow"] = "s3cret" }},
	{"NoSecret", "a reason has it", "plain", func(h *history.History) {
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeShutdown, Reason: "s3cret"})
	}},
	{"NoSecret", "a call's answer has it", "plain", func(h *history.History) {
		h.Calls = append(h.Calls, history.Call{Verb: "get", Answer: "s3cret"})
	}},
	{"NoSecret", "a status has it", "plain", func(h *history.History) {
		h.Final.Etcd["status/conn/Store"] = history.EtcdKey{Value: "s3cret"}
	}},
	{"MemoryBounded", "rows over the budget", "plain", func(h *history.History) { set(h.Lives[2].Snaps[0], "kisgrid_worker_rows_held", 300<<10) }},
	{"MemoryBounded", "bytes over the budget", "plain", func(h *history.History) { set(h.Lives[2].Snaps[0], "kisgrid_worker_bytes_held", 150<<20) }},
	{"MemoryBounded", "a coordinator is overdrawn", "plain", func(h *history.History) {
		set(h.Lives[0].Snaps[0], "kisgrid_coordinator_budget_left_bytes", -100<<20)
	}},
	{"MemoryBounded", "a coordinator has more than its budget", "plain", func(h *history.History) {
		set(h.Lives[0].Snaps[0], "kisgrid_coordinator_budget_left_bytes", 100<<20)
	}},
	{"Answered", "no answer", "plain", func(h *history.History) {
		*h.Batches[1].Tries[0] = history.Try{At: time.Minute, ID: h.Batches[1].Tries[0].ID}
	}},
	{"Answered", "no answer, with a wrong address of the store, but one copy only", "chain", unansweredChain},
	{"Answered", "rows that wait longer than all of their key may", "chain", func(h *history.History) {
		unansweredChain(h)
		h.Batches[1].Tries[0].Ended, h.Batches[1].Tries[0].Answered = 145*time.Second, true
	}},
	{"Answered", "neither outcomes nor an error", "plain", func(h *history.History) { h.Batches[1].Tries[0].Answered = false }},
	{"Answered", "long after its deadline", "plain", func(h *history.History) { h.Batches[1].Tries[0].Deadline = time.Second }},
	{"WindowsFull", "a row in flight", "plain", func(h *history.History) { set(h.Final.Snaps["c1"], "kisgrid_rows_in_flight", 1) }},
	{"WindowsFull", "a budget is not whole", "plain", func(h *history.History) {
		set(h.Final.Snaps["c1"], "kisgrid_coordinator_budget_left_bytes", 5)
	}},
	{"WindowsFull", "a worker holds a row", "plain", func(h *history.History) { set(h.Final.Snaps["w1"], "kisgrid_worker_rows_held", 1) }},
	{"SessionsUp", "a session is missing", "plain", func(h *history.History) { set(h.Final.Snaps["c2"], "kisgrid_coordinator_sessions", 1) }},
	{"SessionsUp", "two leaders", "plain", func(h *history.History) { set(h.Final.Snaps["c2"], "kisgrid_coordinator_leader", 1) }},
	{"SessionsUp", "cut off", "plain", func(h *history.History) { set(h.Final.Snaps["c2"], "kisgrid_coordinator_cut_off", 1) }},
	{"SessionsUp", "not registered", "plain", func(h *history.History) { set(h.Final.Snaps["w2"], "kisgrid_worker_registered", 0) }},
	{"NothingLeft", "a goroutine", "plain", func(h *history.History) { h.Final.Goroutines = []string{"goroutine 7 [select]"} }},
	{"NothingLeft", "a connection", "plain", func(h *history.History) { h.Final.ConnsAfter = []history.Conn{{From: "c1", To: "w1"}} }},
	{"NothingLeft", "a membership key", "plain", func(h *history.History) { h.Final.EtcdAfter["workers/w1-1"] = history.EtcdKey{} }},
	{"NothingLeft", "a member that does not run", "plain", func(h *history.History) {
		h.Final.Etcd["workers/w0-1"] = history.EtcdKey{Lease: 3}
	}},
	{"NothingLeft", "a record forever", "plain", func(h *history.History) { h.Stores[0].Records["kisgrid:once:x"] = history.Record{} }},
	{"NothingLeft", "metrics of a deleted flow", "plain", func(h *history.History) {
		h.Documents = append(h.Documents, history.Document{At: time.Minute, Epoch: 1, Revision: 9, Kind: "flow", Name: "F", Deleted: true})
	}},
	{"Definitions", "no status", "plain", func(h *history.History) { delete(h.Final.Etcd, "status/flow/F") }},
	{"Definitions", "a status of nothing", "plain", func(h *history.History) { h.Final.Etcd["status/flow/X"] = history.EtcdKey{Value: "{}"} }},
	{"Definitions", "an older revision is wanted", "plain", status4(`{"wanted":4,"active":4,"state":"active"}`)},
	{"Definitions", "active, but not the wanted one", "plain", status4(`{"wanted":5,"active":4,"state":"active"}`)},
	{"Definitions", "disabled, but switched on", "plain", status4(`{"wanted":5,"active":5,"state":"disabled"}`)},
	{"Definitions", "rejected without a reason", "plain", status4(`{"wanted":5,"active":5,"state":"rejected"}`)},
	{"Definitions", "rejected, but right", "plain", status4(`{"wanted":5,"active":5,"state":"rejected","reasons":["no"]}`)},
	{"Definitions", "pending, but a worker could", "plain", status4(`{"wanted":5,"active":5,"state":"pending","reasons":["no"]}`)},
	{"Definitions", "applying forever", "plain", status4(`{"wanted":5,"active":5,"state":"applying","reasons":["no"]}`)},
	{"Definitions", "a state that nobody knows", "plain", status4(`{"wanted":5,"active":5,"state":"well"}`)},
	{"Definitions", "no JSON", "plain", status4(`active`)},
	{"Definitions", "a coordinator runs another one", "plain", func(h *history.History) { set(h.Final.Snaps["c2"], "kisgrid_flow_revision", 4) }},
	{"StatusTrue", "active, but nothing runs", "plain", func(h *history.History) {
		h.Batches[2].Tries[0] = &history.Try{At: 4 * time.Minute, Ended: 5 * time.Minute, Call: true, Err: "NO_CAPABLE_WORKER: start a worker", Code: batch.CodeNoCapableWorker}
	}},
	{"StatusTrue", "unserved, but it runs", "plain", func(h *history.History) {
		set(h.Final.Snaps["c1"], "kisgrid_flow_unserved", 1)
		set(h.Final.Snaps["c2"], "kisgrid_flow_unserved", 1)
	}},
	{"StatusTrue", "disabled, but it runs", "plain", status4(`{"wanted":5,"active":5,"state":"disabled"}`)},
	{"StatusTrue", "no status, but it runs", "plain", func(h *history.History) { delete(h.Final.Etcd, "status/flow/F") }},
	{"StatusTrue", "degraded, although the store is well", "plain", func(h *history.History) {
		set(h.Final.Snaps["c1"], "kisgrid_connector_degraded", 1)
	}},
	{"Independence", "slow without a reason", "plain", func(h *history.History) { slowBatch(h) }},
	{"Independence", "slow because of Redis, which the flow does not use", "plain", func(h *history.History) {
		slowBatch(h)
		h.Faults = append(h.Faults, history.Fault{At: 20 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "redis-slow"}})
	}},
	{"Independence", "slow because of one worker of two", "plain", func(h *history.History) {
		slowBatch(h)
		h.Faults = append(h.Faults, history.Fault{At: 20 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "stop", Who: "w1"}})
	}},
	{"Independence", "slow because of etcd", "plain", func(h *history.History) {
		slowBatch(h)
		h.Faults = append(h.Faults, history.Fault{At: 40 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "etcd-election"}})
	}},
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

// TestBreaches shows that each check notices each way to break its promise, and that every check has such a way.
func TestBreaches(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range breaches {
		clear(lastN)
		h := good(c.form)
		c.deed(h)
		r := Judge(h)
		tried[c.oracle] = true
		i := slices.IndexFunc(r.Breaches, func(b Breach) bool { return b.Oracle == c.oracle })
		if i < 0 {
			t.Errorf("%s does not notice: %s\n%s", c.oracle, c.name, r)
			continue
		}
		if story := r.Breaches[i].Story(h); story == "" {
			t.Errorf("%s: %s: the breach has no story", c.oracle, c.name)
		}
	}
	for _, c := range All {
		if !tried[c.Name] {
			t.Errorf("nothing shows that %s can fail", c.Name)
		}
	}
}

// excuses are lives in which something looks like a breach, and is none.
var excuses = []struct {
	oracle, name, form string
	deed               func(h *history.History)
}{
	{"DoneMeansEffect", "a failover lost the effect", "chain", func(h *history.History) {
		h.Stores[0].Lost = slices.Clone(h.Stores[0].Lists["F:rows:k1"][1:2])
		uneffect(h, 0, 2)
	}},
	{"RowByRow", "a batch that is too old", "chain", func(h *history.History) {
		h.Batches[0].Older = time.Hour
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeBatchTooOld, Function: "F_save"})
	}},
	{"OrderPerKey", "the shard key changed", "plain", func(h *history.History) {
		h.Changes = append(h.Changes, history.Change{At: 10 * time.Second, Change: scenario.Change{Kind: "shard-key", Flow: "F"}, Good: true})
		h.Runs[0], h.Runs[4] = h.Runs[4], h.Runs[0]
		for i := range h.Runs {
			if h.Runs[i].ID.Row == 2 {
				h.Runs[i].Revision = 6
			}
		}
	}},
	{"RowByRow", "failed after its deadline", "plain", func(h *history.History) {
		h.Batches[0].Tries[0].Deadline = h.Batches[0].Tries[0].At
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeDeadline})
	}},
	{"RowByRow", "a timeout in a process that was stopped", "plain", func(h *history.History) {
		h.Faults = append(h.Faults, history.Fault{At: time.Second, Until: 15 * time.Second, Fault: scenario.Fault{Kind: "stop", Who: "w1"}})
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionTimeout, Function: "F_verify"})
	}},
	{"RowByRow", "poison after three deaths", "plain", func(h *history.History) {
		for range 3 {
			h.Lives = append(h.Lives, &history.Life{Process: "w9", Kind: history.Worker, Ended: 10 * time.Second, How: history.Killed})
		}
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodePoison})
	}},
	{"RowByRow", "outputs without lineage are over a limit together", "lost", func(h *history.History) {
		h.Lives[0].Settings.BatchBytes = 250
		h.Batches[0].Rows[1].Do = "batch=lose"
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTooLarge, Function: "F_save"})
	}},
	{"RowByRow", "a row that the coordinator refused asks for nothing in the run of the others", "faas", func(h *history.History) {
		h.Lives[0].Settings.RowBytes = 1000
		h.Batches[0].Rows[1].Do, h.Batches[0].Rows[1].Bytes = "faas=error", 2000
		uneffect(h, 0, 1)
		answer(h, 0, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTooLarge})
	}},
	{"RowByRow", "a function that hangs has the timeout of another flow, which shares it", "shared", func(h *history.History) {
		h.Scenario.Flows[0].Timeout = 5 * time.Second
		h.Scenario.Flows = append(h.Scenario.Flows, scenario.Flow{Name: "Other", Form: "shared"})
		h.Batches[1].Rows[1].Do = "save=hang"
		h.Batches[1].Tries[0].Ended += 5 * time.Second
		uneffect(h, 1, 1)
		answer(h, 1, 1, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTimeout, Function: "shared_save"})
	}},
	{"OneAfterTheOther", "the row ran twice", "stretch", func(h *history.History) {
		out := &h.Batches[1].Tries[0].Outputs[2]
		out.Row = strings.Replace(out.Row, `"found":6`, `"found":8`, 1)
		h.Runs = append(h.Runs, h.Runs[len(h.Runs)-1])
	}},
	{"Independence", "slow because of Redis", "chain", func(h *history.History) {
		slowBatch(h)
		h.Faults = append(h.Faults, history.Fault{At: 15 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "redis-slow"}})
	}},
	{"Independence", "slow because both workers were stopped", "plain", func(h *history.History) {
		slowBatch(h)
		for _, who := range []string{"w1", "w2"} {
			h.Faults = append(h.Faults, history.Fault{At: 15 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "stop", Who: who}})
		}
	}},
	{"SessionsUp", "a worker with an address of its own", "plain", func(h *history.History) {
		h.Lives[2].Settings.Advertise = "127.0.0.1:7701"
		set(h.Final.Snaps["c1"], "kisgrid_coordinator_sessions", 1)
	}},
	{"Answered", "copies that wait for a connector, after a coordinator ended and began again", "chain", func(h *history.History) {
		unansweredChain(h)
		h.Lives[1].Ended = 20 * time.Second
		h.Lives = append(h.Lives, &history.Life{Process: "c2", Kind: history.Coordinator, Number: 2, Began: 30 * time.Second, Settings: h.Lives[1].Settings})
	}},
	{"Answered", "rows that could not begin to wait before a fault was over", "chain", func(h *history.History) {
		unansweredChain(h)
		h.Batches[1].Tries[0].Ended, h.Batches[1].Tries[0].Answered = 145*time.Second, true
		h.Faults = append(h.Faults, history.Fault{At: 6 * time.Second, Until: 30 * time.Second, Fault: scenario.Fault{Kind: "etcd-empty"}})
	}},
	{"Answered", "rows that wait behind copies of an earlier batch", "chain", func(h *history.History) {
		unansweredChain(h)
		h.Batches[1].Tries[0].Ended, h.Batches[1].Tries[0].Answered = 145*time.Second, true
		h.Runs = append(h.Runs, h.Runs[0])
	}},
	{"Answered", "the client went away", "plain", func(h *history.History) {
		*h.Batches[1].Tries[0] = history.Try{At: time.Minute, ID: h.Batches[1].Tries[0].ID, Ended: time.Minute, Gone: true}
	}},
}

// TestPatience shows that Independence counts round trips at the latency of the scenario, and the waits of each copy of a batch that ran.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name, form string
		deed       func(h *history.History)
		breaks     bool
	}{
		{"no latency", "stretch", func(*history.History) {}, true},
		{"a latency", "stretch", func(h *history.History) { h.Scenario.Latency = 3 * time.Second }, false},
		{"a latency, in a flow without a store", "plain", func(h *history.History) { h.Scenario.Latency = 3 * time.Second }, true},
		{"a slow row in one copy", "plain", func(h *history.History) { h.Batches[1].Rows[0].Do = "verify=slow:25s" }, true},
		{"a slow row in three copies", "plain", func(h *history.History) {
			h.Batches[1].Rows[0].Do = "verify=slow:25s"
			first := slices.IndexFunc(h.Runs, func(r history.Run) bool { return r.ID.Batch == h.Batches[1].Tries[0].ID })
			h.Runs = append(h.Runs, h.Runs[first], h.Runs[first])
		}, false},
	} {
		clear(lastN)
		h := good(c.form)
		slowBatch(h)
		c.deed(h)
		if r := Judge(h); slices.Contains(r.Broken(), "Independence") != c.breaks {
			t.Errorf("%s: want a breach: %v, got\n%s", c.name, c.breaks, r)
		}
	}
}

// TestRanInNextTry shows that runs of a further try, which may begin at the very moment at which it is submitted, do not count against the
// answer of the try before.
func TestRanInNextTry(t *testing.T) {
	clear(lastN)
	h := good("plain")
	b := h.Batches[0]
	answered := b.Tries[0]
	answered.At = h.Runs[0].At
	refused := &history.Try{At: time.Second, ID: answered.ID, Ended: 2 * time.Second, Err: "OVERLOADED: try again", Code: batch.CodeOverloaded}
	b.Tries = []*history.Try{refused, answered}
	if r := Judge(h); len(r.Breaches) > 0 {
		t.Errorf("%s", r)
	}
	h.Runs[0].At = 3 * time.Second
	if r := Judge(h); !slices.Contains(r.Broken(), "NothingRan") {
		t.Errorf("a run before the next try is not noticed:\n%s", r)
	}
}

// TestExcuses shows that each check lets pass, and counts, the cases that its promise leaves open.
func TestExcuses(t *testing.T) {
	for _, c := range excuses {
		clear(lastN)
		h := good(c.form)
		c.deed(h)
		r := Judge(h)
		if slices.Contains(r.Broken(), c.oracle) || len(r.Excused[c.oracle]) == 0 {
			t.Errorf("%s: %s: excuses %v\n%s", c.oracle, c.name, r.Excused[c.oracle], r)
		}
		if !strings.Contains(r.Excuses(), c.oracle) {
			t.Errorf("the report does not name the excuse: %s", r.Excuses())
		}
	}
}

// TestCodesAreThoseOfTheDocs shows that the tables of codes are those of docs/outcomes.md.
func TestCodesAreThoseOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/outcomes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(text), "## Codes of rows")
	rows, calls, found := strings.Cut(rows, "## Codes of calls")
	if !found {
		t.Fatal("docs/outcomes.md has no codes of rows and calls")
	}
	code := regexp.MustCompile(`[A-Z][A-Z_]+`)
	got := map[string]batch.Outcome{}
	for line := range strings.Lines(rows) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for o := batch.Done; o <= batch.Failed; o++ {
			if strings.TrimSpace(cells[2]) == o.String() {
				for _, c := range code.FindAllString(cells[1], -1) {
					got[c] = o
				}
			}
		}
	}
	if len(got) != len(rowCodes) {
		t.Errorf("docs/outcomes.md has %d codes of rows, the table %d", len(got), len(rowCodes))
	}
	for c, o := range got {
		if rowCodes[c] != o {
			t.Errorf("docs/outcomes.md says that %s is %s, the table %s", c, o, rowCodes[c])
		}
	}
	var names []string
	for line := range strings.Lines(calls) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			names = append(names, code.FindAllString(cells[1], -1)...)
		}
	}
	slices.Sort(names)
	want := slices.Clone(callCodes)
	slices.Sort(want)
	if !slices.Equal(slices.Compact(names), want) {
		t.Errorf("docs/outcomes.md has the codes of calls %v, the table %v", names, want)
	}
}
