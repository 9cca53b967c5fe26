package oracle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

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
	{"EffectsOnce", "a redriven row twice", "chain", func(h *history.History) { redriven(h, 2) }},
	{"EffectsOnce", "a letter twice, redriven again within the once-window", "chain", func(h *history.History) { redrivenAgain(h, time.Minute) }},
	{"EffectsOnce", "twice on a slow link, but while records are kept", "chain", func(h *history.History) { savedAgain(h, 70*time.Minute) }},
	{"EffectsOnce", "a row three times, whose Save is refused in part", "chain", func(h *history.History) {
		h.Batches[0].Rows[0].Do = "save=misfit"
		redriven(h, 3)
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
	{"OrderPerKey", "a later row ran first, and a coordinator with another limit is there, but no copy of the batch ran", "plain", tooLargeForOne},
	{"OrderPerKey", "a later row ran first, with a second copy of its batch, and all workers have the same limit", "plain", func(h *history.History) {
		tooLargeForOne(h)
		h.Lives[0].Settings.RowBytes = 0
		h.Lives[2].Settings.BatchBytes, h.Lives[3].Settings.BatchBytes = 1000, 1000
		h.Runs = append(h.Runs, h.Runs[2])
	}},
	{"OrderPerKey", "a later row ran first in each copy of their batch, and a worker has another row type", "plain", func(h *history.History) {
		otherType(h, 2)
	}},
	{"EffectsOnce", "a row that did not fit a row type took effect, in one copy", "chain", func(h *history.History) {
		misfitAfterSave(h, 1)
	}},
	{"OneRevision", "two revisions", "plain", func(h *history.History) { h.Runs[3].Revision = 4 }},
	{"OrderPerKey", "a later row took effect first, in the memory of one process", "memory", func(h *history.History) { inMemory(h) }},
	{"OneRevision", "two revisions, of a producer that forgets, but has not begun again", "plain", triedOnTwo},
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
	{"OrderPerKey", "a later row took effect first, after Redis was away for less than the row's time", "chain", func(h *history.History) {
		backAfterTimeout(h, 90*time.Second)
	}},
	{"OneAfterTheOther", "a row found an older value, on the same revision as the row before, after the shard key changed", "stretch", func(h *history.History) {
		h.Changes = append(h.Changes, history.Change{At: 10 * time.Second, Change: scenario.Change{Kind: "shard-key", Flow: "F"}, Good: true})
		foundOlder(h)
	}},
	{"OneAfterTheOther", "a row of a stream found an older value, while a worker came", "stretch", func(h *history.History) {
		foundOlder(h)
		h.Lives[3].Began = 9 * time.Second
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
	{"Codes", "no reason in the answer to a call, with room for it", "plain", func(h *history.History) {
		unreasoned(h, 500)
	}},
	{"Codes", "no reason on a stream, whose answers come in pieces", "plain", func(h *history.History) {
		unreasoned(h, 1500)
		h.Batches[0].Tries[0].Call = false
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
	{"MemoryBounded", "more output than that of the runs under way", "expand", func(h *history.History) {
		h.Batches[0].Rows[0].Do = "expand=grow:1000"
		set(h.Lives[2].Snaps[0], "kisgrid_worker_bytes_held", 64<<20*5/2)
	}},
	{"MemoryBounded", "rows over the budget", "plain", func(h *history.History) { set(h.Lives[2].Snaps[0], "kisgrid_worker_rows_held", 300<<10) }},
	{"MemoryBounded", "bytes over the budget", "plain", func(h *history.History) { set(h.Lives[2].Snaps[0], "kisgrid_worker_bytes_held", 150<<20) }},
	{"MemoryBounded", "a coordinator is overdrawn", "plain", func(h *history.History) {
		set(h.Lives[0].Snaps[0], "kisgrid_coordinator_budget_left_bytes", -100<<20)
	}},
	{"MemoryBounded", "a coordinator has more than its budget", "plain", func(h *history.History) {
		set(h.Lives[0].Snaps[0], "kisgrid_coordinator_budget_left_bytes", 100<<20)
	}},
	{"Answered", "an answer after a pause of the flow's rows", "chain", func(h *history.History) {
		lateAnswer(h)
		goOn(h, time.Minute, false)
	}},
	{"Answered", "an answer after runs that repeat the same row", "chain", func(h *history.History) {
		lateAnswer(h)
		goOn(h, 10*time.Second, true)
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
	{"NothingLeft", "a metric of a flow that was deleted, and had left all others", "plain", func(h *history.History) {
		h.Documents = append(h.Documents, history.Document{At: time.Minute, Epoch: 1, Revision: 9, Kind: "flow", Name: "G", Deleted: true})
		snap := h.Final.Snaps["w1"]
		snap.Metrics = append(snap.Metrics, sample("kisgrid_function_rows_total", 1, "flow", "G"))
		h.Final.Snaps["w1"] = snap
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
	{"StatusTrue", "active, but a row's time was up, and no other row waits", "plain", probeLate},
	{"StatusTrue", "active, but no worker runs it, while rows wait that hang", "plain", func(h *history.History) {
		hanging(h)
		probeLate(h)
		h.Batches[2].Tries[0].Code = batch.CodeNoCapableWorker
	}},
	{"StatusTrue", "active, but a row's time was up, after few rows that hang", "plain", func(h *history.History) {
		hanging(h)
		probeLate(h)
		h.Batches[1].Rows = h.Batches[1].Rows[:3]
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
	{"Independence", "slow because of one worker of two, and the other one came back with more functions", "plain", func(h *history.History) {
		comesBack(h, "build more")
	}},
	{"Independence", "slow because of etcd", "plain", func(h *history.History) {
		slowBatch(h)
		h.Faults = append(h.Faults, history.Fault{At: 40 * time.Second, Until: 110 * time.Second, Fault: scenario.Fault{Kind: "etcd-election"}})
	}},
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

// backAfterTimeout makes the first row take effect behind a later one, when its batch ran again 40 seconds after Redis went away. timeout is
// the flow's.
func backAfterTimeout(h *history.History, timeout time.Duration) {
	h.Scenario.Flows[0].Timeout = timeout
	h.Faults = append(h.Faults, history.Fault{At: 9 * time.Second, Until: 49 * time.Second, Fault: scenario.Fault{Kind: "redis-stop"}})
	h.Batches[0].Tries[0].Ended = 50 * time.Second
	again := h.Runs[0]
	again.At = 50 * time.Second
	h.Runs = append(h.Runs, again)
	list := h.Stores[0].Lists["F:rows:k1"]
	list[0], list[1], list[2] = list[1], list[2], list[0]
}

// foundOlder makes the first row of the second batch find an older value than the one of the row before.
func foundOlder(h *history.History) {
	out := &h.Batches[1].Tries[0].Outputs[0]
	out.Row = strings.Replace(out.Row, `"found":5`, `"found":3`, 1)
}

// triedOnTwo makes the client a producer that forgets revisions, and its first batch one that was submitted twice and ran on two revisions.
func triedOnTwo(h *history.History) {
	h.Scenario.Clients[0].How, h.Scenario.Clients[0].Forgets = "producer", true
	b := h.Batches[0]
	again := *b.Tries[0]
	again.At, again.Ended = 30*time.Second, 31*time.Second
	b.Tries = append(b.Tries, &again)
	h.Runs[0].Revision = 4
}

// inMemory makes the store the memory of one process, and the first row of k1 take effect behind the others. It returns the row's entry.
func inMemory(h *history.History) string {
	h.Stores[0].Connector, h.Stores[0].Kind = forms.Memory, "memory"
	list := h.Stores[0].Lists["F:rows:k1"]
	first := list[0]
	copy(list, list[1:])
	list[len(list)-1] = first
	return first
}
