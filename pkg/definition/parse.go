package definition

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// Parse reads one document. It is strict: the error names every key that is unknown, written twice, missing or has a bad
// value, with its document and line. What a document does not say gets its default.
func Parse(d Document) (Parsed, error) {
	parsed, mistakes := parse(d)
	if err := mistakes.err(); err != nil {
		return Parsed{}, err
	}
	return parsed, nil
}

func parse(d Document) (Parsed, Mistakes) {
	p, r := read(d)
	return p, r.finish()
}

// doubts are what people read in two ways in a document that parses.
func (d Document) doubts() Mistakes {
	_, r := read(d)
	slices.SortStableFunc(r.doubts, func(a, b *Mistake) int { return a.Line - b.Line })
	return r.doubts.cut()
}

func read(d Document) (Parsed, *reader) {
	r := &reader{document: d.String(), storedAs: d.Name, offset: max(d.Line, 1) - 1}
	var p Parsed
	if root := r.root(d.YAML); root != nil {
		v := value{r: r, node: root}
		d.Kind = v.kind(d.Kind)
		switch d.Kind {
		case KindFlow:
			p.Flow = parseFlow(v)
			p.Flow.Document = d.named(p.Flow.Name)
		case KindFunc:
			p.Function = parseFunction(v)
			p.Function.Document = d.named(p.Function.Name)
		case KindConn:
			p.Connector = parseConnector(v)
			p.Connector.Document = d.named(p.Connector.Name)
		case KindGlobal:
			p.Global = parseGlobal(v)
			p.Global.Document = d.named("")
		}
	}
	return p, r
}

// root reads the text's one YAML document; nil with a mistake if there is none.
func (r *reader) root(text []byte) *yaml.Node {
	switch {
	case len(text) > MaxBytes:
		r.mistake(0, "", "has %d bytes, over the limit of %d bytes for a flow's documents together", len(text), MaxBytes)
		return nil
	case !utf8.Valid(text):
		r.mistake(0, "", "is not UTF-8: save it as UTF-8")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var node, more yaml.Node
	if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
		r.mistake(0, "", "is empty: write a document that starts with kistype")
		return nil
	} else if err != nil {
		r.syntax(err)
		return nil
	}
	if err := decoder.Decode(&more); err == nil {
		r.mistake(more.Line, "", "is a second document: store each one on its own")
		return nil
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
		return nil
	}
	root := r.follow(node.Content[0])
	if root.ShortTag() == "!!null" {
		r.mistake(0, "", "is empty: write a document that starts with kistype")
		return nil
	}
	return root
}

// countedFrom0 are the problems whose lines the YAML library counts from 0; all others it counts from 1.
var countedFrom0 = []string{
	"did not find expected <document start>", "did not find expected node content", "did not find expected '-' indicator",
	"did not find expected key", "did not find expected ',' or ']'", "did not find expected ',' or '}'", "found undefined tag handle",
}

// syntax reports text that is no YAML. The library's messages read "yaml: line 3: …", without the line if that is 0.
func (r *reader) syntax(err error) {
	problem, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if rest, found := strings.CutPrefix(problem, "line "); found {
		number, after, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, problem = n, after
		}
	}
	switch {
	case slices.Contains(countedFrom0, problem):
		line++
	case line == 0 && !strings.HasPrefix(problem, "unknown anchor"):
		line = 1
	}
	r.mistake(line, "", "is not YAML: %s", problem)
}

var kinds = []string{string(KindFlow), string(KindFunc), string(KindConn), string(KindGlobal)}

// kind reads kistype ahead of the rest, which depends on it. Without one it is what the document is stored as, if anything.
func (v value) kind(storedAs Kind) Kind {
	if v.node.Kind != yaml.MappingNode {
		v.mistake("wants keys with values, not %s", describe(v.node))
		return ""
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value != "kistype" {
			continue
		}
		k := value{r: v.r, path: "kistype", node: v.r.follow(v.node.Content[i+1])}
		if k.null() {
			break
		}
		kind := Kind(k.oneOf(kinds...))
		if kind == "" {
			return storedAs
		}
		if storedAs != "" && kind != storedAs {
			k.mistake("is %s, but the document is stored as a %s: the two must be the same", kind, storedAs)
		}
		return kind
	}
	v.r.mistake(v.node.Line, "kistype", "is missing: write one of %s", strings.Join(kinds, ", "))
	return storedAs
}

func parseFlow(v value) *Flow {
	o := v.object("kistype", "status", "flow_name", "flows", "shard_key", "copies", "timeout")
	f := &Flow{
		Name:    o.ownName("flow_name", "the flow's name"),
		Enabled: o.integer("status", 0, 1) == 1,
		Copies:  o.integer("copies", 1, MaxCopies),
		Timeout: o.duration("timeout", DefaultFlowTimeout),
	}
	if key, ok := o.values["shard_key"]; ok {
		if f.ShardKey, ok = key.text(); ok && !jsonrule.ValidName(f.ShardKey) {
			key.mistake("is %s, which is no name of a JSON field; a batch goes whole without the key", quote(f.ShardKey))
		}
	}
	if functions, ok := o.require("flows", "the functions that rows pass through"); ok {
		for _, entry := range o.list("flows") {
			e := entry.object("fname", "params")
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

func parseFunction(v value) *Function {
	o := v.object("kistype", "fname", "fmode", "source", "option", "timeout")
	f := &Function{
		Name:    o.ownName("fname", "the function's name"),
		Timeout: o.duration("timeout", DefaultFunctionTimeout),
	}
	if mode, ok := o.require("fmode", "one of "+strings.Join(modes, ", ")); ok {
		f.Mode = Mode(mode.oneOf(modes...))
	}
	source := o.object("source", "name", "must")
	f.Source = Source{Name: source.text("name"), Must: source.texts("must")}
	f.parseOption(o.object("option", optionKeys...))
	return f
}

var optionKeys = []string{
	"cname", "retry_times", "retry_duration", "return_duration", "default_params", "on_missing", "wait", "save", "load",
}

var modes = []string{string(ModeVerify), string(ModeSave), string(ModeLoad), string(ModeCalculate), string(ModeExpand)}

func (f *Function) parseOption(o object) {
	if v, ok := o.values["cname"]; ok {
		f.Connector, f.ConnectorLine = o.name("cname", "the connector's name"), v.node.Line+v.r.offset
	}
	f.RetryTimes = o.integer("retry_times", 0, math.MaxInt32)
	f.RetryInterval = o.milliseconds("return_duration")
	if v, ok := o.values["retry_duration"]; ok {
		if _, both := o.values["return_duration"]; both {
			v.mistake("says the same as return_duration: take one of them out")
		}
		f.RetryInterval = o.retryDuration(v)
	}
	f.DefaultParams = o.textMap("default_params")

	f.OnMissing, f.Wait = OnMissingWait, o.duration("wait", DefaultWait)
	if v, ok := o.values["on_missing"]; ok {
		f.OnMissing = OnMissing(v.oneOf(string(OnMissingWait), string(OnMissingDead), string(OnMissingNull)))
	}
	if v, ok := o.nulls["on_missing"]; ok && v.node.Value == "null" {
		f.OnMissing = OnMissingNull
		o.values["on_missing"] = v // it is there, for the check of the mode
	}
	for _, key := range []string{"on_missing", "wait", "load"} {
		f.wantMode(o, key, ModeLoad)
	}
	f.wantMode(o, "save", ModeSave)

	f.Save, f.Load = o.declaredSave(), o.declaredLoad()
	for _, key := range []string{"save", "load"} {
		if v, ok := o.values[key]; ok && f.Connector == "" {
			v.mistake("needs a connector: write option.cname")
		}
	}
}

// wantMode refuses a key that means nothing to a function of f's mode.
func (f *Function) wantMode(o object, key string, mode Mode) {
	if v, ok := o.values[key]; ok && f.Mode != mode && f.Mode != "" {
		v.mistake("is for functions of fmode %s; this one is %s", mode, f.Mode)
	}
}

// retryDuration is a duration, or a number of milliseconds as KisFlow has it.
func (o object) retryDuration(v value) (d time.Duration) {
	if v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!int" {
		return o.milliseconds("retry_duration")
	}
	d, ok := v.duration()
	if ok && d < 0 {
		v.mistake("is %s; it can't be below 0", v.node.Value)
	}
	return d
}

var saveOps = []string{string(SaveSet), string(SaveIncr), string(SaveAppend), string(SaveDelete)}

func (o object) declaredSave() *DeclaredSave {
	v, ok := o.values["save"]
	if !ok {
		return nil
	}
	s := v.object("key", "set", "incr", "append", "delete")
	save := &DeclaredSave{Key: s.template("key"), Line: v.node.Line + v.r.offset}
	for _, op := range saveOps {
		operation, ok := s.values[op]
		switch {
		case !ok:
			continue
		case save.Op != "":
			operation.mistake("comes beside %s: a declared Save does one of %s", save.Op, strings.Join(saveOps, ", "))
			continue
		}
		save.Op = SaveOp(op)
		if save.Op != SaveDelete {
			save.Fields = s.fieldMap(op)
		} else if !s.flag(op) && operation.node.Kind == yaml.ScalarNode {
			operation.mistake("is %s; it may only be true", quote(operation.node.Value))
		}
	}
	if save.Op == "" && v.node.Kind == yaml.MappingNode {
		v.mistake("says not what to do: write one of %s", strings.Join(saveOps, ", "))
	}
	return save
}

func (o object) declaredLoad() *DeclaredLoad {
	v, ok := o.values["load"]
	if !ok {
		return nil
	}
	l := v.object("key", "set", "types")
	load := &DeclaredLoad{Key: l.template("key"), Line: v.node.Line + v.r.offset}
	if _, ok := l.require("set", "the row fields to set, as row field: field"); ok {
		load.Fields = l.fieldMap("set")
	}
	load.Types = l.loadTypes(load.Fields)
	return load
}

var loadTypes = []string{string(LoadString), string(LoadInt), string(LoadFloat), string(LoadBool), string(LoadJSON)}

// loadTypes reads the types of fields that a declared Load sets.
func (o object) loadTypes(fields map[string]string) map[string]LoadType {
	v, ok := o.values["types"]
	if !ok {
		return nil
	}
	names := o.fieldMap("types")
	types := make(map[string]LoadType, len(names))
	for _, name := range sortedKeys(names) {
		if _, set := fields[name]; !set && name != "" {
			v.mistake("has %s, which set does not name%s: give types of the row fields that it sets", quote(name), suggest(name, sortedKeys(fields)))
		}
		if kind := names[name]; !slices.Contains(loadTypes, kind) && kind != "" {
			v.mistake("has %s: %s; write one of %s%s", name, quote(kind), strings.Join(loadTypes, ", "), suggest(kind, loadTypes))
		}
		types[name] = LoadType(names[name])
	}
	return types
}

func (o object) template(key string) Template {
	v, ok := o.require(key, "a key such as \"{stu_id}\"")
	if !ok {
		return Template{}
	}
	text, ok := v.text()
	if !ok {
		return Template{}
	}
	t, err := ParseTemplate(text)
	if err != nil {
		v.mistake("%v", err)
	}
	return t
}

// fieldMap reads a mapping from fields to fields, with at least one.
func (o object) fieldMap(key string) map[string]string {
	fields := o.textMap(key)
	v := o.values[key]
	for _, name := range sortedKeys(fields) {
		if name == "" || fields[name] == "" {
			v.mistake("has %s: %s; both must be names of fields", quote(name), quote(fields[name]))
		}
	}
	if len(fields) == 0 && v.node.Kind == yaml.MappingNode {
		v.mistake("names no field: write at least one")
	}
	return fields
}

var connectorTypes = []string{"redis", "memory", "mysql", "kafka", "tidb", "es"}

func parseConnector(v value) *Connector {
	o := v.object("kistype", "cname", "addrs", "type", "key", "params", "load", "save", "tls", "username", "password_file", "replicas")
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
	o.checkReferences(c)
	return c
}

// checkReferences finds ${NAME} that is misspelt.
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

func parseGlobal(v value) *Global {
	o := v.object("kistype", "prometheus_enable", "prometheus_listen", "prometheus_serve")
	return &Global{
		PrometheusEnable: o.flag("prometheus_enable"),
		PrometheusListen: o.flag("prometheus_listen"),
		PrometheusServe:  o.text("prometheus_serve"),
	}
}
