package definition

import (
	"math"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// parseFlow reads a flow's document. Mistakes in it are added to the reader's list.
func parseFlow(v value) *Flow {
	o := v.object(flowKeys.names()...)
	f := &Flow{
		Name:    o.ownName("flow_name", "the flow's name"),
		Enabled: o.integer("status", 0, 1) == 1,
		Copies:  o.integer("copies", 1, MaxCopies),
		Timeout: o.duration("timeout", DefaultFlowTimeout),
	}
	if key, ok := o.values["shard_key"]; ok {
		if f.ShardKey, ok = key.text(); ok && !jsonrule.ValidName(f.ShardKey) {
			key.mistake("is %s, which can't be the name of a JSON field; a batch goes whole without the key", quote(f.ShardKey))
		}
	}
	if functions, ok := o.require("flows", "the functions that rows pass through"); ok {
		for _, entry := range o.list("flows") {
			e := entry.object(stepKeys.names()...)
			f.Functions = append(f.Functions, FlowFunction{
				Name: e.name("fname", "the function's name"), Params: e.textMap("params"), Line: entry.node.Line + v.r.offset,
			})
		}
		if functions.node.Kind == yaml.SequenceNode && len(f.Functions) == 0 {
			functions.mistake("has no function: name at least one")
		}
	}
	return f
}

// parseConnector reads a connector's document. Mistakes in it are added to the reader's list.
func parseConnector(v value) *Connector {
	o := v.object(connectorKeys.names()...)
	c := &Connector{
		Name:         o.ownName("cname", "the connector's name"),
		Key:          o.text("key"),
		Params:       o.textMap("params"),
		Load:         o.texts("load"),
		Save:         o.texts("save"),
		TLS:          o.flag("tls"),
		Username:     o.text("username"),
		PasswordFile: o.text("password_file"),
		Replicas:     o.integer("replicas", 0, math.MaxInt32),
	}
	if t, ok := o.require("type", "one of "+strings.Join(connectorTypes, ", ")); ok {
		c.Type = t.oneOf(connectorTypes...)
	}
	if c.Type != "memory" {
		o.require("addrs", "the store's addresses, separated by commas")
	}
	c.Addrs = splitAddrs(o.text("addrs"))
	if v, ok := o.values["addrs"]; ok && len(c.Addrs) == 0 && v.node.Kind == yaml.ScalarNode && c.Type != "memory" {
		v.mistake("has no address: write at least one")
	}
	c.Flows = o.texts("flows")
	if v, ok := o.values["flows"]; ok && !v.null() {
		if v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 {
			v.mistake("names no flow, so that none may use the connector: name one, or leave the key out for all flows")
		}
		for _, pattern := range c.Flows {
			if i := strings.Index(pattern, "*"); pattern == "" || i >= 0 && i < len(pattern)-1 {
				v.mistake("has %s, which names no flow: write a name, or the beginning of names and a * at its end", quote(pattern))
			}
		}
	}
	o.checkReferences(c)
	return c
}

// connectorTypes lists the values that the key type of a connector may have.
var connectorTypes = []string{"redis", "memory", "mysql", "kafka", "tidb", "es"}

// checkReferences adds a mistake for each value of a connector in which a ${NAME} is misspelt. o is
// the connector's document.
func (o object) checkReferences(c *Connector) {
	check := func(v value, text string) {
		if _, err := expand(text, nil); err != nil {
			v.mistake("%v", err)
		}
	}
	for _, key := range []string{"addrs", "key", "username", "password_file"} {
		if v, ok := o.values[key]; ok && v.node.Kind == yaml.ScalarNode {
			check(v, v.node.Value)
		}
	}
	params := o.values["params"]
	for _, name := range sortedKeys(c.Params) {
		v := params
		v.path = join(v.path, name)
		check(v, c.Params[name])
	}
}

// parseGlobal reads a document with the settings of a process (kistype: global). Mistakes in it are
// added to the reader's list.
func parseGlobal(v value) *Global {
	o := v.object(globalKeys.names()...)
	return &Global{
		PrometheusEnable: o.flag("prometheus_enable"),
		PrometheusListen: o.flag("prometheus_listen"),
		PrometheusServe:  o.text("prometheus_serve"),
	}
}
