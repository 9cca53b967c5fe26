package definition

import (
	"math"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// parseFunction reads a function's document. Mistakes in it are added to the reader's list.
func parseFunction(v value) *Function {
	o := v.object(functionKeys.names()...)
	f := &Function{
		Name:    o.ownName("fname", "the function's name"),
		Timeout: o.duration("timeout", DefaultFunctionTimeout),
	}
	if mode, ok := o.require("fmode", "one of "+strings.Join(modes, ", ")); ok {
		f.Mode = Mode(mode.oneOf(modes...))
	}
	source := o.object("source", sourceKeys.names()...)
	f.Source = Source{Name: source.text("name"), Must: source.texts("must")}
	if v, ok := source.values["fields"]; ok {
		f.Source.Fields = v.fieldTypes()
	}
	f.parseOption(o.object("option", optionKeys...))
	return f
}

// modes lists the values that the key fmode may have.
var modes = []string{string(ModeVerify), string(ModeSave), string(ModeLoad), string(ModeCalculate), string(ModeExpand)}

// parseOption reads o, the mapping under the key option, into the function.
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
		o.values["on_missing"] = v // so that the check of the mode sees it
	}
	for _, key := range []string{"on_missing", "wait", "load"} {
		f.wantMode(o, key, ModeLoad)
	}
	f.wantMode(o, "save", ModeSave)

	f.parseExpressions(o)
	f.Save, f.Load = o.declaredSave(), o.declaredLoad()
	for _, key := range []string{"save", "load"} {
		if v, ok := o.values[key]; ok && f.Connector == "" {
			v.mistake("needs a connector: write option.cname")
		}
	}
}

// wantMode adds a mistake if the key is there and the function does not have the given mode: only
// functions of this mode may have the key.
func (f *Function) wantMode(o object, key string, mode Mode) {
	if v, ok := o.values[key]; ok && f.Mode != mode && f.Mode != "" {
		v.mistake("is for functions of fmode %s; this one is %s", mode, f.Mode)
	}
}

// retryDuration reads v, the value of retry_duration: a duration such as 500ms, or a whole number of
// milliseconds as in KisFlow.
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

// saveOps lists the operations of a declared Save. Each is a key under option.save.
var saveOps = []string{string(SaveSet), string(SaveIncr), string(SaveAppend), string(SaveDelete)}

// declaredSave reads the mapping under option.save. It returns nil if the key is not there.
func (o object) declaredSave() *DeclaredSave {
	v, ok := o.values["save"]
	if !ok {
		return nil
	}
	s := v.object(saveKeys.names()...)
	save := &DeclaredSave{Line: v.node.Line + v.r.offset}
	if save.KeyExpression = s.valueExpression("key"); save.KeyExpression == nil {
		save.Key = s.template("key")
	}
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
			save.Expressions = s.valueExpressions(op, save.Fields)
		} else if !s.flag(op) && operation.node.Kind == yaml.ScalarNode {
			operation.mistake("is %s; it may only be true", quote(operation.node.Value))
		}
	}
	if save.Op == "" && v.node.Kind == yaml.MappingNode {
		v.mistake("does not say what to do: write one of %s", strings.Join(saveOps, ", "))
	}
	return save
}

// declaredLoad reads the mapping under option.load. It returns nil if the key is not there.
func (o object) declaredLoad() *DeclaredLoad {
	v, ok := o.values["load"]
	if !ok {
		return nil
	}
	l := v.object(loadKeys.names()...)
	load := &DeclaredLoad{Line: v.node.Line + v.r.offset}
	if load.KeyExpression = l.valueExpression("key"); load.KeyExpression == nil {
		load.Key = l.template("key")
	}
	if _, ok := l.require("set", "the row fields to set, as row field: field"); ok {
		load.Fields = l.fieldMap("set")
	}
	load.Types = l.loadTypes(load.Fields)
	return load
}

// loadTypes lists the types that option.load.types may give to fields.
var loadTypes = []string{string(LoadString), string(LoadInt), string(LoadFloat), string(LoadBool), string(LoadJSON)}

// loadTypes reads the mapping option.load.types. fields are the fields that option.load.set sets; a
// type for any other field is a mistake. It returns nil if the key is not there.
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

// template reads the template under a key, such as "{stu_id}". A missing key and a bad template are
// mistakes.
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

// fieldMap reads the mapping under a key, from names of fields to names of fields. An empty name and
// an empty mapping are mistakes.
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
