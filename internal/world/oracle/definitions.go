package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

const minute = time.Minute

// status is the JSON of a flow's status in etcd, as docs/cli.md shows it.
type status struct {
	Wanted  int64             `json:"wanted"`
	Active  int64             `json:"active"`
	State   string            `json:"state"`
	Reasons []string          `json:"reasons"`
	Workers []json.RawMessage `json:"workers"`
}

// explains reports whether the status says why the wanted revision is not active.
func (s status) explains() bool { return len(s.Reasons) > 0 || len(s.Workers) > 0 }

// document has the keys of documents that say which others they need.
type document struct {
	Status int `yaml:"status"`
	Flows  []struct {
		Name string `yaml:"fname"`
	} `yaml:"flows"`
	Option struct {
		Connector string `yaml:"cname"`
	} `yaml:"option"`
}

// wantedRevision returns the revision of the newest document that a flow needs. ok is false when a document is missing or can't be read.
func wantedRevision(etcd map[string]history.EtcdKey, flow string) (newest int64, on, ok bool) {
	var doc document
	key := etcd["config/flow/"+flow]
	if yaml.Unmarshal([]byte(key.Value), &doc) != nil {
		return 0, false, false
	}
	newest = key.Revision
	for _, step := range doc.Flows {
		fn, there := etcd["config/func/"+step.Name]
		var function document
		if !there || yaml.Unmarshal([]byte(fn.Value), &function) != nil {
			return 0, doc.Status == 1, false
		}
		newest = max(newest, fn.Revision)
		if name := function.Option.Connector; name != "" {
			conn, there := etcd["config/conn/"+name]
			if !there {
				return 0, doc.Status == 1, false
			}
			newest = max(newest, conn.Revision)
		}
	}
	return newest, doc.Status == 1, true
}

// Definitions checks that flows run with the documents that etcd has.
//
// The promise: a change in etcd is validated, compiled and switched to, or the running revision stays and the status says why. So after calm
// each flow's document has a status; it names the newest revision of the flow's documents as wanted; where that is not active, the status
// gives a reason; every coordinator runs the status's active revision; and a flow whose document is gone has no status. Nothing is excused:
// after calm etcd and all processes are well.
func Definitions(l *Life) {
	if l.Final == nil || len(l.Final.Etcd) == 0 || len(l.running(history.Coordinator)) == 0 {
		return
	}
	for key := range l.Final.Etcd {
		if flow, ok := strings.CutPrefix(key, "config/flow/"); ok {
			l.checked(1)
			l.definition(flow)
		}
		if flow, ok := strings.CutPrefix(key, "status/flow/"); ok && strings.HasPrefix(l.Final.Etcd[key].Value, "{") { // a leader wrote it, and not the fault etcd-garbage
			if _, there := l.Final.Etcd["config/flow/"+flow]; !there {
				l.breach(Subject{Flow: flow, Revisions: true}, "the document of flow %s is gone, but its status is still in etcd", flow)
			}
		}
	}
}

// definition checks one flow.
func (l *Life) definition(flow string) {
	subject := Subject{Flow: flow, Revisions: true}
	record, there := l.Final.Etcd["status/flow/"+flow]
	if !there {
		l.breach(subject, "flow %s has a document, but no status", flow)
		return
	}
	var s status
	if err := json.Unmarshal([]byte(record.Value), &s); err != nil {
		l.breach(subject, "the status of flow %s is no JSON: %v", flow, err)
		return
	}
	newest, on, ok := wantedRevision(l.Final.Etcd, flow)
	if ok && s.Wanted != newest {
		l.breach(subject, "the newest document of flow %s is of revision %d, but its status wants %d (%s)", flow, newest, s.Wanted, s.State)
	}
	switch s.State {
	case "active":
		if s.Active != s.Wanted || s.Active == 0 || !on {
			l.breach(subject, "flow %s is active, with the revisions %d active and %d wanted, and its document says status %t", flow, s.Active, s.Wanted, on)
		}
	case "disabled":
		if on {
			l.breach(subject, "flow %s is disabled, but its document switches it on", flow)
		}
	case "rejected", "pending":
		if !s.explains() {
			l.breach(subject, "flow %s is %s, and the status gives no reason", flow, s.State)
		}
		if s.State == "rejected" && ok && l.allGood(flow) {
			l.breach(subject, "flow %s is rejected although all of its documents are right: %s", flow, strings.Join(s.Reasons, "; "))
		}
		if s.State == "pending" && l.capable(flow) {
			l.breach(subject, "flow %s is pending although a worker with all of its functions runs: %s", flow, strings.Join(s.Reasons, "; "))
		}
	case "applying":
		l.breach(subject, "flow %s is still being applied, %s after calm began: %s", flow, l.Final.At-l.Calm, strings.Join(s.Reasons, "; "))
	default:
		l.breach(subject, "flow %s has the state %q, which the docs do not know", flow, s.State)
	}
	for _, c := range l.running(history.Coordinator) {
		snap, ok := l.Final.Snaps[c.Process]
		if !ok {
			continue
		}
		if v, _ := snap.Value("kisgrid_flow_revision", "flow", flow); s.State != "disabled" && int64(v) != s.Active {
			l.breach(subject, "the active revision of flow %s is %d, but %s runs %g", flow, s.Active, c.Process, v)
		}
	}
}

// allGood reports whether every change that may concern a flow wrote documents that are right.
func (l *Life) allGood(flow string) bool {
	return !slices.ContainsFunc(l.Changes, func(c history.Change) bool {
		return !c.Good && (c.Flow == flow || c.Flow == "" || l.shares(flow, c.Flow))
	}) && !slices.ContainsFunc(l.Lives, func(life *history.Life) bool { return life.Kind == history.Worker && life.Build != "" })
}

// capable reports whether a worker with every function runs that coordinators can reach.
func (l *Life) capable(flow string) bool {
	return l.allGood(flow) && slices.ContainsFunc(l.running(history.Worker), func(life *history.Life) bool {
		return life.Build == "" && life.Settings.Build == "" && life.Settings.Advertise == ""
	})
}

// Probe is the name of the client that submits one row to each flow after calm.
const Probe = "probe"

// StatusTrue checks that statuses say how it is, by a row that is submitted to each flow after calm.
//
// The promise: a flow that is active, and that its coordinators do not call unserved, runs: the row ends, and not as failed. A flow that no
// coordinator can serve, that is switched off, or that has no active revision, runs nothing. No connector is degraded while its store is
// well. A row of a flow that loads another flow's keys may end dead. Excused is a row that needs a connector which the status calls degraded:
// that is a breach of its own; and a row that comes to no end in its time, because rows that clients gave up hold up the lanes of its flow.
func StatusTrue(l *Life) {
	if l.Final == nil || len(l.Final.Snaps) == 0 {
		return
	}
	for _, b := range l.Batches {
		if b.Client != Probe || len(b.Tries) == 0 {
			continue
		}
		l.checked(1)
		l.probe(b, b.Last())
	}
	for process, s := range l.Final.Snaps {
		for _, m := range s.Metrics {
			if m.Name != "kisgrid_connector_degraded" || m.Value == 0 {
				continue
			}
			if l.badConnector() && l.heldBack() {
				l.excused("a flow still runs with the wrong address, because its newer documents are wrong too")
				continue
			}
			l.breach(Subject{Process: process}, "after calm, %s says that connector %s is degraded on %s: %s", process, m.Labels["connector"], m.Labels["worker"], m.Labels["reason"])
		}
	}
}

// enabled reports whether a revision in the history of a flow is switched on. The flow's state may be another than "disabled" although its
// active revision is switched off: then newer documents are wrong.
func (l *Life) enabled(flow string, revision int64) bool {
	entry := struct {
		Enabled bool `json:"enabled"`
	}{true} // for one that is gone
	record := l.Final.Etcd[fmt.Sprintf("history/flow/%s/%d", flow, revision)]
	return json.Unmarshal([]byte(record.Value), &entry) != nil || entry.Enabled
}

// probe compares the answer to a probe with the flow's status.
func (l *Life) probe(b *history.Batch, t *history.Try) {
	subject := Subject{Flow: b.Flow, Batch: t.ID, Revisions: true}
	var s status
	record, there := l.Final.Etcd["status/flow/"+b.Flow]
	if there && json.Unmarshal([]byte(record.Value), &s) != nil {
		return // Definitions reports it
	}
	unserved, seen := 0, 0
	for _, c := range l.running(history.Coordinator) {
		snap, ok := l.Final.Snaps[c.Process]
		if v, known := snap.Value("kisgrid_flow_unserved", "flow", b.Flow); ok && known {
			seen++
			unserved += int(v)
		}
	}
	ran := t.Answered && len(b.Rows) > 0 && t.Outcome(0).Outcome != batch.Failed
	if !ran && l.flows[b.Flow] != nil && l.flows[b.Flow].usesStore() && l.degraded() {
		l.excused("a connector is degraded, and the status says so")
		return
	}
	if !ran && outOfTime(t) && l.lanesHeldUp(b.Flow, t.Ended) {
		l.excused("rows that nobody waits for any more hold up the flow's lanes")
		return
	}
	switch runs := there && s.Active > 0 && s.State != "disabled" && l.enabled(b.Flow, s.Active) && unserved == 0 && seen > 0; {
	case runs && !ran:
		l.breach(subject, "flow %s is %s with revision %d active, and no coordinator calls it unserved, but a row that was submitted after calm ended so: %s", b.Flow, s.State, s.Active, ended(t))
	case ran && !there:
		l.breach(subject, "flow %s has no status, but a row that was submitted after calm ran", b.Flow)
	case ran && s.State == "disabled":
		l.breach(subject, "flow %s is disabled, but a row that was submitted after calm ran", b.Flow)
	case ran && seen > 0 && unserved == seen:
		l.breach(subject, "every coordinator calls flow %s unserved, but a row that was submitted after calm ran", b.Flow)
	}
}

// outOfTime reports whether a try of one row ended because its time was up.
func outOfTime(t *history.Try) bool {
	return t.Code == batch.CodeDeadline || t.Answered && t.Outcome(0).Code == batch.CodeDeadline
}

// heldBack reports whether some flow that uses Redis does not run the revision that its documents ask for.
func (l *Life) heldBack() bool {
	for name, f := range l.flows {
		var s status
		if f.usesStore() && json.Unmarshal([]byte(l.Final.Etcd["status/flow/"+name].Value), &s) == nil && s.Active != s.Wanted {
			return true
		}
	}
	return false
}

// degraded reports whether a coordinator says that a connector is degraded.
func (l *Life) degraded() bool {
	for _, s := range l.Final.Snaps {
		if v, _ := s.Value("kisgrid_connector_degraded"); v > 0 {
			return true
		}
	}
	return false
}

// ended tells how the first row of a try ended.
func ended(t *history.Try) string {
	if !t.Answered {
		return "error " + t.Err
	}
	o := t.Outcome(0)
	return o.Outcome.String() + " " + o.Code.String() + " " + cut(o.Reason)
}
