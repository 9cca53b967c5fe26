package forms

import (
	"fmt"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Variant is how the documents of a flow are written at one time. Changes of a scenario change it.
type Variant struct {
	// Mark is the parameter "mark" of the functions' documents, and "flowmark" of the flow's steps. Marks has other marks of single
	// functions, by their stages.
	Mark  string
	Marks map[string]string
	// Copies, Retries and ShardKey are those of the documents. Off says that the flow is switched off.
	Copies, Retries int
	ShardKey        string
	Off             bool
}

// First returns the variant with which a flow begins.
func First(flow scenario.Flow, mark string) Variant {
	return Variant{Mark: mark, Copies: flow.Copies, Retries: flow.Retries, ShardKey: Of(flow.Form).ShardKey()}
}

// FlowDocument writes the document of a flow.
func FlowDocument(flow scenario.Flow, v Variant) definition.Document {
	form := Of(flow.Form)
	var b strings.Builder
	status := 1
	if v.Off {
		status = 0
	}
	fmt.Fprintf(&b, "kistype: flow\nflow_name: %s\nstatus: %d\n", flow.Name, status)
	if v.ShardKey != "" {
		fmt.Fprintf(&b, "shard_key: %s\n", v.ShardKey)
	}
	if v.Copies > 0 {
		fmt.Fprintf(&b, "copies: %d\n", v.Copies)
	}
	if flow.Timeout > 0 {
		fmt.Fprintf(&b, "timeout: %s\n", flow.Timeout)
	}
	b.WriteString("flows:\n")
	for _, s := range form.Steps {
		fmt.Fprintf(&b, "  - {fname: %s, params: {flowmark: %s}}\n", form.Function(flow.Name, s.Stage), v.Mark)
	}
	return document(definition.KindFlow, flow.Name, b.String())
}

// FunctionDocument writes the document of one function of a flow.
func FunctionDocument(flow scenario.Flow, s Step, v Variant) definition.Document {
	name := Of(flow.Form).Function(flow.Name, s.Stage)
	mark := v.Mark
	if own, ok := v.Marks[s.Stage]; ok {
		mark = own
	}
	var b strings.Builder
	fmt.Fprintf(&b, "kistype: func\nfname: %s\nfmode: %s\n", name, s.Mode)
	if flow.Timeout > 0 {
		fmt.Fprintf(&b, "timeout: %s\n", FunctionTimeout(flow))
	}
	fmt.Fprintf(&b, "option:\n  default_params: {mark: %s}\n", mark)
	if v.Retries > 0 {
		fmt.Fprintf(&b, "  retry_times: %d\n  retry_duration: %s\n", v.Retries, RetryPause)
	}
	if s.Connector != "" {
		fmt.Fprintf(&b, "  cname: %s\n", s.Connector)
	}
	if s.OnMissing != "" {
		fmt.Fprintf(&b, "  on_missing: %s\n", s.OnMissing)
		if flow.Wait > 0 {
			fmt.Fprintf(&b, "  wait: %s\n", flow.Wait)
		}
	}
	switch {
	case s.Expressions != "":
		b.WriteString(s.Expressions)
	case s.Declared && s.Mode == definition.ModeSave:
		fmt.Fprintf(&b, "  save: {key: \"%s\", incr: {n: n}}\n", SumKey(flow.Name, "{key}"))
	case s.Declared:
		fmt.Fprintf(&b, "  load: {key: \"%s\", set: {found: n}}\n", LastKey(flow.For, "{key}"))
	}
	return document(definition.KindFunc, name, b.String())
}

// RetryPause is the pause before a function is tried again.
const RetryPause = 200 * time.Millisecond

// FunctionTimeout is the timeout of a flow's functions: half of the flow's, or the default of documents.
func FunctionTimeout(flow scenario.Flow) time.Duration {
	if flow.Timeout == 0 {
		return definition.DefaultFunctionTimeout
	}
	return max(flow.Timeout/2, 100*time.Millisecond)
}

// Documents writes the documents of a flow: the flow's own first, then those of its functions.
func Documents(flow scenario.Flow, v Variant) []definition.Document {
	docs := []definition.Document{FlowDocument(flow, v)}
	for _, s := range Of(flow.Form).Steps {
		docs = append(docs, FunctionDocument(flow, s, v))
	}
	return docs
}

// Connectors says how the documents of the connectors are written.
type Connectors struct {
	Addresses  string // of Redis: host:port, or ${NAME}
	OnceWindow time.Duration
	Wait       int    // replicas that must have a Save
	User       string // the name in Redis; empty means none
	Password   string // ${NAME} of the password; empty means none
	Pool       int    // connections to Redis; 0 means the default
}

// Documents writes the documents of the connectors.
func (c Connectors) Documents() []definition.Document {
	var b strings.Builder
	fmt.Fprintf(&b, "kistype: conn\ncname: %s\ntype: redis\naddrs: \"%s\"\nkey: \"%s\"\n", Store, c.Addresses, KeyPrefix)
	if c.User != "" {
		fmt.Fprintf(&b, "username: %s\n", c.User)
	}
	if c.Wait > 0 {
		fmt.Fprintf(&b, "replicas: %d\n", c.Wait)
	}
	var params []string
	if c.OnceWindow > 0 {
		params = append(params, fmt.Sprintf("once_window: %s", c.OnceWindow))
	}
	if c.Password != "" {
		params = append(params, fmt.Sprintf("password: \"%s\"", c.Password))
	}
	if c.Pool > 0 {
		params = append(params, fmt.Sprintf("pool_size: \"%d\"", c.Pool))
	}
	if len(params) > 0 {
		fmt.Fprintf(&b, "params: {%s}\n", strings.Join(params, ", "))
	}
	return []definition.Document{
		document(definition.KindConn, Store, b.String()),
		document(definition.KindConn, Memory, fmt.Sprintf("kistype: conn\ncname: %s\ntype: memory\nkey: \"%s\"\n", Memory, KeyPrefix)),
	}
}

// document makes a Document of a text.
func document(kind definition.Kind, name, text string) definition.Document {
	return definition.Document{Kind: kind, Name: name, YAML: []byte(text)}
}
