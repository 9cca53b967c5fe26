package oracle

import (
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// until returns when a fault was over. A fault that never ended, such as the loss of a machine for good, lasts to the end of the record.
func (l *Life) until(f history.Fault) time.Duration {
	if f.Until == 0 {
		return l.Ended
	}
	return f.Until
}

// fault reports whether some fault that matches was under way between two times, or ended so shortly before that its consequences last.
// after is how long consequences last.
func (l *Life) fault(from, until, after time.Duration, match func(history.Fault) bool) bool {
	for _, f := range l.Faults {
		if f.At <= until && l.until(f)+after >= from && match(f) {
			return true
		}
	}
	return false
}

// anyFault matches every fault.
func anyFault(history.Fault) bool { return true }

// redisFault matches the faults of Redis, and those of links and machines that may concern it.
func redisFault(f history.Fault) bool {
	return strings.HasPrefix(f.Kind, "redis-") || isHost(f.Who, "redis") || isHost(f.Whom, "redis") || linkFault(f)
}

// redisErrors matches faults by which Redis answers with errors.
func redisErrors(f history.Fault) bool {
	return slices.Contains([]string{"redis-error", "redis-full", "redis-handshake", "redis-replica"}, f.Kind)
}

// linkFault matches faults of links and machines.
func linkFault(f history.Fault) bool {
	switch f.Kind {
	case "host-down", "host-cut", "no-name", "wrong-name", "slow-name", "silent-name", "left-out", "cut", "cut-one-way", "delay", "slow", "refuse", "black-hole", "reset", "reset-after":
		return true
	}
	return false
}

// pause matches faults that stop processes, so that timers are late.
func pause(f history.Fault) bool { return f.Kind == "stop" }

// isHost reports whether a name is that of etcd or Redis, or of one of their hosts.
func isHost(name, kind string) bool { return name == kind || strings.HasPrefix(name, kind+"-") }

// changed reports whether the world changed documents between two times, or shortly before.
func (l *Life) changed(from, until, after time.Duration, flow string) bool {
	for _, c := range l.Changes {
		if c.At <= until && c.At+after >= from && (flow == "" || c.Flow == flow || c.Flow == "" || l.shares(flow, c.Flow)) {
			return true
		}
	}
	return l.fault(from, until, after, func(f history.Fault) bool {
		return f.Kind == "etcd-restore" || f.Kind == "etcd-empty" || f.Kind == "etcd-garbage"
	})
}

// shares reports whether a change of one flow's documents may concern another flow, because both use the same functions or connector.
func (l *Life) shares(flow, other string) bool {
	a, b := l.flows[flow], l.flows[other]
	return a == nil || b == nil || a.form.Shared && b.form.Shared || a.usesStore() && b.usesStore()
}

// lives reports whether some process started, ended or was asked to end between two times, or shortly before.
func (l *Life) lifeChanged(from, until, after time.Duration) bool {
	within := func(at time.Duration) bool { return at > 0 && at <= until && at+after >= from }
	for _, life := range l.Lives {
		if life.Kind != history.ClientKind && (within(life.Began) || within(life.Asked) || within(life.Ended)) {
			return true
		}
	}
	return false
}

// deaths returns how many lives of workers ended by force between two times.
func (l *Life) deaths(from, until time.Duration) int {
	n := 0
	for _, life := range l.Lives {
		if life.Kind == history.Worker && life.How == history.Killed && life.Ended >= from && life.Ended <= until {
			n++
		}
	}
	return n
}

// lost reports whether Redis may have lost a write that it acknowledged between two times.
func (l *Life) lost(from, until time.Duration) bool {
	for _, e := range l.Events {
		switch e.Kind {
		case history.RedisLost, history.RedisFlushed:
			if e.Since <= until && e.At >= from {
				return true
			}
		}
	}
	return false
}

// saved returns the time within which a row's effects took place at the earliest and at the latest: from the first run of a function for the
// row to the time at which its last try ended. ran is false when no run is recorded.
func (l *Life) saved(id batch.ID, place int, function string, latest time.Duration) (from, until time.Duration, ran bool) {
	for _, i := range l.runs[id] {
		r := l.Runs[i]
		if int(r.ID.Row) == place && r.Function == function {
			if !ran {
				from = r.At
			}
			ran = true
		}
	}
	return from, max(from, latest), ran
}
