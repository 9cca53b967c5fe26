package oracle

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Life is a history with the indexes that checks share, and the report that they write.
type Life struct {
	*history.History
	report *Report
	check  string // the name of the check under way

	batches map[batch.ID]*history.Batch // by each id that a try had
	runs    map[batch.ID][]int          // by batch: the places in Runs
	streams map[batch.StreamID]string   // the client of each stream
	flows   map[string]*flow
	forward map[string][]time.Duration // by flow: what steps has found
	repeats int                        // what mostCopies has counted, without the tries of a batch; 0 means not yet
}

// flow is a flow of the scenario with its form.
type flow struct {
	scenario.Flow
	form *forms.Form
	// saves is the name of the function that writes to the connector; empty means none. declared says that it has no code, so that only
	// sums are written. memory says that it saves into the memory of its worker.
	saves            string
	declared, memory bool
	// stages has the place in the form of each function, by its name.
	stages map[string]int
}

// newLife makes the indexes of a history.
func newLife(h *history.History) *Life {
	l := &Life{
		History: h,
		report:  &Report{More: map[string]int{}, Checked: map[string]int{}, Excused: map[string]map[string]int{}},
		batches: map[batch.ID]*history.Batch{}, runs: map[batch.ID][]int{}, streams: map[batch.StreamID]string{}, flows: map[string]*flow{},
		forward: map[string][]time.Duration{},
	}
	for _, f := range h.Scenario.Flows {
		l.flows[f.Name] = newFlow(f)
	}
	for _, b := range h.Batches {
		for _, t := range b.Tries {
			if !t.ID.IsZero() {
				l.batches[t.ID] = b
				l.streams[t.ID.Stream] = b.Client
			}
		}
	}
	for i, r := range h.Runs {
		l.runs[r.ID.Batch] = append(l.runs[r.ID.Batch], i)
	}
	return l
}

// newFlow looks at the steps of a flow's form.
func newFlow(f scenario.Flow) *flow {
	out := &flow{Flow: f, form: forms.Of(f.Form), stages: map[string]int{}}
	for i, s := range out.form.Steps {
		name := out.form.Function(f.Name, s.Stage)
		out.stages[name] = i
		if s.Mode == definition.ModeSave {
			out.saves, out.declared, out.memory = name, s.Declared, s.Connector == forms.Memory
		}
	}
	return out
}

// functions returns the names of the flow's functions.
func (f *flow) functions() []string { return slices.Collect(maps.Keys(f.stages)) }

// usesStore reports whether the flow reads or writes Redis.
func (f *flow) usesStore() bool {
	return slices.ContainsFunc(f.form.Steps, func(s forms.Step) bool { return s.Connector == forms.Store })
}

// client returns the scenario's client of a name; the zero Client for a name that it does not have, such as that of a probe.
func (l *Life) client(name string) scenario.Client {
	for _, c := range l.Scenario.Clients {
		if c.Name == name {
			return c
		}
	}
	return scenario.Client{}
}

// end returns when a try ended, or when the record did.
func (l *Life) end(t *history.Try) time.Duration {
	if t.Ended == 0 {
		return l.Ended
	}
	return t.Ended
}

// span returns the time from a batch's first try to the end of its last one.
func (l *Life) span(b *history.Batch) (from, until time.Duration) {
	from = b.Tries[0].At
	for _, t := range b.Tries {
		until = max(until, l.end(t))
	}
	return from, until
}

// row is the subject of one row of a batch.
func (b rowOf) subject() Subject {
	return Subject{Flow: b.Flow, Batch: b.id(), Row: b.place, OneRow: true}
}

// rowOf is a row within its batch.
type rowOf struct {
	*history.Batch
	place int
}

// id returns the id of the batch's last try that has one.
func (b rowOf) id() batch.ID {
	var id batch.ID
	for _, t := range b.Tries {
		if !t.ID.IsZero() {
			id = t.ID
		}
	}
	return id
}

// row returns the row.
func (b rowOf) row() history.Row { return b.Rows[b.place] }

// settled reports whether the batch was submitted once only, was answered, and the row did not fail. Only of such rows the order is
// promised: a row that failed, or belongs to a batch that was refused or submitted again, may come after later ones.
func (b rowOf) settled() bool {
	return len(b.Tries) == 1 && b.Tries[0].Answered && b.Tries[0].Outcome(b.place).Outcome != batch.Failed
}

// done reports whether a client was told that the row is done, and when it was first told so.
func (b rowOf) done() (*history.Try, bool) {
	for _, t := range b.Tries {
		if t.Answered && t.Outcome(b.place).Outcome == batch.Done {
			return t, true
		}
	}
	return nil, false
}

// foreign reports whether runs and effects of batches that no client submitted may belong to a flow: those of dead letters that were run
// again, of clients that break the protocol, and of clients that went away before they learned the batch's id.
func (l *Life) foreign(flow string) bool {
	for _, c := range l.Calls {
		if strings.Contains(c.Verb, "redrive") {
			return true
		}
	}
	for _, c := range l.Scenario.Clients {
		if c.Flow == flow && c.How == "wrong" {
			return true
		}
	}
	for _, b := range l.Batches {
		for _, t := range b.Tries {
			if b.Flow == flow && (t.Gone || t.Ended == 0) && t.ID.IsZero() {
				return true
			}
		}
	}
	return false
}
