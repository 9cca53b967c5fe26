package world

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// flowState is how the documents of a flow are to be, as the operator wants it.
type flowState struct {
	flow    scenario.Flow
	variant forms.Variant // guarded by world.mu
	deleted bool          // guarded by world.mu
}

// nextMark gives out a mark for documents. The caller holds mu, or the world has not started.
func (w *world) nextMark() string {
	w.marks++
	return fmt.Sprintf("m%d", w.marks)
}

// firstDocuments writes the documents of all flows and connectors into etcd, as they are before anything starts.
func (w *world) firstDocuments() {
	w.mu.Lock()
	w.store = forms.Connectors{Addresses: "${" + envRedis + "}", OnceWindow: w.s.Redis.OnceWindow, Wait: w.s.Redis.Wait}
	if w.s.Redis.User != "" {
		w.store.Password = "${" + envPassword + "}"
	}
	docs := w.wantedLocked()
	w.mu.Unlock()
	if err := w.etcdctl(docs); err != nil {
		w.t.Fatalf("write the first documents: %v", err)
	}
}

// wantedLocked returns all documents as the operator wants them. The caller holds mu.
func (w *world) wantedLocked() []definition.Document {
	docs := w.store.Documents()
	seen := map[string]bool{}
	for _, f := range w.s.Flows {
		state := w.flows[f.Name]
		if state.deleted {
			continue
		}
		for _, d := range forms.Documents(f, state.variant) {
			if d.Kind == definition.KindFunc && seen[d.Name] {
				continue
			}
			seen[d.Name] = true
			docs = append(docs, d)
		}
	}
	return docs
}

// scheduleChanges lets the scenario's changes of documents happen at their times.
func (w *world) scheduleChanges() {
	for _, c := range w.s.Changes {
		w.changing.Add(1)
		w.inWorld(func() {
			defer w.changing.Done()
			if w.sleep(c.At - w.rec.Now()) {
				w.change(c)
			}
		})
	}
}

// change carries out a change of documents, and notes it.
func (w *world) change(c scenario.Change) {
	docs, mark, good, err := w.changed(c)
	note := history.Change{Change: c, Mark: mark, Good: good}
	if err != nil {
		note.Err = err.Error()
	}
	w.rec.Changed(note)
	if err != nil || c.Kind == "undo" {
		if c.Kind == "undo" {
			if _, err := w.undoRollout(c.Flow); err != nil {
				w.note("operator", "undo of %s: %v", c.Flow, err)
			}
		}
		return
	}
	gone := len(docs) > 0 && docs[0].YAML == nil
	switch {
	case c.By == "etcdctl":
		err = w.etcdctl(docs)
	case gone:
		err = w.delete(docs)
	default:
		err = w.apply(docs)
	}
	if err != nil {
		w.note("operator", "%s %s: %v", c.Kind, c.Flow, err)
	}
}

// changed returns the documents that a change writes; documents without text are deleted. mark is their mark, where they have one. good
// says that a cluster that has the functions should run them.
func (w *world) changed(c scenario.Change) (docs []definition.Document, mark string, good bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.flows[c.Flow]
	switch c.Kind {
	case "many", "many-gone", "once-window", "connector", "bad-connector", "big", "undo":
	default:
		if state == nil {
			return nil, "", false, fmt.Errorf("there is no flow %q", c.Flow)
		}
	}
	all := func() []definition.Document { return forms.Documents(state.flow, state.variant) }
	remark := func() {
		state.variant.Mark, state.variant.Marks = w.nextMark(), nil
		mark = state.variant.Mark
	}
	switch good = true; c.Kind {
	case "revise":
		remark()
		return all(), mark, good, nil
	case "revise-func":
		form := forms.Of(state.flow.Form)
		s := form.Steps[w.marks%len(form.Steps)]
		mark = w.nextMark()
		marks := map[string]string{s.Stage: mark}
		for stage, m := range state.variant.Marks {
			if stage != s.Stage {
				marks[stage] = m
			}
		}
		state.variant.Marks = marks
		return []definition.Document{forms.FunctionDocument(state.flow, s, state.variant)}, mark, good, nil
	case "touch":
		return all(), state.variant.Mark, good, nil
	case "copies":
		state.variant.Copies = c.N
		remark()
		return all(), mark, good, nil
	case "retries":
		state.variant.Retries = c.N
		remark()
		return all(), mark, good, nil
	case "shard-key":
		switch state.variant.ShardKey {
		case "key":
			state.variant.ShardKey = "alt"
		case "alt":
			state.variant.ShardKey = "key"
		}
		remark()
		return all(), mark, good, nil
	case "off", "on":
		state.variant.Off = c.Kind == "off"
		return []definition.Document{forms.FlowDocument(state.flow, state.variant)}, state.variant.Mark, good, nil
	case "delete":
		state.deleted = true
		return []definition.Document{{Kind: definition.KindFlow, Name: c.Flow}}, "", good, nil
	case "delete-func":
		d := forms.FunctionDocument(state.flow, forms.Of(state.flow.Form).Steps[0], state.variant)
		d.YAML = nil
		return []definition.Document{d}, "", false, nil
	case "put-back":
		mark = w.nextMark()
		state.variant, state.deleted = forms.First(state.flow, mark), false
		return all(), mark, good, nil
	case "break":
		return []definition.Document{{Kind: definition.KindFlow, Name: c.Flow, YAML: []byte("kistype: flow\nflow_name: " + c.Flow + "\nstatus: 1\nflows: [\n")}}, "", false, nil
	case "break-name":
		d := forms.FlowDocument(state.flow, state.variant)
		d.YAML = append(d.YAML, "  - {fname: nowhere}\n"...)
		return []definition.Document{d, {Kind: definition.KindFunc, Name: "nowhere", YAML: []byte("kistype: func\nfname: nowhere\nfmode: Verify\n")}}, "", false, nil
	case "break-mode":
		s := forms.Of(state.flow.Form).Steps[0]
		if s.Mode == definition.ModeVerify {
			s.Mode = definition.ModeCalculate
		} else {
			s.Mode = definition.ModeVerify
		}
		s.OnMissing, s.Declared = "", false
		return []definition.Document{forms.FunctionDocument(state.flow, s, state.variant)}, "", s.Whole, nil
	case "many":
		docs = []definition.Document{{Kind: definition.KindFunc, Name: "other_verify", YAML: []byte("kistype: func\nfname: other_verify\nfmode: Verify\n")}}
		w.many = nil
		for i := range c.N {
			name := fmt.Sprintf("Many%d", i)
			w.many = append(w.many, name)
			text := fmt.Sprintf("kistype: flow\nflow_name: %s\nstatus: 1\nshard_key: key\nflows: [{fname: other_verify}]\n", name)
			docs = append(docs, definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte(text)})
		}
		return docs, "", good, nil
	case "many-gone":
		for _, name := range w.many {
			docs = append(docs, definition.Document{Kind: definition.KindFlow, Name: name})
		}
		w.many = nil
		if docs == nil {
			return nil, "", false, errors.New("there are no further flows")
		}
		return docs, "", good, nil
	case "once-window":
		w.store.OnceWindow = time.Duration(c.N) * time.Second
		return w.store.Documents()[:1], "", good, nil
	case "connector":
		w.store.Pool = 3 + (w.store.Pool+1)%3
		return w.store.Documents()[:1], "", good, nil
	case "bad-connector":
		bad := w.store
		bad.Addresses = "redis-1:6399"
		return bad.Documents()[:1], "", false, nil
	case "big":
		text := "kistype: func\nfname: big\nfmode: Verify\noption: {default_params: {text: " + strings.Repeat("x", 1<<20) + "}}\n"
		return []definition.Document{{Kind: definition.KindFunc, Name: "big", YAML: []byte(text)}}, "", false, nil
	case "undo":
		return nil, "", good, nil
	}
	return nil, "", false, fmt.Errorf("there is no change %q", c.Kind)
}
