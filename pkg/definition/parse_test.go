package definition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// mustParse parses YAML and takes the document out of what comes of it.
func mustParse(t *testing.T, yaml string) Parsed {
	t.Helper()
	p, err := Parse(Document{YAML: []byte(yaml)})
	if err != nil {
		t.Fatal(err)
	}
	return p.bare()
}

// bare is p without what is of the document rather than of what it says.
func (p Parsed) bare() Parsed {
	switch {
	case p.Flow != nil:
		f := *p.Flow
		f.Document = Document{}
		p.Flow = &f
	case p.Function != nil:
		f := *p.Function
		f.Document = Document{}
		p.Function = &f
	case p.Connector != nil:
		c := *p.Connector
		c.Document = Document{}
		p.Connector = &c
	case p.Global != nil:
		g := *p.Global
		g.Document = Document{}
		p.Global = &g
	}
	return p
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		yaml string
		want Parsed
	}{
		{"KisFlow's flow", `
kistype: flow
status: 1
flow_name: CalStuAvgScore
flows:
  - fname: VerifyStu
  - fname: AvgStuScore
    params:
      school: TsingHua1
      grade: 7
      best: true
      none:
`, Parsed{Flow: &Flow{
			Name: "CalStuAvgScore", Enabled: true, Timeout: time.Minute,
			Functions: []FlowFunction{
				{Name: "VerifyStu", Line: 6},
				{Name: "AvgStuScore", Params: map[string]string{"school": "TsingHua1", "grade": "7", "best": "true", "none": ""}, Line: 7},
			},
		}}},
		{"a flow with all keys", `
kistype: flow
status: 0
flow_name: 学生
shard_key: stu_id
copies: 4
timeout: 1m30s
flows: [{fname: A, params: {}}, {fname: A}]
`, Parsed{Flow: &Flow{
			Name: "学生", ShardKey: "stu_id", Copies: 4, Timeout: 90 * time.Second,
			Functions: []FlowFunction{{Name: "A", Line: 8}, {Name: "A", Line: 8}},
		}}},
		{"a flow that says nothing of its status is off, as in KisFlow", "kistype: flow\nflow_name: f\nflows: [fname: A]",
			Parsed{Flow: &Flow{Name: "f", Timeout: time.Minute, Functions: []FlowFunction{{Name: "A", Line: 3}}}}},

		{"KisFlow's function", `
kistype: func
fname: AvgStuScore
fmode: Calculate
source:
  name: StuScore
  must:
    - stu_id
    - 12
option:
  cname: Score
  retry_times: 3
  return_duration: 500
  default_params:
    default1: v1
`, Parsed{Function: &Function{
			Name: "AvgStuScore", Mode: ModeCalculate, Source: Source{Name: "StuScore", Must: []string{"stu_id", "12"}},
			Connector: "Score", ConnectorLine: 11, RetryTimes: 3, RetryInterval: 500 * time.Millisecond,
			DefaultParams: map[string]string{"default1": "v1"},
			Timeout:       30 * time.Second, OnMissing: OnMissingWait, Wait: 30 * time.Second,
		}}},
		{"a function without options", "kistype: func\nfname: f\nfmode: Verify\nsource:\noption: ~\n",
			Parsed{Function: &Function{Name: "f", Mode: ModeVerify, Timeout: 30 * time.Second, OnMissing: OnMissingWait, Wait: 30 * time.Second}}},
		{"a declared Load", `
kistype: func
fname: load
fmode: Load
timeout: 5s
option:
  cname: Score
  retry_duration: 1.5s
  on_missing: null
  wait: 2m
  load:
    key: "{school}/{{{stu_id}}}"
    set: {avg_score_1_2: avg_score}
`, Parsed{Function: &Function{
			Name: "load", Mode: ModeLoad, Timeout: 5 * time.Second, Connector: "Score", ConnectorLine: 7,
			RetryInterval: 1500 * time.Millisecond, OnMissing: OnMissingNull, Wait: 2 * time.Minute,
			Load: &DeclaredLoad{
				Key: Template{Text: "{school}/{{{stu_id}}}", Parts: []TemplatePart{
					{Field: "school"}, {Literal: "/{"}, {Field: "stu_id"}, {Literal: "}"},
				}},
				Fields: map[string]string{"avg_score_1_2": "avg_score"}, Line: 12,
			},
		}}},
		{"a declared Save", `
kistype: func
fname: save
fmode: Save
option: {cname: Score, retry_duration: 20, save: {key: total, incr: {n: score}}}
`, Parsed{Function: &Function{
			Name: "save", Mode: ModeSave, Timeout: 30 * time.Second, Connector: "Score", ConnectorLine: 5,
			RetryInterval: 20 * time.Millisecond, OnMissing: OnMissingWait, Wait: 30 * time.Second,
			Save: &DeclaredSave{
				Key: Template{Text: "total", Parts: []TemplatePart{{Literal: "total"}}},
				Op:  SaveIncr, Fields: map[string]string{"n": "score"}, Line: 5,
			},
		}}},
		{"a declared Save that deletes", `
kistype: func
fname: save
fmode: Save
option: {cname: Score, save: {key: "{id}", delete: true}}
`, Parsed{Function: &Function{
			Name: "save", Mode: ModeSave, Timeout: 30 * time.Second, Connector: "Score", ConnectorLine: 5,
			OnMissing: OnMissingWait, Wait: 30 * time.Second,
			Save: &DeclaredSave{Key: Template{Text: "{id}", Parts: []TemplatePart{{Field: "id"}}}, Op: SaveDelete, Line: 5},
		}}},

		{"KisFlow's connector", `
kistype: conn
cname: ConnName1
addrs: '0.0.0.0:9988, 0.0.0.0:9999,0.0.0.0:9990'
type: redis
key: redis-key
params:
  args1: value1
  args2: 2
load: null
save:
  - 测试KisFunction-V1
`, Parsed{Connector: &Connector{
			Name: "ConnName1", Type: "redis", Key: "redis-key", Addrs: []string{"0.0.0.0:9988", "0.0.0.0:9999", "0.0.0.0:9990"},
			Params: map[string]string{"args1": "value1", "args2": "2"}, Save: []string{"测试KisFunction-V1"},
		}}},
		{"a connector with all keys", `
kistype: conn
cname: c
type: memory
addrs: "${ADDRS:a:1,b:2},c:3"
tls: true
username: ${USER}
password_file: /run/secrets/redis
replicas: 2
load: [f]
`, Parsed{Connector: &Connector{
			Name: "c", Type: "memory", Addrs: []string{"${ADDRS:a:1,b:2}", "c:3"}, TLS: true, Username: "${USER}",
			PasswordFile: "/run/secrets/redis", Replicas: 2, Load: []string{"f"},
		}}},
		{"KisFlow's global settings", "kistype: global\nprometheus_enable: true\nprometheus_listen: yes\nprometheus_serve: 0.0.0.0:20004\n",
			Parsed{Global: &Global{PrometheusEnable: true, PrometheusListen: true, PrometheusServe: "0.0.0.0:20004"}}},
		{"aliases", "kistype: flow\nflow_name: f\nflows:\n- {fname: A, params: &p {a: &x 1}}\n- {fname: B, params: *p}\n- {fname: C, params: {c: *x}}\n",
			Parsed{Flow: &Flow{Name: "f", Timeout: time.Minute, Functions: []FlowFunction{
				{Name: "A", Params: map[string]string{"a": "1"}, Line: 4},
				{Name: "B", Params: map[string]string{"a": "1"}, Line: 5},
				{Name: "C", Params: map[string]string{"c": "1"}, Line: 6},
			}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mustParse(t, tt.yaml)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseKeepsTheDocument(t *testing.T) {
	d := Document{YAML: []byte("kistype: conn\ncname: c\ntype: memory"), Revision: 7, Path: "/kisgrid/config/conn/c", Line: 3}
	p, err := Parse(d)
	if err != nil {
		t.Fatal(err)
	}
	d.Kind, d.Name = KindConn, "c"
	if diff := cmp.Diff(d, p.Document()); diff != "" {
		t.Error(diff)
	}
	if got := (Parsed{}).Document(); got.String() != "document" {
		t.Errorf("the document of nothing is %q", got)
	}
}

func TestLineOf(t *testing.T) {
	d := Document{Line: 10, YAML: []byte("# a comment\nkistype: func\noption: &o\n  save: {key: a,\n    set: {x: y}}\nagain: *o\nlist: [a, b]\n")}
	for key, want := range map[string]int{
		"kistype": 11, "option": 12, "option.save": 13, "option.save.key": 13, "option.save.set.x": 14, "again.save.set": 14,
		"fmode": 0, "option.load": 0, "kistype.func": 0, "list.a": 0, "": 0,
	} {
		if got := d.LineOf(key); got != want {
			t.Errorf("%q is on line %d, want %d", key, got, want)
		}
	}
	if got := (Document{YAML: []byte("a: [")}).LineOf("a"); got != 0 {
		t.Errorf("a key of what is no YAML is on line %d", got)
	}
}

func TestParseMistakes(t *testing.T) {
	const (
		flow    = "kistype: flow\nflow_name: f\nstatus: 1\nflows: [fname: A]\n" // 4 lines
		fn      = "kistype: func\nfname: f\nfmode: Calculate\n"                 // 3 lines
		load    = "kistype: func\nfname: f\nfmode: Load\n"
		save    = "kistype: func\nfname: f\nfmode: Save\n"
		conn    = "kistype: conn\ncname: c\ntype: redis\naddrs: a:1\n" // 4 lines
		orBlock = " into single quotes, or write it as a block: | here, and the value on the next line"
	)
	for _, tt := range []struct {
		yaml string
		want string // one line for each mistake
	}{
		// No document at all.
		{"", "x.yml: is empty: write a document that starts with kistype"},
		{"# nothing\n---\n", "x.yml: is empty: write a document that starts with kistype"},
		{"kistype: flow\n  flow_name: f\n", "x.yml:2: is not YAML: mapping values are not allowed in this context"},
		{"a: \"b", "x.yml:1: is not YAML: found unexpected end of stream"},
		{"a: [\n", "x.yml:2: is not YAML: did not find expected node content"},
		{"kistype: flow\nflow_name: f\nflows:\n  - fname: A\n status: 1\n", "x.yml:5: is not YAML: did not find expected key"},
		{"kistype: flow\nflow_name f\nstatus: 1\n", "x.yml:2: is not YAML: could not find expected ':'"},
		{"kistype: flow\n\tflow_name: f\n", "x.yml:2: is not YAML: found a tab character that violates indentation"},
		{"a: {b: c ? d : e}\n", "x.yml:1: is not YAML: did not find expected ',' or '}'; within { } and [ ], put a value with any of , : ? [ ] { } # into quotes, or write each key on a line of its own"},
		{"a:\n  b: {c: [int]?}\n", "x.yml:2: is not YAML: did not find expected ',' or '}'; within { } and [ ], put a value with any of , : ? [ ] { } # into quotes, or write each key on a line of its own"},
		{"a: {b: !c}\n", "x.yml:1: is not YAML: did not find expected whitespace or line break; YAML takes ! at the beginning of a value for a tag: write not, or put the value" + orBlock},
		{"a: b == \"c: d\"\n", `x.yml:1: is not YAML: mapping values are not allowed in this context; YAML takes ": " for the end of a key: put the value` + orBlock},
		{"a: b ? c : d\n", `x.yml:1: is not YAML: mapping values are not allowed in this context; YAML takes ": " for the end of a key: put the value` + orBlock},
		{"a: @b\n", "x.yml:1: is not YAML: found character that cannot start any token; YAML has no value that begins with @: put the value" + orBlock},
		{"a: `b` == c\n", "x.yml:1: is not YAML: found character that cannot start any token; YAML has no value that begins with `: put the value" + orBlock},
		{"k: 1\na: \"b\" + c\n", `x.yml:2: is not YAML: did not find expected key; YAML takes a value that begins with " to end with its counterpart: put the whole value` + orBlock},
		{"a: [b][0]\n", "x.yml:1: is not YAML: did not find expected key; YAML takes a value that begins with [ to end with its counterpart: put the whole value" + orBlock},
		{"a: > 5\n", "x.yml:1: is not YAML: did not find expected comment or line break; YAML takes > and | at the beginning of a value for a block: put the value into single quotes"},
		{fn + "source: {name: s, fields: {a: int?, b: strin?}}\noption: {calculate: {a: a?.b}}\n", "x.yml:4: source.fields.b: \"strin\" is not a type; did you mean string?: write int, float, string, bool, time, duration, any, [T], {name: T}, or T? for a value that may be null or missing"},
		{"kistype: func\nfname: f\nfmode: Verify\noption:\n  verify: !done && x\n", "x.yml:5: is not YAML: did not find expected alphabetic or numeric character; YAML takes ! at the beginning of a value for a tag: write not, or put the value" + orBlock},
		{"kistype: func\nfname: f\nfmode: Verify\noption:\n  verify: !done\n", `x.yml:5: option.verify: begins with "!done", which YAML takes for a tag: write not in place of !, or put the expression into single quotes`},
		{"kistype: func\nfname: f\nfmode: Verify\noption:\n  verify: a == \"b #c\"\n", "x.yml:5:16: option.verify: this text has no end on its line: write a \" behind it, and \\n for a line break within; YAML takes the # behind it for the beginning of a comment: if it is a part of the expression, put that into single quotes\n    a == \"b\n         ^^"},
		{"*a\n", "x.yml: is not YAML: unknown anchor 'a' referenced"},
		{"\xff\xfe", "x.yml: is not UTF-8: save it as UTF-8"},
		{strings.Repeat("#", MaxBytes+1), "x.yml: has 1048577 bytes, over the limit of 1048576 bytes for a flow's documents together"},
		{conn + "---\n" + conn, "x.yml:5: is a second document: store each one on its own"},
		{conn + "---\n}", "x.yml:6: is not YAML: did not find expected node content"},
		{"- kistype\n", "x.yml:1: wants keys with values, not a list"},
		{"flow", `x.yml:1: wants keys with values, not "flow"`},

		// kistype.
		{"flow_name: f\n", "x.yml:1: kistype: is missing: write one of flow, func, conn, global"},
		{"kistype:\nflow_name: f\n", "x.yml:1: kistype: is missing: write one of flow, func, conn, global"},
		{"kistype: flwo\n", `x.yml:1: kistype: is "flwo"; it may be flow, func, conn, global; did you mean "flow"?`},
		{"kistype: [flow]\n", "x.yml:1: kistype: wants a text, not a list"},

		// Keys.
		{flow + "flow_nam: g\n", `x.yml:5: flow_nam: is not a key here; the keys are kistype, status, flow_name, flows, shard_key, copies, timeout; did you mean "flow_name"?`},
		{flow + "on: 1\n", "x.yml:5: on: is not a key here; the keys are kistype, status, flow_name, flows, shard_key, copies, timeout"},
		{flow + "status: 0\n", "x.yml:5: status: is written twice, first on line 3"},
		{flow + "<<: {copies: 1}\n", "x.yml:5: has the merge key <<, which definitions do not have: write the keys out"},
		{flow + "[a]: 1\n", "x.yml:5: has a list for a key"},
		{flow + "!!int a: 1\n", `x.yml:5: has "a" for a key`},
		{flow + "!!binary aGk=: 1\n", `x.yml:5: has "aGk=" for a key`},
		{flow + "~: 1\n", "x.yml:5: has nothing for a key"},
		{fn + "option: {default_params: {a: 1, 'a': 2}}\n", "x.yml:4: option.default_params.a: is written twice, first on line 4"},

		// Flows.
		{"kistype: flow\n", "x.yml:1: flow_name: is missing: write the flow's name\nx.yml:1: flows: is missing: write the functions that rows pass through"},
		{"kistype: flow\nflow_name: ''\nflows: []\n", "x.yml:2: flow_name: is empty: write a name\nx.yml:3: flows: has no function: name at least one"},
		{"kistype: flow\nflow_name: a/b\nflows: [fname: A]\n", `x.yml:2: flow_name: is "a/b"; a name can't have a /`},
		{"kistype: flow\nflow_name: \"a\\tb\"\nflows: [fname: A]\n", `x.yml:2: flow_name: is "a\tb"; a name can't have control characters`},
		{"kistype: flow\nflow_name: " + strings.Repeat("n", 254) + "\nflows: [fname: A]\n", "x.yml:2: flow_name: has 254 bytes; a name has at most 253"},
		{"kistype: flow\nflow_name: f\nstatus: 2\nflows: [fname: A]\n", "x.yml:3: status: is 2; it may be 0 to 1"},
		{"kistype: flow\nflow_name: f\nstatus: on\nflows: [fname: A]\n", `x.yml:3: status: wants a whole number, not "on"`},
		{"kistype: flow\nflow_name: f\nstatus: '1'\nflows: [fname: A]\n", `x.yml:3: status: wants a whole number, not "1"`},
		{"kistype: flow\nflow_name: f\nflows: A\n", `x.yml:3: flows: wants a list, not "A"`},
		{"kistype: flow\nflow_name: f\nflows: [A, {fname: B, param: {}}, {params: {}}, ~]\n", `x.yml:3: flows[0]: wants keys with values, not "A"
x.yml:3: flows[1].param: is not a key here; the keys are fname, params; did you mean "params"?
x.yml:3: flows[2].fname: is missing: write the function's name
x.yml:3: flows[3]: wants keys with values, not nothing`},
		{"kistype: flow\nflow_name: f\nflows: [{fname: A, params: [a]}]\n", "x.yml:3: flows[0].params: wants keys with values, not a list"},
		{"kistype: flow\nflow_name: f\nflows: [{fname: A, params: {a: {b: c}}}]\n", "x.yml:3: flows[0].params.a: wants a text, not keys with values"},
		{flow + "shard_key: 'a,b'\n", `x.yml:5: shard_key: is "a,b", which can't be the name of a JSON field; a batch goes whole without the key`},
		{flow + "shard_key: ''\n", `x.yml:5: shard_key: is "", which can't be the name of a JSON field; a batch goes whole without the key`},
		{flow + "copies: 0\n", "x.yml:5: copies: is 0; it may be 1 to 65536"},
		{flow + "copies: 65537\n", "x.yml:5: copies: is 65537; it may be 1 to 65536"},
		{flow + "copies: 1.5\n", `x.yml:5: copies: wants a whole number, not "1.5"`},
		{flow + "copies: 99999999999999999999\n", `x.yml:5: copies: wants a whole number, not "99999999999999999999"`},
		{flow + "timeout: 30\n", `x.yml:5: timeout: is "30", without a unit: write a duration such as 30s or 500ms`},
		{flow + "timeout: 1 minute\n", `x.yml:5: timeout: is "1 minute", which is not a duration: write one such as 30s or 1m30s`},
		{flow + "timeout: 0s\n", "x.yml:5: timeout: is 0s; it must be over 0"},
		{flow + "timeout: -1s\n", "x.yml:5: timeout: is -1s; it must be over 0"},
		{flow + "timeout: [1s]\n", "x.yml:5: timeout: wants a duration such as 30s, not a list"},

		// Functions.
		{"kistype: func\n", "x.yml:1: fname: is missing: write the function's name\nx.yml:1: fmode: is missing: write one of Verify, Save, Load, Calculate, Expand"},
		{"kistype: func\nfname: f\nfmode: calculate\n", `x.yml:3: fmode: is "calculate"; it may be Verify, Save, Load, Calculate, Expand; did you mean "Calculate"?`},
		{fn + "source: StuScore\n", `x.yml:4: source: wants keys with values, not "StuScore"`},
		{fn + "source: {must: stu_id}\n", `x.yml:4: source.must: wants a list, not "stu_id"`},
		{fn + "source: {must: [a, ~, [b]]}\n", "x.yml:4: source.must[1]: is empty: write a text, or take the entry out\nx.yml:4: source.must[2]: wants a text, not a list"},
		{fn + "retry_times: 3\n", "x.yml:4: retry_times: is not a key here; the keys are kistype, fname, fmode, source, option, timeout; it belongs under option"},
		{fn + "option: {cname: ''}\n", "x.yml:4: option.cname: is empty: write a name"},
		{fn + "option: {retry_times: -1}\n", "x.yml:4: option.retry_times: is -1; it may be 0 to 2147483647"},
		{fn + "option: {return_duration: 5s}\n", `x.yml:4: option.return_duration: wants a whole number, not "5s"`},
		{fn + "option: {retry_duration: 1.5}\n", `x.yml:4: option.retry_duration: is "1.5", without a unit: write a duration such as 30s or 500ms`},
		{fn + "option: {retry_duration: -5s}\n", "x.yml:4: option.retry_duration: is -5s; it can't be below 0"},
		{fn + "option: {retry_duration: -5}\n", "x.yml:4: option.retry_duration: is -5; it may be 0 to 9223372036854"},
		{fn + "option: {retry_duration: 5, return_duration: 5}\n", "x.yml:4: option.retry_duration: says the same as return_duration: take one of them out"},
		{fn + "option: {default_parms: {}}\n", `x.yml:4: option.default_parms: is not a key here; the keys are cname, retry_times, retry_duration, return_duration, default_params, on_missing, wait, save, load, verify, reason, calculate, keep, expand; did you mean "default_params"?`},
		{fn + "option: {on_missing: dead}\n", "x.yml:4: option.on_missing: is for functions of fmode Load; this one is Calculate"},
		{fn + "option: {wait: 1s}\n", "x.yml:4: option.wait: is for functions of fmode Load; this one is Calculate"},
		{load + "option: {on_missing: ded}\n", `x.yml:4: option.on_missing: is "ded"; it may be wait, dead, null; did you mean "dead"?`},

		// Declared Save and Load.
		{load + "option: {save: {key: a, delete: true}}\n", "x.yml:4: option.save: is for functions of fmode Save; this one is Load\nx.yml:4: option.save: needs a connector: write option.cname"},
		{save + "option: {cname: c, load: {key: a, set: {a: b}}}\n", "x.yml:4: option.load: is for functions of fmode Load; this one is Save"},
		{save + "option: {cname: c, save: {}}\n", "x.yml:4: option.save.key: is missing: write a key such as \"{stu_id}\"\nx.yml:4: option.save: does not say what to do: write one of set, incr, append, delete"},
		{save + "option: {cname: c, save: }\n", ""},
		{save + "option: {cname: c, save: a}\n", `x.yml:4: option.save: wants keys with values, not "a"`},
		{save + "option:\n  cname: c\n  save:\n    key: a\n    set: {a: b}\n    delete: true\n", "x.yml:9: option.save.delete: comes beside set: a declared Save does one of set, incr, append, delete"},
		{save + "option: {cname: c, save: {key: a, delete: false}}\n", `x.yml:4: option.save.delete: is "false"; it may only be true`},
		{save + "option: {cname: c, save: {key: a, delete: [a]}}\n", "x.yml:4: option.save.delete: wants true or false, not a list"},
		{save + "option: {cname: c, save: {key: a, append: {}}}\n", "x.yml:4: option.save.append: names no field: write at least one"},
		{save + "option: {cname: c, save: {key: a, set: {a: ''}}}\n", `x.yml:4: option.save.set: has "a": ""; both must be names of fields`},
		{save + "option: {cname: c, save: {key: '', set: {a: b}}}\n", "x.yml:4: option.save.key: is empty: write a key such as {stu_id}"},
		{save + "option: {cname: c, save: {key: '{a', set: {a: b}}}\n", "x.yml:4: option.save.key: has a { without its }: a literal brace is written twice"},
		{save + "option: {cname: c, save: {key: 'a}', set: {a: b}}}\n", "x.yml:4: option.save.key: has a } without its {: a literal brace is written twice"},
		{save + "option: {cname: c, save: {key: '{}', set: {a: b}}}\n", `x.yml:4: option.save.key: names the field "", which can't be the name of a JSON field`},
		{load + "option: {cname: c, load: {key: a}}\n", "x.yml:4: option.load.set: is missing: write the row fields to set, as row field: field"},
		{load + "option: {cname: c, load: {key: a, set: {a: b}, incr: {a: b}}}\n", "x.yml:4: option.load.incr: is not a key here; the keys are key, set, types"},

		// Connectors.
		{"kistype: conn\n", `x.yml:1: cname: is missing: write the connector's name
x.yml:1: type: is missing: write one of redis, memory, mysql, kafka, tidb, es
x.yml:1: addrs: is missing: write the store's addresses, separated by commas`},
		{"kistype: conn\ncname: c\ntype: redi\naddrs: ' , '\n", `x.yml:3: type: is "redi"; it may be redis, memory, mysql, kafka, tidb, es; did you mean "redis"?
x.yml:4: addrs: has no address: write at least one`},
		{conn + "tls: maybe\n", `x.yml:5: tls: wants true or false, not "maybe"`},
		{conn + "replicas: two\n", `x.yml:5: replicas: wants a whole number, not "two"`},
		{conn + "load: {a: b}\n", "x.yml:5: load: wants a list, not keys with values"},
		{conn + "username: ${USER\n", "x.yml:5: username: has a ${ without its }: a literal ${ is written $${"},
		{conn + "params: {password: 'a${}'}\n", "x.yml:5: params.password: has ${}, which names no variable: write ${NAME} or ${NAME:default}; a literal ${ is written $${"},
		{conn + "key: ${1A}\n", "x.yml:5: key: has ${1A}, which names no variable: write ${NAME} or ${NAME:default}; a literal ${ is written $${"},
		{conn + "key: !!binary aGk=\n", "x.yml:5: key: wants a text, not one tagged !!binary"},
		{conn + "key: !!int abc\n", "x.yml:5: key: is not what its tag says: yaml: cannot decode !!str `abc` as a !!int"},

		// Global settings.
		{"kistype: global\nprometheus_enable: 1\nflow_name: f\n", `x.yml:2: prometheus_enable: wants true or false, not "1"
x.yml:3: flow_name: is not a key here; the keys are kistype, prometheus_enable, prometheus_listen, prometheus_serve`},
	} {
		_, err := Parse(Document{YAML: []byte(tt.yaml), Path: "x.yml"})
		got := ""
		if err != nil {
			if code := batch.CodeOf(err); code != batch.CodeBadDocument {
				t.Errorf("%s\ncode %v", tt.yaml, code)
			}
			got = strings.TrimPrefix(err.Error(), "BAD_DOCUMENT: ")
		}
		if got != tt.want {
			t.Errorf("%.300s\n got %s\nwant %s", tt.yaml, got, tt.want)
		}
	}
}

func TestParseOfAStoredDocument(t *testing.T) {
	d := Document{Kind: KindFlow, Name: "f", YAML: []byte("kistype: func\nfname: g\nfmode: Verify\n")}
	_, err := Parse(d)
	want := `BAD_DOCUMENT: flow/f:1: kistype: is func, but the document is stored as a flow: the two must be the same
flow/f:2: fname: is "g", but the document is stored as "f": the two must be the same`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}

	d = Document{Kind: KindConn, Name: "c", YAML: []byte("cname: c\ntype: radis\naddrs: a\n"), Path: "all.yml", Line: 11}
	_, err = Parse(d)
	want = `BAD_DOCUMENT: all.yml:11: kistype: is missing: write one of flow, func, conn, global
all.yml:12: type: is "radis"; it may be redis, memory, mysql, kafka, tidb, es; did you mean "redis"?`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var mistakes Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("%v has no Mistakes", err)
	}
	wanted := &Mistake{Document: "all.yml", Line: 11, Key: "kistype", Code: batch.CodeBadDocument, Problem: "is missing: write one of flow, func, conn, global"}
	if diff := cmp.Diff(wanted, mistakes[0]); diff != "" {
		t.Error(diff)
	}
}

// TestParseIsBounded has documents that stand for far more than they hold.
func TestParseIsBounded(t *testing.T) {
	var big strings.Builder
	big.WriteString("kistype: flow\nflow_name: f\nflows:\n- fname: A\n  params: &p\n")
	for i := range 1000 {
		fmt.Fprintf(&big, "    a%d: 1\n", i)
	}
	for range 2000 {
		big.WriteString("- {fname: A, params: *p}\n")
	}
	_, err := Parse(Document{YAML: []byte(big.String()), Path: "x.yml"})
	want := "BAD_DOCUMENT: x.yml: reads over 10000 values through aliases (*name): write them out, or take some away"
	if err == nil || err.Error() != want {
		t.Errorf("got %.300v, want %s", err, want)
	}
}
