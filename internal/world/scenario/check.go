package scenario

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Problem is a mistake in a scenario.
type Problem struct {
	// List and Index name the element: "coordinator", "worker", "flow", "client", "change" or "fault", and its index. List is "" when the
	// mistake is the scenario's own.
	List  string
	Index int
	Text  string
}

// Check returns an error that lists everything in the scenario which can't be carried out; nil when there is nothing of the kind.
func (s *Scenario) Check() error {
	var errs []error
	for _, p := range s.problems() {
		text := p.Text
		if p.List != "" {
			text = fmt.Sprintf("%s %d: %s", p.List, p.Index+1, p.Text)
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// names are the names in a scenario.
type names struct {
	coordinators, workers, clients, hosts, flows []string
}

// mostServers bounds the members of etcd, and the servers of Redis.
const mostServers = 9

// names collects the names. Each host stands there once.
func (s *Scenario) names() names {
	var n names
	host := func(name string) {
		if name != "" && !slices.Contains(n.hosts, name) {
			n.hosts = append(n.hosts, name)
		}
	}
	for _, p := range s.Coordinators {
		n.coordinators = append(n.coordinators, p.Name)
		host(p.Host)
	}
	for _, p := range s.Workers {
		n.workers = append(n.workers, p.Name)
		host(p.Host)
	}
	for _, c := range s.Clients {
		n.clients = append(n.clients, c.Name)
		host(c.Host)
	}
	for i := range min(max(1, s.Etcd.Members), mostServers) {
		n.hosts = append(n.hosts, fmt.Sprintf("etcd-%d", i+1))
	}
	for i := range min(1+s.Redis.Replicas, mostServers) {
		n.hosts = append(n.hosts, fmt.Sprintf("redis-%d", i+1))
	}
	for _, f := range s.Flows {
		n.flows = append(n.flows, f.Name)
	}
	return n
}

// has reports whether a fault may name a party by this name.
func (n names) has(party Party, name string) bool {
	process := slices.Contains(n.coordinators, name) || slices.Contains(n.workers, name)
	client, host := slices.Contains(n.clients, name), slices.Contains(n.hosts, name)
	switch party {
	case AProcess:
		return process
	case AWorker:
		return slices.Contains(n.workers, name)
	case AHost:
		return host
	case ProcessOrClient:
		return process || client
	case AnEnd:
		return process || client || host || name == "etcd" || name == "redis"
	}
	return name == ""
}

// checker collects problems.
type checker struct {
	names
	s     *Scenario
	found []Problem
}

// problems returns everything that Check complains of.
func (s *Scenario) problems() []Problem {
	c := &checker{names: s.names(), s: s}
	if !slices.Contains([]string{"", IPv6, BothFamilies}, s.Addresses) {
		c.add("", 0, "addresses: write %s or %s, or leave it out", IPv6, BothFamilies)
	}
	if s.Lasts <= 0 || s.Calm <= 0 {
		c.add("", 0, "a scenario needs the lines lasts and calm, each with a duration")
	}
	if len(s.Coordinators) == 0 || len(s.Workers) == 0 {
		c.add("", 0, "a scenario needs a coordinator and a worker")
	}
	if s.Etcd.Members > mostServers || 1+s.Redis.Replicas > mostServers {
		c.add("", 0, "etcd and Redis have at most %d servers", mostServers)
	}
	c.notNegative("", 0, s.Etcd)
	c.notNegative("", 0, s.Redis)
	c.namesAreDistinct()
	for i := range s.Coordinators {
		c.process("coordinator", i, s.Coordinators[i])
	}
	for i := range s.Workers {
		c.process("worker", i, s.Workers[i])
	}
	for i, f := range s.Flows {
		c.flow(i, f)
	}
	for i, client := range s.Clients {
		c.client(i, client)
	}
	for i, change := range s.Changes {
		c.change(i, change)
	}
	for i, f := range s.Faults {
		c.fault(i, f)
	}
	return c.found
}

// add notes a problem.
func (c *checker) add(list string, index int, format string, args ...any) {
	c.found = append(c.found, Problem{List: list, Index: index, Text: fmt.Sprintf(format, args...)})
}

// validName is how processes, clients, hosts and flows are named.
var validName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*$`)

// namesAreDistinct complains of names that are used twice, or that can't be written in a script.
func (c *checker) namesAreDistinct() {
	seen := map[string]bool{"etcd": true, "redis": true}
	for _, h := range c.hosts {
		if !validName.MatchString(h) {
			c.add("", 0, "%q is no name of a host", h)
		}
		seen[h] = true
	}
	each := func(list string, all []string) {
		for i, name := range all {
			if !validName.MatchString(name) {
				c.add(list, i, "%q is no name: use letters, digits and dashes", name)
			} else if seen[name] {
				c.add(list, i, "the name %s is used already", name)
			}
			seen[name] = true
		}
	}
	each("coordinator", c.coordinators)
	each("worker", c.workers)
	each("client", c.clients)
	clear(seen)
	each("flow", c.flows)
}

// process checks a coordinator or a worker.
func (c *checker) process(list string, i int, p Process) {
	if p.Host == "" {
		c.add(list, i, "'on' and a host is missing")
	}
	for _, address := range []string{p.Listen, p.Advertise} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			c.add(list, i, "%q is no address host:port", address)
		}
	}
	if list == "worker" && (p.RowBytes != 0 || p.NoWorker != 0 || p.TxnOps != 0 || p.Letters || p.LettersMax != 0) {
		c.add(list, i, "row-bytes, no-worker, max-txn-ops and dead-letters are settings of coordinators")
	}
	if list == "coordinator" && (p.RowBudget != 0 || p.Build != "") {
		c.add(list, i, "row-budget and build are settings of workers")
	}
	if p.Build != "" {
		for word := range strings.SplitSeq(p.Build, ",") {
			if !slices.Contains(Builds, word) {
				c.add(list, i, "build: unknown word %q%s", word, nearest(word, Builds))
			}
		}
	}
	c.notNegative(list, i, p)
}

// flow checks a flow.
func (c *checker) flow(i int, f Flow) {
	form, found := FormOf(f.Form)
	if !found {
		var known []string
		for _, f := range Forms {
			known = append(known, f.Name)
		}
		c.add("flow", i, "%q is no form of a flow%s", f.Form, nearest(f.Form, known))
		return
	}
	if form.LoadsOther != (f.For != "") {
		c.add("flow", i, "'for' names the flow that saves the keys which a flow of a form that loads waits for; other forms have none")
	} else if f.For != "" {
		other := slices.IndexFunc(c.s.Flows, func(o Flow) bool { return o.Name == f.For })
		if other < 0 {
			c.add("flow", i, "for: there is no flow %s%s", f.For, nearest(f.For, c.flows))
		} else if of, _ := FormOf(c.s.Flows[other].Form); !of.Provides {
			c.add("flow", i, "for: the flow %s has a form that saves no keys for others", f.For)
		}
	}
	c.notNegative("flow", i, f)
}

// client checks a client.
func (c *checker) client(i int, client Client) {
	if !slices.Contains(Hows, client.How) {
		c.add("client", i, "%q is no way to submit rows%s", client.How, nearest(client.How, Hows))
	}
	if client.Host == "" {
		c.add("client", i, "'on' and a host is missing")
	}
	switch {
	case client.How == "watch":
		if client.Flow != "" || client.Rows != 0 {
			c.add("client", i, "a client that watches submits no rows")
		}
	case !slices.Contains(c.flows, client.Flow):
		c.add("client", i, "of: there is no flow %q%s", client.Flow, nearest(client.Flow, c.flows))
	case client.Rows == 0 || client.Batch == 0:
		c.add("client", i, "rows or batch is missing")
	}
	switch {
	case client.To == ByName && !slices.ContainsFunc(c.s.Coordinators, Process.hasPort):
		c.add("client", i, "to %s: no coordinator listens at port 7700", ByName)
	case client.To != "" && client.To != ByName:
		for name := range strings.SplitSeq(client.To, ",") {
			if !slices.Contains(c.coordinators, name) {
				c.add("client", i, "to: there is no coordinator %q%s", name, nearest(name, c.coordinators))
			}
		}
	}
	if client.Hot > 100 || client.Again > 100 {
		c.add("client", i, "hot and again are per cent, at most 100")
	}
	if client.Forgets && client.How != "producer" {
		c.add("client", i, "forgets is for producers")
	}
	sum := 0
	for _, f := range fields(reflect.ValueOf(client.Mix)) {
		sum += int(f.value.Int())
	}
	if sum > 1000 {
		c.add("client", i, "of a thousand rows, %d are said to be special", sum)
	}
	c.notNegative("client", i, client)
}

// change checks a change.
func (c *checker) change(i int, change Change) {
	k, found := changeKind(change.Kind)
	if !found {
		c.add("change", i, "%q is no kind of change", change.Kind)
		return
	}
	flow := slices.IndexFunc(c.s.Flows, func(f Flow) bool { return f.Name == change.Flow })
	switch {
	case k.NoFlow && change.Flow != "":
		c.add("change", i, "%s concerns no flow", k.Name)
	case !k.NoFlow && flow < 0:
		c.add("change", i, "there is no flow %q%s", change.Flow, nearest(change.Flow, c.flows))
	case k.Saves:
		if form, _ := FormOf(c.s.Flows[flow].Form); !form.Saves {
			c.add("change", i, "the flow %s has no connector", change.Flow)
		}
	}
	if change.By != "" && (!k.By || change.By != "etcdctl" && change.By != "apply") {
		c.add("change", i, "by: give apply or etcdctl, for a kind that writes documents")
	}
	if k.N != (change.N > 0) {
		c.add("change", i, "n: the kind %s %s", k.Name, needs(k.N))
	}
	if change.At > c.s.Lasts {
		c.add("change", i, "it comes after the scenario's end, at %s", duration(c.s.Lasts))
	}
	c.notNegative("change", i, change)
}

// needs says in an error whether a number is needed.
func needs(yes bool) string {
	if yes {
		return "needs it"
	}
	return "has none"
}

// fault checks a fault.
func (c *checker) fault(i int, f Fault) {
	k, found := faultKind(f.Kind)
	if !found {
		c.add("fault", i, "%q is no kind of fault", f.Kind)
		return
	}
	everybody := slices.Concat(c.coordinators, c.workers, c.clients, c.hosts, []string{"etcd", "redis"})
	if !c.has(k.Who, f.Who) {
		c.add("fault", i, "%s: it can't concern %q%s", k.Name, f.Who, nearest(f.Who, everybody))
	}
	if f.Whom != "" && !c.has(k.Whom, f.Whom) {
		c.add("fault", i, "from: it can't be %q%s", f.Whom, nearest(f.Whom, everybody))
	} else if k.Whom == AHost && f.Whom == "" {
		c.add("fault", i, "'from' is missing")
	}
	if f.Who != "" && f.Who == f.Whom {
		c.add("fault", i, "both ends are %s", f.Who)
	}
	if !k.Lasts && f.For > 0 {
		c.add("fault", i, "the kind %s does not last; leave out 'for'", k.Name)
	}
	if k.Lasts && !k.Forever && f.For == 0 {
		c.add("fault", i, "'for' is missing")
	}
	if k.By != (f.By > 0) {
		c.add("fault", i, "by: the kind %s %s", k.Name, needs(k.By))
	}
	if k.N != (f.N > 0) {
		c.add("fault", i, "n: the kind %s %s", k.Name, needs(k.N))
	}
	if f.Arg != "" && !slices.Contains(k.Args, f.Arg) {
		c.add("fault", i, "with: %q is no word for %s%s", f.Arg, k.Name, nearest(f.Arg, k.Args))
	}
	if f.Then != "" {
		c.then(i, k, f)
	}
	c.times(i, f)
}

// then checks the settings with which a process starts again.
func (c *checker) then(i int, k FaultKind, f Fault) {
	if !k.Then {
		c.add("fault", i, "then: nothing starts after the kind %s", k.Name)
		return
	}
	list, index := "coordinator", slices.Index(c.coordinators, f.Who)
	all := c.s.Coordinators
	if index < 0 {
		list, index, all = "worker", slices.Index(c.workers, f.Who), c.s.Workers
	}
	if index < 0 {
		c.add("fault", i, "then: %s is no coordinator or worker", f.Who)
		return
	}
	p, err := all[index].With(f.Then)
	if err != nil {
		c.add("fault", i, "then: %v", err)
		return
	}
	inner := &checker{names: c.names, s: c.s}
	inner.process(list, index, p)
	for _, problem := range inner.found {
		c.add("fault", i, "then: %s", problem.Text)
	}
}

// times checks when a fault happens.
func (c *checker) times(i int, f Fault) {
	if f.Over() > c.s.Lasts {
		c.add("fault", i, "it ends at %s, after the scenario's end at %s", duration(f.Over()), duration(c.s.Lasts))
	}
	if f.Kind == "start" && !slices.ContainsFunc(slices.Concat(c.s.Coordinators, c.s.Workers), func(p Process) bool { return p.Name == f.Who && p.Absent }) {
		c.add("fault", i, "start: %s is not absent", f.Who)
	}
	c.notNegative("fault", i, f)
}

// notNegative complains of times and numbers below zero in any field of an element.
func (c *checker) notNegative(list string, i int, element any) {
	value := reflect.ValueOf(element)
	for _, f := range fields(value) {
		if f.value.CanInt() && f.value.Int() < 0 {
			c.add(list, i, "%s: %d is below zero", f.name(), f.value.Int())
		}
		if f.value.Kind() != reflect.String {
			continue
		}
		text := f.value.String()
		words := strings.Fields(text)
		if strings.Contains(text, "#") || len(words) > 1 && !f.rest || strings.Join(words, " ") != text {
			c.add(list, i, "%s: %q can't be written in a script: it has a space or a #", f.name(), text)
		}
	}
	for _, name := range []string{"At", "For"} {
		if at := value.FieldByName(name); at.IsValid() && at.CanInt() && at.Int() < 0 {
			c.add(list, i, "a time is below zero")
		}
	}
}
