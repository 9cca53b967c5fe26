package scenario

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Generate returns the scenario of a seed. The same seed always gives the same scenario, as long as this package does not change.
//
// Each seed switches most kinds of faults, changes, rows and settings off, and keeps a few: a scenario in which everything happens at
// once reaches fewer corners, because its faults hide each other.
func Generate(seed uint64) *Scenario {
	g := &generator{s: &Scenario{Seed: seed}}
	g.size()
	g.topology()
	g.settings()
	g.flows()
	g.clients()
	g.changes()
	g.faults()
	g.raisedWindow()
	g.usedAgain()
	g.muchOutput()
	if slices.ContainsFunc(g.s.Clients, func(c Client) bool { return c.How == "redrive" }) {
		for i := range g.s.Coordinators {
			g.s.Coordinators[i].Letters = true
		}
	}
	g.calm()
	g.s.sort()
	if err := g.s.Check(); err != nil {
		panic(fmt.Sprintf("scenario of seed %d can't be carried out: %v\n%s", seed, err, g.s))
	}
	return g.s
}

// generator makes a scenario. Each of its parts takes its random numbers from a stream of its own.
type generator struct {
	s *Scenario
	// How large the scenario is.
	coordinators, workers, flowCount, rows int
}

// part returns the stream of random numbers of a part of the scenario.
func (g *generator) part(name string) *rand.Rand { return g.s.Rand("generate " + name) }

// size decides how large the scenario is. Most are small, so that many of them can be run.
func (g *generator) size() {
	r := g.part("size")
	switch n := r.IntN(100); {
	case n < 3: // big
		g.s.Lasts, g.coordinators, g.workers, g.flowCount, g.rows = 5*time.Minute, 3, 5, between(r, 3, 6), 10000
	case n < 20: // medium
		g.s.Lasts = seconds(r, 60, 120)
		g.coordinators, g.workers, g.flowCount, g.rows = between(r, 1, 3), between(r, 2, 6), between(r, 1, 4), between(r, 1000, 3000)
	default:
		g.s.Lasts = seconds(r, 15, 60)
		g.coordinators, g.workers, g.flowCount = pick(r, 1, 1, 2, 2, 3), pick(r, 1, 2, 2, 3, 3, 4), pick(r, 1, 1, 1, 2, 2, 3)
		g.rows = widely(r, 100, 1500)
	}
}

// topology decides on which hosts the processes run, and how etcd and Redis are set up. The first coordinator and the first worker are
// never misconfigured, so that every scenario has a path for rows.
func (g *generator) topology() {
	r, s := g.part("topology"), g.s
	style := pick(r, "own", "own", "own", "one", "pairs", "mixed")
	host := func(kind string, i int) string {
		switch style {
		case "one":
			return "h1"
		case "pairs": // a coordinator and a worker share a host
			return fmt.Sprintf("h%d", i)
		case "mixed":
			return fmt.Sprintf("h%d", between(r, 1, 3))
		}
		return fmt.Sprintf("%s%d", kind, i)
	}
	for i := 1; i <= g.coordinators; i++ {
		s.Coordinators = append(s.Coordinators, Process{Name: fmt.Sprintf("c%d", i), Host: host("hc", i)})
	}
	for i := 1; i <= g.workers; i++ {
		s.Workers = append(s.Workers, Process{Name: fmt.Sprintf("w%d", i), Host: host("hw", i)})
	}
	g.addresses(r)
	s.TLS = chance(r, 12)
	s.Latency = pick(r, 0, 0, 0, 200*time.Microsecond, time.Millisecond, 5*time.Millisecond, 30*time.Millisecond)
	s.Addresses = pick(g.part("addresses"), "", "", "", "", "", "", IPv6, BothFamilies)
	s.Etcd.Members = pick(r, 1, 1, 3)
	s.Etcd.Delay = pick(r, 0, 0, time.Millisecond, 5*time.Millisecond, 30*time.Millisecond)
	if chance(r, 12) {
		s.Etcd.User = "grid"
		s.Etcd.TokenLasts = pick(r, 0, 5*time.Second, 20*time.Second)
	}
	if chance(r, 30) {
		s.Redis.Replicas, s.Redis.Lag = 1, pick(r, 10*time.Millisecond, 100*time.Millisecond, time.Second)
		if chance(r, 20) {
			s.Redis.Wait = 1
		}
	}
	if chance(r, 12) {
		s.Redis.User = "grid"
	}
	s.Redis.Delay = pick(r, 0, 0, time.Millisecond, 10*time.Millisecond)
	if chance(r, 15) {
		s.Redis.OnceWindow = seconds(r, 5, 60)
	}
}

// addresses decides what processes listen at and say of themselves.
func (g *generator) addresses(r *rand.Rand) {
	s := g.s
	if chance(r, 30) { // every process gives its host's name
		named := func(all []Process, port int) {
			taken := map[string]int{}
			for i := range all {
				p := &all[i]
				at := port + taken[p.Host]
				taken[p.Host] += 10
				p.Listen, p.Advertise = fmt.Sprintf(":%d", at), fmt.Sprintf("%s:%d", p.Host, at)
			}
		}
		named(s.Coordinators, 7700)
		named(s.Workers, 7701)
	}
	wrong := func(all []Process, port int) {
		if len(all) < 2 || !chance(r, 6) {
			return
		}
		p := &all[between(r, 1, len(all)-1)]
		p.Listen = fmt.Sprintf(":%d", port)
		p.Advertise = pick(r, fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("localhost:%d", port), fmt.Sprintf("%s:%d", all[0].Host, port),
			fmt.Sprintf("nowhere:%d", port), fmt.Sprintf("%s:%d", p.Host, port+1))
	}
	wrong(s.Coordinators, 7790)
	wrong(s.Workers, 7791)
}

// settings decides how the settings of processes differ. In most scenarios one kind of setting is other than the default, or none.
func (g *generator) settings() {
	r, s := g.part("settings"), g.s
	on := swarm(r, "lease", "leases", "limits", "budget", "no-worker", "drain", "txn", "build", "absent", "letters", "rows")
	if on["lease"] {
		lease := seconds(r, 2, 5)
		for _, all := range [][]Process{s.Coordinators, s.Workers} {
			for i := range all {
				all[i].Lease = lease
			}
		}
	}
	for i := range s.Coordinators {
		p := &s.Coordinators[i]
		if p.Letters = on["letters"] || chance(r, 20); p.Letters && chance(r, 20) {
			p.LettersMax = between(r, 1, 20)
		}
		g.common(r, p, on)
		if on["budget"] {
			p.BatchBytes, p.BatchRows = pick(r, 64<<10, 256<<10), pick(r, 200, 1000)
			p.Budget = pick[int64](r, 1<<20, 2<<20, 4<<20)
		}
		if on["rows"] && chance(r, 70) {
			p.RowBytes = pick(r, 1<<10, 4<<10, 16<<10)
		}
		if on["no-worker"] {
			p.NoWorker = pick(r, time.Second, 3*time.Second, 30*time.Second)
		}
		if on["txn"] {
			p.TxnOps = pick(r, 8, 16, 64)
			s.Etcd.MaxOperations = pick(r, 0, 64)
		}
	}
	for i := range s.Workers {
		p := &s.Workers[i]
		g.common(r, p, on)
		if on["budget"] {
			p.Budget, p.RowBudget = pick[int64](r, 1<<20, 1<<20, 4<<20), pick[int64](r, 1<<10, 2<<10)
		}
		if i > 0 && on["build"] && chance(r, 50) {
			p.Build = pick(r, Builds...)
		}
		if i > 0 && on["absent"] && chance(r, 50) {
			p.Absent = true
		}
	}
}

// common decides the settings that coordinators and workers have both.
func (g *generator) common(r *rand.Rand, p *Process, on map[string]bool) {
	if on["leases"] && chance(r, 60) {
		p.Lease = seconds(r, 2, 12)
	}
	if on["limits"] && chance(r, 60) {
		p.BatchRows, p.BatchBytes = pick(r, 0, 10, 50, 500), pick(r, 0, 8<<10, 64<<10, 512<<10)
	}
	if on["drain"] {
		p.Drain = pick(r, time.Second, 5*time.Second)
	}
}

// flows decides which flows there are. A flow that loads brings the flow that saves its keys.
func (g *generator) flows() {
	r, s := g.part("flows"), g.s
	var forms []weight
	for _, f := range Forms {
		forms = append(forms, weight{f.Name, f.Weight})
	}
	provider := ""
	for i := range g.flowCount {
		form, _ := FormOf(weighted(r, forms))
		f := Flow{Name: fmt.Sprintf("%s%d", form.Name, i+1), Form: form.Name}
		if form.LoadsOther {
			if provider == "" {
				provider = "set0"
				s.Flows = append(s.Flows, g.flowSettings(r, Flow{Name: provider, Form: "set"}))
			}
			f.For = provider
		}
		if form.Shared && i == g.flowCount-1 { // sharing needs two
			s.Flows = append(s.Flows, g.flowSettings(r, Flow{Name: form.Name + "0", Form: form.Name}))
		}
		s.Flows = append(s.Flows, g.flowSettings(r, f))
	}
}

// flowSettings decides the settings of a flow's documents.
func (g *generator) flowSettings(r *rand.Rand, f Flow) Flow {
	f.Copies = pick(r, 0, 1, 1, 2, 4)
	f.Timeout = pick(r, 0, 0, 5*time.Second, 20*time.Second)
	f.Retries = pick(r, 0, 0, 1, 3)
	if form, _ := FormOf(f.Form); form.Loads {
		f.Wait = pick(r, 2*time.Second, 5*time.Second, 10*time.Second, 0)
	}
	return f
}

// changes decides how documents change. A change that stops a flow is followed, most of the time, by one that brings it back.
func (g *generator) changes() {
	r, s := g.part("changes"), g.s
	var kinds []string
	for _, k := range ChangeKinds {
		kinds = append(kinds, k.Name)
	}
	on := swarm(r, kinds...)
	if chance(r, 35) {
		return
	}
	if chance(r, 60) {
		on["revise"] = true
	}
	if chance(r, 15) {
		on["copies"] = true
	}
	var chosen []ChangeKind
	for _, k := range ChangeKinds {
		if on[k.Name] {
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return
	}
	for range widely(r, 1, 12) {
		k := pick(r, chosen...)
		c := Change{At: within(r, s.Lasts), Kind: k.Name}
		if len(s.Changes) > 0 && chance(r, 30) { // shortly after the one before
			c.At = min(s.Lasts, s.Changes[len(s.Changes)-1].At+widelyTime(r, time.Millisecond, 2*time.Second))
		}
		flow := pick(r, s.Flows...)
		form, _ := FormOf(flow.Form)
		if k.Saves && !form.Saves {
			continue
		}
		if !k.NoFlow {
			c.Flow = flow.Name
		}
		if k.By && chance(r, 40) {
			c.By = "etcdctl"
		}
		if k.N {
			switch k.Name {
			case "many":
				c.N = widely(r, 5, 150)
			case "once-window":
				c.N = between(r, 5, 120)
			default:
				c.N = between(r, 1, 6)
			}
		}
		s.Changes = append(s.Changes, c)
		switch k.Name {
		case "off":
			g.follow(r, c, "on")
		case "delete", "delete-func", "break", "break-name", "break-mode", "bad-connector", "big", "shard-key":
			g.follow(r, c, "put-back")
		}
	}
}

// follow adds a change that undoes another one, in four cases of five.
func (g *generator) follow(r *rand.Rand, c Change, kind string) {
	if at := c.At + widelyTime(r, 10*time.Millisecond, 20*time.Second); at <= g.s.Lasts && chance(r, 80) {
		g.s.Changes = append(g.s.Changes, Change{At: at, Kind: kind, Flow: c.Flow, By: c.By})
	}
}

// calm decides how long the cluster has to recover: rows may wait for their flow's timeout, and processes for a lease.
func (g *generator) calm() {
	s := g.s
	longest := 10 * time.Second
	for _, all := range [][]Process{s.Coordinators, s.Workers} {
		for _, p := range all {
			longest = max(longest, p.Lease, p.NoWorker)
		}
	}
	wait := time.Duration(0)
	for _, f := range s.Flows {
		if f.Timeout == 0 {
			f.Timeout = time.Minute
		}
		wait = max(wait, f.Timeout)
	}
	s.Calm = wait + 3*longest + 30*time.Second
}
