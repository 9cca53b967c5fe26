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

// excuses are lives in which something looks like a breach, and is none.
var excuses = []struct {
	oracle, name, form string
	deed               func(h *history.History)
}{
	{"DoneMeansEffect", "a failover lost the effect", "chain", func(h *history.History) {
		h.Stores[0].Lost = slices.Clone(h.Stores[0].Lists["F:rows:k1"][1:2])
		uneffect(h, 0, 2)
	}},
	{"Codes", "no reason in the answer to a call, half of which other outcomes take", "plain", func(h *history.History) {
		unreasoned(h, 1500)
	}},
	{"Codes", "no reason in the answer to a call, whose output used up the coordinator's budget", "plain", func(h *history.History) {
		unreasoned(h, 500)
		t := h.Batches[0].Tries[0]
		t.Err, t.Code = "the output of the flow used up the coordinator's budget: raise --budget-bytes", batch.CodeBatchTooLarge
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
	{"OrderPerKey", "a coordinator with another limit took a row for too large, in the first copy of its batch", "plain", func(h *history.History) {
		tooLargeForOne(h)
		h.Runs = append(h.Runs, h.Runs[2]) // the second row once more
	}},
	{"OrderPerKey", "a worker with another limit took a row for too large, in the first copy of its batch", "plain", func(h *history.History) {
		tooLargeForOne(h)
		h.Lives[0].Settings.RowBytes, h.Lives[2].Settings.BatchBytes = 0, 1000
		h.Runs = append(h.Runs, h.Runs[2])
	}},
	{"OrderPerKey", "a row did not fit the row type of the worker that got the first copy of its batch", "plain", func(h *history.History) {
		otherType(h, 1)
	}},
	{"EffectsOnce", "a row that was saved did not fit the row type of the worker that got the second copy of its batch", "chain", func(h *history.History) {
		misfitAfterSave(h, 2)
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
	{"OrderPerKey", "Redis was away for longer than the row's time, and its batch ran again", "chain", func(h *history.History) {
		backAfterTimeout(h, 30*time.Second)
	}},
	{"OneAfterTheOther", "the shard key changed", "stretch", func(h *history.History) {
		h.Changes = append(h.Changes, history.Change{At: 10 * time.Second, Change: scenario.Change{Kind: "shard-key", Flow: "F"}, Good: true})
		foundOlder(h)
		h.Batches[1].Tries[0].Revision = revision + 1
	}},
	{"OneAfterTheOther", "the row ran twice", "stretch", func(h *history.History) {
		out := &h.Batches[1].Tries[0].Outputs[2]
		out.Row = strings.Replace(out.Row, `"found":6`, `"found":8`, 1)
		h.Runs = append(h.Runs, h.Runs[len(h.Runs)-1])
	}},
	{"OneAfterTheOther", "calls of one producer, while a worker came", "stretch", func(h *history.History) {
		foundOlder(h)
		for _, b := range h.Batches {
			b.Tries[0].Call = true
		}
		h.Lives[3].Began = 9 * time.Second
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
	{"Answered", "copies that wait for a connector, after the stream moved", "chain", func(h *history.History) {
		unansweredChain(h)
		h.Changes = append(h.Changes, history.Change{At: 110 * time.Second, Change: scenario.Change{Kind: "revise", Flow: "F"}})
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
	{"EffectsOnce", "a letter whose Save is refused in part, redriven again after the once-window", "chain", func(h *history.History) {
		redrivenAgain(h, 2*time.Hour)
	}},
	{"EffectsOnce", "a copy of a batch that was under way for longer than records are kept", "chain", func(h *history.History) { savedAgain(h, 76*time.Minute) }},
	{"OneRevision", "a producer that began again, and did not know the revision", "plain", func(h *history.History) {
		h.Scenario.Clients[0].How, h.Scenario.Clients[0].Forgets = "producer", true
		b := h.Batches[0]
		gone := *b.Tries[0]
		gone.Answered, gone.Gone, gone.NotDone, gone.Outputs = false, true, nil, nil
		b.Tries = append([]*history.Try{&gone}, b.Tries...)
		h.Runs[0].Revision = 4
	}},
	{"OrderPerKey", "a row took effect in the memory of a process that ended, and in that of its successor when its batch ran again", "memory", func(h *history.History) {
		first := inMemory(h)
		h.Stores = append(h.Stores, history.Store{Connector: forms.Memory, Kind: "memory", Lists: map[string][]string{"F:rows:k1": {first}}})
	}},
	{"OneRevision", "a producer that began again between two tries, and did not know the revision", "plain", func(h *history.History) {
		triedOnTwo(h)
		h.Faults = append(h.Faults, history.Fault{At: 20 * time.Second, Until: 25 * time.Second, Fault: scenario.Fault{Kind: "kill", Who: "c"}})
	}},
	{"MemoryBounded", "output of runs of rows that grow", "expand", func(h *history.History) {
		h.Batches[0].Rows[0].Do = "expand=grow:1000"
		set(h.Lives[2].Snaps[0], "kisgrid_worker_bytes_held", 64<<20*3/2+1<<20)
	}},
	{"Answered", "rows of the flow that go on all the time", "chain", func(h *history.History) {
		lateAnswer(h)
		goOn(h, 10*time.Second, false)
	}},
	{"EffectsOnce", "a Save that is refused in part, redriven from an earlier function and then from the Save", "chain", func(h *history.History) {
		h.Batches[0].Rows[0].Do = "save=misfit"
		redriven(h, 2)
	}},
	{"StatusTrue", "a row's time was up behind rows that hang, and that nobody waits for", "plain", func(h *history.History) {
		hanging(h)
		probeLate(h)
	}},
	{"NothingLeft", "metrics of a deleted flow with rows that hang, and that nobody waits for", "plain", func(h *history.History) {
		hanging(h)
		h.Documents = append(h.Documents, history.Document{At: time.Minute, Epoch: 1, Revision: 9, Kind: "flow", Name: "F", Deleted: true})
	}},
	{"Independence", "slow because of one worker of two, and the other one came back without a function", "plain", func(h *history.History) {
		comesBack(h, "build -verify")
	}},
	{"Answered", "the client went away", "plain", func(h *history.History) {
		*h.Batches[1].Tries[0] = history.Try{At: time.Minute, ID: h.Batches[1].Tries[0].ID, Ended: time.Minute, Gone: true}
	}},
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
