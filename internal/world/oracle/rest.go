package oracle

import (
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/history"
)

// gauges that are 0 at rest, by the kind of process.
var restGauges = map[history.Kind][]string{
	history.Coordinator: {"kisgrid_rows_in_flight", "kisgrid_stream_window_used_bytes"},
	history.Worker: {
		"kisgrid_worker_rows_held", "kisgrid_worker_bytes_held", "kisgrid_worker_parts_held", "kisgrid_worker_results_kept", "kisgrid_worker_lanes_waiting",
		"kisgrid_lane_parked_rows", "kisgrid_connector_waiting_keys",
	},
}

// running returns the lives that are running when the record looks at the processes for the last time.
func (l *Life) running(kind history.Kind) []*history.Life {
	var all []*history.Life
	for _, life := range l.Lives {
		if life.Kind == kind && !l.over(life) {
			all = append(all, life)
		}
	}
	return all
}

// over reports whether a life had ended, or had been asked to end, when the record looked at the processes for the last time.
func (l *Life) over(life *history.Life) bool {
	at := l.Ended
	if l.Final != nil {
		at = l.Final.At
	}
	return life.Ended > 0 && life.Ended < at || life.Asked > 0 && life.Asked < at
}

// WindowsFull checks that all windows and budgets are full again after calm.
//
// The promise: credit is given back for everything that has ended. When all clients have their answers, coordinators have no row in flight and
// no byte of a window in use, and their budget is whole once the streams are closed; workers hold no row, part or result, park no row, and
// nobody waits for a key. Excused are lives in which rows still wait: a row that a client gave up runs to its end once a worker has it, and
// rows of one key wait one after the other.
func WindowsFull(l *Life) {
	if l.Final == nil {
		return
	}
	var wrong []func()
	for _, kind := range []history.Kind{history.Coordinator, history.Worker} {
		for _, life := range l.running(kind) {
			s, ok := l.Final.Snaps[life.Process]
			if !ok {
				continue
			}
			for _, name := range restGauges[kind] {
				l.checked(1)
				if v, _ := s.Value(name); v != 0 {
					wrong = append(wrong, func() {
						l.breach(Subject{Process: life.Process}, "at rest, %s of %s is %g", name, life.Process, v)
					})
				}
			}
			if kind != history.Coordinator {
				continue
			}
			budget := float64(life.Settings.Budget)
			if budget == 0 {
				budget = defaultCoordinatorBudget
			}
			streams, _ := s.Value("kisgrid_coordinator_streams")
			if left, ok := s.Value("kisgrid_coordinator_budget_left_bytes"); ok && streams == 0 && left != budget {
				wrong = append(wrong, func() {
					l.breach(Subject{Process: life.Process}, "at rest, without a stream, %s may grant %g of its budget of %g bytes", life.Process, left, budget)
				})
			}
		}
	}
	if len(wrong) > 0 && l.stillWaits() {
		l.excused("rows of one key wait one after the other, for longer than calm lasts")
		return
	}
	for _, report := range wrong {
		report()
	}
}

// SessionsUp checks that the cluster is whole again after calm.
//
// The promise: after calm each coordinator has a session with each worker that it can reach, each worker is registered, exactly one
// coordinator leads, and none believes that it is cut off. No worker has to register again and again while only processes and Redis have
// faults. Excused are workers that advertise an address of their own choice: it may be a wrong one.
func SessionsUp(l *Life) {
	if l.Final == nil || len(l.Final.Snaps) == 0 {
		return
	}
	l.registeredOften()
	coordinators, workers := l.running(history.Coordinator), l.running(history.Worker)
	if len(coordinators) == 0 {
		return
	}
	sure, odd := 0, 0
	for _, w := range workers {
		if w.Settings.Advertise != "" {
			odd++
			l.excused("the worker advertises an address of its own choice")
		} else {
			sure++
		}
	}
	leaders := 0.0
	for _, c := range coordinators {
		s, ok := l.Final.Snaps[c.Process]
		if !ok {
			return
		}
		l.checked(1)
		subject := Subject{Process: c.Process}
		leading, _ := s.Value("kisgrid_coordinator_leader")
		leaders += leading
		if n, _ := s.Value("kisgrid_coordinator_sessions"); int(n) < sure || int(n) > sure+odd {
			l.breach(subject, "after calm, %s has %g sessions, but %d workers run that it can reach, and %d that it may reach", c.Process, n, sure, odd)
		}
		if n, _ := s.Value("kisgrid_coordinator_cut_off"); n != 0 {
			l.breach(subject, "after calm, %s believes that it is cut off", c.Process)
		}
	}
	if leaders != 1 {
		l.breach(Subject{}, "after calm, %g coordinators lead", leaders)
	}
	for _, w := range workers {
		s, ok := l.Final.Snaps[w.Process]
		if !ok {
			continue
		}
		l.checked(1)
		if n, _ := s.Value("kisgrid_worker_registered"); n != 1 {
			l.breach(Subject{Process: w.Process}, "after calm, %s is not registered", w.Process)
		}
	}
}

// registeredOften reports workers whose record is removed again and again by other processes. Faults of etcd and of the network are excused:
// they end leases.
func (l *Life) registeredOften() {
	for _, f := range l.Scenario.Faults {
		if f.Kind != "kill" && f.Kind != "drain" && f.Kind != "restart" && f.Kind != "twin" && f.Kind != "start" && !strings.HasPrefix(f.Kind, "redis-") {
			return
		}
	}
	for _, life := range l.Lives {
		for _, line := range life.Logs {
			if strings.Contains(line.Text, "record in etcd is deleted again and again") {
				l.breach(Subject{Process: life.Process}, "at %s, %s had to register again and again, and nothing was wrong with etcd or the network", line.At, life.Process)
				return
			}
		}
	}
}

// NothingLeft checks that nothing is left that is not accounted for.
//
// The promise: every goroutine, timer and connection has an owner that ends it; membership keys and leases belong to processes that live; the
// records of effects expire; metrics of deleted flows go. So after all processes have ended no goroutine and no connection is left, etcd has
// no key under a lease, and every record in Redis has an end, except dead letters and the one key that
// docs/redis.md calls kept for ever, kisgrid:window. Excused are metrics of a flow that was deleted less than a
// minute before the end, or of which workers still have rows in functions that do not return.
func NothingLeft(l *Life) {
	if l.Final == nil {
		return
	}
	f := l.Final
	l.checked(1)
	for _, g := range f.Goroutines {
		l.breach(Subject{}, "a goroutine is left: %s", cut(g))
	}
	for _, c := range f.ConnsAfter {
		l.breach(Subject{}, "a connection from %s to %s is left, open since %s", c.From, c.To, c.Opened)
	}
	for key, value := range f.EtcdAfter {
		if strings.HasSuffix(key, garbage) {
			continue
		}
		if hasPrefix(key, "workers/", "coordinators/", "leader/") || value.Lease != 0 {
			l.breach(Subject{}, "the key %s is left in etcd after all processes ended", key)
		}
	}
	l.membersLeft()
	for _, s := range l.Stores {
		for key, r := range s.Records {
			l.checked(1)
			if r.TTL == 0 && !strings.Contains(key, "kisgrid:dead:") && key != "kisgrid:window" { // docs/redis.md: for ever
				l.breach(Subject{}, "the record %s in %s never expires", key, s.Connector)
			}
		}
	}
	l.deletedLeft()
}

// garbage ends the keys that the fault etcd-garbage writes. Nobody removes them.
const garbage = "/garbage"

// membersLeft reports membership keys of processes that do not run.
func (l *Life) membersLeft() {
	if l.Final.Etcd == nil {
		return
	}
	for _, kind := range []history.Kind{history.Worker, history.Coordinator} {
		prefix := string(kind) + "s/"
		var alive []string
		for _, life := range l.running(kind) {
			alive = append(alive, life.Process)
		}
		n := 0
		for key := range l.Final.Etcd {
			if strings.HasPrefix(key, prefix) && !strings.HasSuffix(key, garbage) {
				n++
			}
		}
		if n > len(alive) {
			l.breach(Subject{}, "after calm, etcd has %d keys below %s, but only %v run", n, prefix, alive)
		}
	}
}

// flowMetrics begin the names of metrics that go with their flow.
var flowMetrics = []string{"kisgrid_rows_", "kisgrid_flow_", "kisgrid_batch_", "kisgrid_function_", "kisgrid_lane_", "kisgrid_stream_", "kisgrid_dead_rows_", "kisgrid_revisions_"}

// deletedLeft reports metrics of flows whose document is gone.
func (l *Life) deletedLeft() {
	gone := map[string]history.Document{}
	for _, d := range l.Documents {
		if d.Kind != "flow" {
			continue
		}
		if d.Deleted {
			gone[d.Name] = d
		} else {
			delete(gone, d.Name)
		}
	}
	for process, s := range l.Final.Snaps {
		var told []string
		for _, m := range s.Metrics {
			d, deleted := gone[m.Labels["flow"]]
			if !deleted || !hasPrefix(m.Name, flowMetrics...) || slices.Contains(told, m.Labels["flow"]) {
				continue
			}
			told = append(told, m.Labels["flow"])
			l.checked(1)
			if l.Final.At-d.At < minute {
				l.excused("the flow was deleted less than a minute ago")
				continue
			}
			if l.lanesHeldUp(d.Name, l.Final.At) {
				l.excused("rows that nobody waits for any more are still in functions of the deleted flow")
				continue
			}
			if l.stillWaitsIn(d.Name) {
				l.excused("rows of the deleted flow wait one after the other, for longer than the record lasts")
				continue
			}
			l.breach(Subject{Flow: d.Name, Process: process}, "%s still has the metric %s of flow %s, which was deleted at %s", process, m.Name, d.Name, d.At)
		}
	}
}

// hasPrefix reports whether a text begins with one of the prefixes.
func hasPrefix(text string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) })
}
