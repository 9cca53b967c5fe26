package scenario

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"
)

// clients decides who submits which rows to each flow.
func (g *generator) clients() {
	r, s := g.part("clients"), g.s
	names := 0
	add := func(flow Flow, rows int) {
		names++
		s.Clients = append(s.Clients, g.client(fmt.Sprintf("p%d", names), flow, rows))
	}
	share := max(20, g.rows/len(s.Flows))
	for _, flow := range s.Flows {
		if chance(r, 30) && share > 100 { // two clients
			first := between(r, share/4, share*3/4)
			add(flow, first)
			add(flow, share-first)
		} else {
			add(flow, share)
		}
	}
	if chance(r, 25) {
		names++
		s.Clients = append(s.Clients, Client{Name: fmt.Sprintf("p%d", names), How: "watch", Host: "hp", Every: seconds(r, 1, 10)})
	}
}

// client decides how one client submits rows.
func (g *generator) client(name string, flow Flow, rows int) Client {
	r, s := g.part("client "+name), g.s
	c := Client{
		Name: name, How: weighted(r, hows), Flow: flow.Name, Host: pick(r, "hp", "hp-"+name, s.Coordinators[0].Host),
		Rows: rows, Batch: min(rows, widely(r, 1, 100)), Open: pick(r, 0, 0, 1, 4, 16), Results: chance(r, 50),
		Keys: widely(r, 1, 300), Again: pick(r, 0, 0, 50, 100), Msgpack: chance(r, 10),
	}
	if chance(r, 25) {
		c.Hot = pick(r, 20, 50, 90)
	}
	if batches := (rows + c.Batch - 1) / c.Batch; !chance(r, 15) { // spread over the scenario
		spread := time.Duration(float64(s.Lasts) * (0.2 + 0.75*r.Float64()))
		c.Every = (spread / time.Duration(batches)).Round(time.Millisecond)
	}
	if chance(r, 15) {
		c.Start = within(r, s.Lasts/2)
	}
	if chance(r, 15) {
		c.Timeout = pick(r, time.Second, 5*time.Second, 15*time.Second)
	}
	if chance(r, 10) {
		c.Pad = widely(r, 100, 20000)
	}
	if c.How == "producer" && chance(r, 40) {
		c.Oldest = pick(r, 5*time.Second, 30*time.Second, 2*time.Hour)
	}
	switch {
	case len(s.Coordinators) > 1 && chance(r, 15):
		c.To = pick(r, s.Coordinators...).Name
	case s.Coordinators[0].hasPort() && chance(r, 25):
		c.To = ByName
	}
	g.mix(r, &c, flow)
	if tight := func(p Process) bool { return p.Budget > 0 }; chance(r, 40) && (slices.ContainsFunc(s.Coordinators, tight) || slices.ContainsFunc(s.Workers, tight)) {
		// More output than budgets have room for, and perhaps nobody who takes it.
		c.Results, c.Rows, c.Pad, c.Mix.Grow = true, min(c.Rows, 200), widely(r, 500, 5000), pick(r, 50, 200)
		if chance(r, 50) {
			c.How = "slow"
		}
	}
	return c
}

// hows are the ways of submitting, with how often each is taken.
var hows = []weight{{"stream", 45}, {"call", 14}, {"producer", 14}, {"idle", 6}, {"gone", 7}, {"slow", 7}, {"wrong", 5}, {"intruder", 4}, {"redrive", 5}}

// mix decides which rows are not ordinary. Rows that cost much time are few.
func (g *generator) mix(r *rand.Rand, c *Client, flow Flow) {
	form, _ := FormOf(flow.Form)
	all := fields(reflect.ValueOf(&c.Mix).Elem())
	var words []string
	for _, f := range all {
		if f.word != "busy" {
			words = append(words, f.word)
		}
	}
	if chance(r, 50) { // with rows that take time, faults find something under way
		c.Mix.Busy = pick(r, 50, 200, 400)
	}
	on := swarm(r, words...)
	on["jump"], on["lose"] = chance(r, 60), chance(r, 60) // in forms that are made for them
	on["miss"], on["late"] = on["miss"] || chance(r, 30), on["late"] || chance(r, 30)
	for _, f := range all {
		if !on[f.word] {
			continue
		}
		most := 100
		switch f.word {
		case "hang", "block", "miss":
			most = 8
		case "poison":
			most = 3
		case "huge", "grow":
			most = 20
		case "jump":
			most = 300
		}
		if f.word == "jump" && !form.Jumps || f.word == "lose" && form.Name != "lost" || (f.word == "miss" || f.word == "late") && !form.LoadsOther ||
			f.word == "no-key" && !form.Sharded {
			continue
		}
		share := widely(r, 1, most)
		if most < 20 { // a few rows of this client
			share = max(1, min(most, between(r, 1, 3)*1000/c.Rows))
		}
		f.value.SetInt(int64(min(share, 60)))
	}
}
