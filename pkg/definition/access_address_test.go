package definition

import (
	"strings"
	"testing"
)

// TestAccessAddresses asks for addresses with and without port, names, ranges and sockets, also spelt in other ways.
func TestAccessAddresses(t *testing.T) {
	for rule, addresses := range map[string]map[string]bool{
		"redis.prod.svc":      {"redis.prod.svc:6379": true, "REDIS.prod.svc.:1": true, "a.redis.prod.svc:6379": false, "redis.prod.svc.evil.com:6379": false, "/run/redis.sock": false},
		"redis.prod.svc:6379": {"redis.prod.svc:6379": true, "redis.prod.svc:6380": false, "redis.prod.svc": false},
		"*.prod.svc":          {"redis.prod.svc:6379": true, "a.b.prod.svc:1": true, "prod.svc:1": false, "evilprod.svc:1": false, "redis.prod.svc.evil.com:1": false},
		"*.prod.svc:6379":     {"redis.prod.svc:6379": true, "redis.prod.svc:1": false},
		"*:6379":              {"anything:6379": true, "10.1.2.3:6379": true, "[::1]:6379": true, "anything:1": false},
		"10.0.0.0/8":          {"10.1.2.3:6379": true, "[::ffff:10.1.2.3]:6379": true, "11.1.2.3:6379": false, "10.evil.com:6379": false, "localhost:1": false},
		"fd00::/8":            {"[fd12::1]:6379": true, "[fe80::1%eth0]:1": false, "10.1.2.3:1": false},
		"127.0.0.1":           {"127.0.0.1:6379": true, "[::ffff:127.0.0.1]:6379": true, "127.0.0.2:1": false, "localhost:1": false},
		"[::1]:6379":          {"[::1]:6379": true, "[0:0:0:0:0:0:0:1]:6379": true, "[::1]:1": false},
		"/run/redis.sock":     {"/run/redis.sock": true, "/run/../run/redis.sock": false, "redis:6379": false},
	} {
		a := Access{Addresses: []string{"nothing.like.it", rule}}
		if err := a.Valid(); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
		for address, allowed := range addresses {
			c := &Connector{Name: "C", Addrs: []string{address}, Document: Document{Kind: KindConn, Name: "C"}}
			if err := a.CheckAddresses(c); (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), address) {
				t.Errorf("%s allows %s: %v", rule, address, err)
			}
			if err := (Access{}).CheckAddresses(c); err != nil {
				t.Errorf("by default: %v", err)
			}
			if err := (Access{Addresses: []string{}}).CheckAddresses(c); err == nil {
				t.Errorf("an empty list allows %s", address)
			}
		}
	}
	for _, entry := range []string{"", ":6379", "a*b", "*.a*", "10.0.0.0/33", "redis/8", "two words"} {
		if err := (Access{Addresses: []string{entry}}).Valid(); err == nil {
			t.Errorf("%q is taken for an address", entry)
		}
	}
}

// TestConnectorFlows checks which flows may use a connector whose document names flows.
func TestConnectorFlows(t *testing.T) {
	documents := func(flow, flows string) []Document {
		return []Document{
			{Kind: KindFlow, Name: flow, YAML: []byte("kistype: flow\nflow_name: " + flow + "\nstatus: 1\nflows:\n  - fname: keep\n")},
			{Kind: KindFunc, Name: "keep", YAML: []byte("kistype: func\nfname: keep\nfmode: Save\nsource: {name: rows}\noption:\n  cname: store\n")},
			{Kind: KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\ntype: memory\n" + flows)},
		}
	}
	for _, test := range []struct {
		flow, flows, says string // says is part of the error; empty means that there is none
	}{
		{"Pay", "", ""}, {"Pay", "flows:\n", ""}, {"Pay", "flows: [Pay]\n", ""}, {"Pay", "flows: [Ship, \"P*\"]\n", ""}, {"Pay", "flows: [\"*\"]\n", ""},
		{"PayBack", "flows: [Pay]\n", "does not name this flow under flows"}, {"pay", "flows: [\"P*\"]\n", "does not name this flow under flows"},
		{"Pay", "flows: []\n", "names no flow"}, {"Pay", "flows: [\"P*y\"]\n", "names no flow"}, {"Pay", "flows: Pay\n", "wants a list"},
	} {
		_, err := NewBundle(documents(test.flow, test.flows))
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("flow %s with %q: %v", test.flow, test.flows, err)
		}
	}
	c := &Connector{Name: "store", Type: "memory", Flows: []string{"Pay", "Ship*"}}
	d, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(d)
	if err != nil || strings.Join(p.Connector.Flows, ",") != "Pay,Ship*" {
		t.Errorf("written and read, it is %+v, %v", p.Connector, err)
	}
}
