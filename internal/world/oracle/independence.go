package oracle

import (
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
)

// Independence checks that a fault stops nobody who does not depend on it.
//
// The promise: a killed worker costs its keys well under a second, a silent partition one lease; Redis holds up flows that save or load, and
// no others; without etcd active flows go on; a slow or blocked row holds up its own key and lane only, and flows never wait for each other's
// lanes. So a batch is answered within the time that the flow's own rows ask for and a bound, not counting times of trouble on which it
// depends. It depends on:
//
//   - its client's process and host; a client whose program stands still again and again is excused;
//   - the coordinators that the client knows and the workers that have the flow's functions: a fault of one of them costs the time until
//     the others take over, two leases and ten seconds, at its beginning and its end; faults of two at a time, or of the only one, all of
//     their time; a link that is slow, all of its time;
//   - Redis, in flows that save or load, and for dead letters;
//   - etcd only while documents or processes change, and where it lost data;
//   - changes of its own documents, and rows of its own flow.
func Independence(l *Life) {
	patience := map[string]time.Duration{}
	for name := range l.flows {
		patience[name] = l.patience(l.flows[name])
	}
	for _, b := range l.Batches {
		f := l.flows[b.Flow]
		if f == nil || b.Client == Probe {
			continue
		}
		limit := patience[b.Flow]
		for _, t := range b.Tries {
			if t.Gone || t.Ended == 0 {
				continue // Answered reports those without an end
			}
			l.checked(1)
			if t.Ended-t.At <= limit {
				continue
			}
			if l.client(b.Client).How == "slow" {
				l.excused("the client's program stood still, lost its connections by that, and sent the batch again")
				continue
			}
			troubled := l.troubled(f, l.client(b.Client).Name, t.At, t.Ended)
			if clean := t.Ended - t.At - troubled; clean > limit {
				l.breach(Subject{Flow: b.Flow, Batch: t.ID}, "%s's batch %d took %s, of which %s were without a fault on which it depends; the rows of its flow ask for %s at the most",
					b.Client, b.Number, t.Ended-t.At, clean, limit)
				continue
			}
			l.excused("slow, in a time of trouble on which it depends")
		}
	}
}

// patience returns how long a batch of a flow may take when nothing is wrong: the waits that all rows of the flow ask for together, in each
// copy of their batches that ran, the round trips of its rows, and a bound. A batch has several copies when its client sent it again: after
// a broken connection, or when its stream moved to another coordinator and the answers did not come within five seconds.
func (l *Life) patience(f *flow) time.Duration {
	total := 30 * time.Second
	s := l.settingsOf(f)
	rows := 0
	for _, b := range l.Batches {
		if b.Flow != f.Name {
			continue
		}
		rows += len(b.Rows)
		copies := 1
		for _, t := range b.Tries {
			copies = max(copies, l.copies(b, t))
		}
		for place, row := range b.Rows {
			if row.Do != "" || f.form.LoadsOther {
				total += time.Duration(copies) * l.waits(f, rowOf{b, place}, s)
			}
		}
	}
	trip := 5*time.Millisecond + l.Scenario.Redis.Delay
	if l.Scenario.Redis.Wait > 0 {
		trip += l.Scenario.Redis.Lag // a Save waits for a replica
	}
	total += time.Duration(rows*len(f.form.Steps)) * trip
	stores := 0
	for _, step := range f.form.Steps {
		if step.Connector == forms.Store {
			stores++
		}
	}
	// Packets take up to twice the latency: three times of it are the mean of a packet and its answer.
	total += time.Duration(rows*stores) * 3 * l.Scenario.Latency
	return total + total/10
}

// interval is a time of trouble.
type interval struct{ from, until time.Duration }

// troubled returns how much of a time is trouble on which a client's batches of a flow depend.
func (l *Life) troubled(f *flow, client string, from, until time.Duration) time.Duration {
	var all []interval
	after := 2*l.lease() + 10*time.Second
	moment := func(at time.Duration) { all = append(all, interval{at, at + after}) }
	for _, life := range l.Lives {
		if life.Kind == history.ClientKind && life.Process != client {
			continue
		}
		moment(life.Began)
		for _, at := range []time.Duration{life.Asked, life.Ended} {
			if at > 0 {
				moment(at)
			}
		}
	}
	for _, c := range l.Changes {
		if c.Flow == f.Name || c.Flow == "" || l.shares(f.Name, c.Flow) {
			moment(c.At)
			if c.Kind == "off" || strings.HasPrefix(c.Kind, "delete") || c.Kind == "bad-connector" || c.Kind == "connector" || c.Kind == "put-back" {
				all = append(all, interval{c.At, l.Ended})
			}
		}
	}
	for _, e := range l.Events {
		if e.Kind == history.EtcdLost {
			all = append(all, interval{e.At, e.At + after + minute})
		}
	}
	var single []interval
	for _, fault := range l.Faults {
		over := l.until(fault)
		whole := interval{fault.At, over + after}
		switch {
		case strings.HasPrefix(fault.Kind, "redis-"):
			if f.usesStore() || l.letters() {
				all = append(all, whole)
			}
		case strings.HasPrefix(fault.Kind, "etcd-"):
			if fault.Kind == "etcd-expire" || fault.Kind == "etcd-forget" || fault.Kind == "etcd-restore" || fault.Kind == "etcd-empty" || fault.Kind == "etcd-garbage" || l.lifeChanged(fault.At, over, after) || l.changed(fault.At, over, after, f.Name) {
				all = append(all, whole)
			}
		case fault.Kind == "delay" || fault.Kind == "slow" || fault.Kind == "reset-after" || !l.spares(f, client, fault):
			all = append(all, whole)
		default:
			moment(fault.At)
			moment(over)
			single = append(single, whole)
		}
	}
	for i, a := range single { // faults of two at a time
		for _, b := range single[:i] {
			if from, until := max(a.from, b.from), min(a.until, b.until); from < until {
				all = append(all, interval{from, until})
			}
		}
	}
	return covered(all, from, until)
}

// letters reports whether some coordinator keeps dead rows in Redis.
func (l *Life) letters() bool {
	return slices.ContainsFunc(l.Lives, func(life *history.Life) bool { return life.Settings.Letters })
}

// spares reports whether a fault leaves a client's batches of a flow a coordinator and a worker: it is one of a single coordinator or worker,
// or its host, or of a link to it, and there are others.
func (l *Life) spares(f *flow, client string, fault history.Fault) bool {
	c := l.client(client)
	if fault.Who == client || fault.Whom == client || fault.Who == c.Host || fault.Whom == c.Host || fault.Who == "" {
		return false
	}
	hit := func(p string, host string) bool {
		return fault.Who == p || fault.Who == host || fault.Whom == p || fault.Whom == host
	}
	coordinators, workers := 0, 0
	for _, p := range l.Scenario.Coordinators {
		if !hit(p.Name, p.Host) && !p.Absent && (c.To == "" || slices.Contains(strings.Split(c.To, ","), p.Name)) {
			coordinators++
		}
	}
	for _, p := range l.Scenario.Workers {
		if !hit(p.Name, p.Host) && !p.Absent && p.Build == "" && p.Advertise == "" && !l.rebuilt(p.Name, l.until(fault)) {
			workers++
		}
	}
	if isHost(fault.Who, "redis") || isHost(fault.Whom, "redis") {
		return !f.usesStore() && !l.letters()
	}
	return coordinators > 0 && workers > 0
}

// rebuilt reports whether a worker may have come back before a time with a build that lacks functions or has another row type.
func (l *Life) rebuilt(worker string, until time.Duration) bool {
	return slices.ContainsFunc(l.Faults, func(f history.Fault) bool {
		return f.Who == worker && f.At <= until && strings.HasPrefix(f.Then, "build ") && f.Then != "build more"
	})
}

// covered returns how much of a time the intervals cover.
func covered(all []interval, from, until time.Duration) time.Duration {
	slices.SortFunc(all, func(a, b interval) int { return int(a.from - b.from) })
	var sum time.Duration
	at := from
	for _, i := range all {
		begin, end := max(i.from, at), min(i.until, until)
		if begin < end {
			sum += end - begin
			at = end
		}
	}
	return sum
}
