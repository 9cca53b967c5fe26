package scenario

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// faults decides what goes wrong. A few kinds of faults are on in each scenario, none at all in some.
func (g *generator) faults() {
	r, s := g.part("faults"), g.s
	var kinds []string
	for _, k := range FaultKinds {
		kinds = append(kinds, k.Name)
	}
	on := swarm(r, kinds...)
	for _, name := range []string{"kill", "stop", "cut"} { // the ones that everything else is combined with
		if chance(r, 20) {
			on[name] = true
		}
	}
	for _, name := range []string{"twin", "redis-error", "redis-password"} { // the ones that take several strokes to show something
		if chance(r, 5) {
			on[name] = true
		}
	}
	for _, p := range s.Workers {
		if p.Absent {
			s.Faults = append(s.Faults, Fault{At: within(r, s.Lasts), Kind: "start", Who: p.Name})
		}
	}
	if chance(r, 8) {
		return
	}
	var chosen []FaultKind
	for _, k := range FaultKinds {
		if on[k.Name] && k.Name != "start" {
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return
	}
	last := Fault{}
	for range widely(r, 1, max(3, int(s.Lasts/(4*time.Second)))) {
		f := g.fault(r, pick(r, chosen...), last)
		s.Faults = append(s.Faults, f)
		last = f
	}
}

// fault decides one fault. A third of them come soon after the one before, or while it lasts, and often concern the same party.
func (g *generator) fault(r *rand.Rand, k FaultKind, last Fault) Fault {
	s := g.s
	f := Fault{Kind: k.Name, At: within(r, s.Lasts)}
	soon := last.Kind != "" && chance(r, 35)
	if soon {
		f.At = min(s.Lasts, last.At+widelyTime(r, time.Millisecond, max(2*time.Second, last.For)))
	}
	if f.At < 100*time.Millisecond {
		f.At = 100 * time.Millisecond
	}
	if k.Lasts {
		f.For = min(lasting(r), s.Lasts-f.At)
		if f.For < time.Millisecond {
			f.At, f.For = s.Lasts-time.Millisecond, time.Millisecond
		}
	}
	f.Who = g.party(r, k.Who)
	if n := s.names(); soon && n.has(k.Who, last.Who) && last.Who != "" && chance(r, 60) {
		f.Who = last.Who
	}
	if k.Whom == AHost || k.Whom != Nobody && chance(r, 75) {
		for range 10 {
			if f.Whom = g.party(r, k.Whom); f.Whom != f.Who {
				break
			}
		}
		if f.Whom == f.Who {
			f.Whom = "etcd-1"
			if f.Who == "etcd-1" {
				f.Whom = "redis-1"
			}
		}
	}
	if k.By {
		f.By = widelyTime(r, 5*time.Millisecond, 3*time.Second)
		if k.Name == "etcd-restore" {
			f.By = widelyTime(r, 10*time.Millisecond, 20*time.Second)
		}
	}
	if k.N {
		switch k.Name {
		case "slow", "reset-after":
			f.N = widely(r, 1, 200000)
			if k.Name == "slow" {
				f.N += 2000
			}
		case "etcd-write":
			f.N = widely(r, 1, 100)
		default:
			f.N = widely(r, 2, 1000)
		}
	}
	if len(k.Args) > 0 {
		f.Arg = pick(r, k.Args...)
	}
	if k.Then && chance(r, 25) {
		f.Then = g.then(r, f.Who)
	}
	if k.Forever && k.Name != "host-down" && g.mayGo(f.Who) && chance(r, 10) {
		f.For = 0
	}
	return f
}

// party returns a random name of a party. Workers and coordinators are taken more often than etcd and Redis, which have faults of their own.
func (g *generator) party(r *rand.Rand, party Party) string {
	n := g.s.names()
	switch party {
	case Nobody:
		return ""
	case AWorker:
		return pick(r, n.workers...)
	case AProcess:
		return pick(r, slices.Concat(n.workers, n.workers, n.coordinators)...)
	case ProcessOrClient:
		return pick(r, slices.Concat(n.workers, n.workers, n.coordinators, n.clients)...)
	case AHost:
		return pick(r, n.hosts...)
	}
	ends := slices.Concat(n.workers, n.workers, n.coordinators, n.coordinators, []string{"etcd", "redis"})
	return pick(r, slices.Concat(ends, n.hosts, n.clients)...)
}

// then returns other settings for the next start of a process.
func (g *generator) then(r *rand.Rand, who string) string {
	n := g.s.names()
	switch {
	case slices.Contains(n.workers, who) && who != "w1":
		return pick(r, "build row2", "build more", "build "+pick(r, Builds...), "lease 2s", "lease 15s", "batch-rows 20", "batch-bytes 16KiB", "budget 1MiB row-budget 1024")
	case slices.Contains(n.workers, who):
		return pick(r, "build more", "lease 2s", "lease 15s", "budget 1MiB row-budget 1024")
	case slices.Contains(n.coordinators, who):
		return pick(r, "lease 2s", "lease 15s", "batch-rows 50", "row-bytes 2KiB", "no-worker 1s", "dead-letters")
	}
	return ""
}

// mayGo reports whether a process may go for good: one of the first workers and coordinators may not.
func (g *generator) mayGo(who string) bool {
	return strings.HasPrefix(who, "w") && who != "w1" || strings.HasPrefix(who, "c") && who != "c1"
}

// lasting returns how long a fault lasts: shorter than anybody notices, as long as a lease, or long.
func lasting(r *rand.Rand) time.Duration {
	switch r.IntN(4) {
	case 0:
		return widelyTime(r, time.Millisecond, 500*time.Millisecond)
	case 1:
		return widelyTime(r, 500*time.Millisecond, 4*time.Second)
	case 2:
		return seconds(r, 4, 15)
	}
	return widelyTime(r, 2*time.Second, 30*time.Second)
}
