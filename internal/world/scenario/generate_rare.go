package scenario

import (
	"slices"
	"time"
)

// The functions of this file make things happen, in a few scenarios each, that chance alone hardly brings about.

// raisedWindow makes a producer be away for longer than its batches' records are kept, while the once-window is raised. Most of these
// producers keep no revision with their batches, which run with the raised window then.
func (g *generator) raisedWindow() {
	r, s := g.part("raised window"), g.s
	if !chance(r, 8) || s.Lasts < 40*time.Second {
		return
	}
	for i := range s.Clients {
		c := &s.Clients[i]
		flow := slices.IndexFunc(s.Flows, func(f Flow) bool { return f.Name == c.Flow })
		if flow < 0 || c.How != "producer" && c.How != "stream" {
			continue
		}
		if form, _ := FormOf(s.Flows[flow].Form); !form.Saves {
			continue
		}
		c.How, c.Every, c.Batch, c.Open, c.Mix.Busy, c.Timeout, c.Oldest = "producer", 40*time.Millisecond, min(c.Rows, 10), 16, 400, 0, 0
		c.Rows, s.Redis.OnceWindow = max(c.Rows, 2000), 5*time.Second
		at := seconds(r, 5, 15)
		s.Faults = append(s.Faults, Fault{At: at, For: seconds(r, 10, 16), Kind: "kill", Who: c.Name})
		s.Changes = append(s.Changes, Change{At: at + seconds(r, 7, 9), Kind: "once-window", Flow: c.Flow, N: 120})
		c.Forgets = chance(r, 75)
		return
	}
}

// usedAgain makes an etcd that was restored give the numbers of earlier revisions again: documents change quickly one
// after the other before a restore that loses these changes, and after it.
func (g *generator) usedAgain() {
	r, s := g.part("used again"), g.s
	if !chance(r, 6) {
		return
	}
	flow := pick(r, s.Flows...).Name
	at := seconds(r, 3, 8)
	s.Changes = slices.DeleteFunc(s.Changes, func(c Change) bool { return c.Flow == flow || c.Flow == "" }) // the last revision is to stay
	revise := func(pause time.Duration) {
		s.Changes = append(s.Changes, Change{At: at, Kind: "revise", Flow: flow})
		at += pause
	}
	for range 8 {
		revise(widelyTime(r, 150*time.Millisecond, 350*time.Millisecond))
	}
	s.Faults = append(s.Faults, Fault{At: at, Kind: "etcd-restore", By: 4 * time.Second})
	at += seconds(r, 1, 3)
	for range between(r, 1, 3) {
		revise(widelyTime(r, 200*time.Millisecond, 600*time.Millisecond))
	}
}

// muchOutput makes output pile up at workers with little memory: most rows of a flow become large, and the links to the coordinators are slow
// for a while, so that workers can't be rid of them.
func (g *generator) muchOutput() {
	r, s := g.part("much output"), g.s
	if !chance(r, 6) {
		return
	}
	for i := range s.Clients {
		c := &s.Clients[i]
		flow := slices.IndexFunc(s.Flows, func(f Flow) bool { return f.Name == c.Flow })
		if flow < 0 || !slices.Contains([]string{"plain", "chain", "jump"}, s.Flows[flow].Form) { // with a Calculate, which makes rows large
			continue
		}
		c.How, c.Forgets, c.Results, c.Msgpack, c.Hot, c.Pad, c.Timeout, c.Mix = "stream", false, true, false, 0, 0, 0, Mix{Grow: 700}
		c.Rows, c.Batch, c.Every, c.Open, c.Keys = max(c.Rows, 600), 5, 30*time.Millisecond, 0, max(c.Keys, 10)
		c.Start = min(c.Start, s.Lasts/4)
		for i := range s.Coordinators {
			s.Coordinators[i].RowBytes = 0
		}
		for i := range s.Workers {
			w := &s.Workers[i]
			w.Budget, w.RowBudget, w.BatchRows, w.BatchBytes = 1<<20, 2<<10, 0, 0
			for _, k := range s.Coordinators {
				at := c.Start + seconds(r, 1, 3)
				s.Faults = append(s.Faults, Fault{At: at, For: min(seconds(r, 12, 25), s.Lasts-at), Kind: "slow", Who: w.Name, Whom: k.Name, N: between(r, 10000, 60000)})
			}
		}
		return
	}
}
