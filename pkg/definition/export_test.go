package definition

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestMarshal(t *testing.T) {
	key, err := ParseTemplate("{stu_id}")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		marshal func() (Document, error)
		path    string
		want    string
	}{
		{(&Flow{Name: "F", Enabled: true, ShardKey: "stu_id", Timeout: time.Minute, Functions: []FlowFunction{
			{Name: "A"}, {Name: "B", Params: map[string]string{"z": "1", "a": "on", "b": "<<", "c": "", "d": "\t\n", "=": "[", "~": "null"}},
		}}).Marshal, "flow/F", `kistype: flow
status: 1
flow_name: F
shard_key: stu_id
flows:
  - fname: A
  - fname: B
    params:
      =: '['
      a: "on"
      b: <<
      c: ""
      d: "\t\n"
      z: "1"
      "~": "null"
`},
		{(&Function{Name: "f", Mode: ModeCalculate}).Marshal, "func/f", "kistype: func\nfname: f\nfmode: Calculate\n"},
		{(&Function{
			Name: "f", Mode: ModeLoad, Timeout: time.Second, Source: Source{Name: "s", Must: []string{"stu_id"}}, Connector: "c", RetryTimes: 3,
			RetryInterval: 1500 * time.Millisecond, OnMissing: OnMissingNull, Wait: time.Minute, DefaultParams: map[string]string{"a": ""},
			Load: &DeclaredLoad{Key: key, Fields: map[string]string{"avg": "avg_score"}},
		}).Marshal, "func/f", `kistype: func
fname: f
fmode: Load
timeout: 1s
source:
  name: s
  must:
    - stu_id
option:
  cname: c
  retry_times: 3
  retry_duration: 1.5s
  on_missing: "null"
  wait: 1m0s
  default_params:
    a: ""
  load:
    key: '{stu_id}'
    set:
      avg: avg_score
`},
		{(&Function{Name: "f", Mode: ModeSave, Connector: "c", Save: &DeclaredSave{Key: key, Op: SaveDelete}}).Marshal, "func/f", `kistype: func
fname: f
fmode: Save
option:
  cname: c
  save:
    key: '{stu_id}'
    delete: true
`},
		{(&Connector{Name: "c", Type: "redis", Addrs: []string{"a:1", "${B:b,2}"}, Key: "k", Replicas: 1, TLS: true, Params: map[string]string{"p": "${P}"}}).Marshal, "conn/c", `kistype: conn
cname: c
type: redis
addrs: a:1,${B:b,2}
key: k
tls: true
replicas: 1
params:
  p: ${P}
`},
		{(&Global{PrometheusEnable: true, PrometheusServe: ":20004"}).Marshal, "global/", `kistype: global
prometheus_enable: true
prometheus_serve: :20004
`},
	} {
		d, err := tt.marshal()
		if err != nil {
			t.Error(err)
			continue
		}
		if got := string(d.Kind) + "/" + d.Name; got != tt.path {
			t.Errorf("marshalled as %s, want %s", got, tt.path)
		}
		if string(d.YAML) != tt.want {
			t.Errorf("got\n%s\nwant\n%s", d.YAML, tt.want)
		}
	}
}

func TestMarshalMistakes(t *testing.T) {
	_, err := (&Flow{Name: "a/b", Copies: -1}).Marshal()
	wantText(t, err, `BAD_DOCUMENT: document:3: flow_name: is "a/b"; a name can't have a /
document:4: copies: is -1; it may be 1 to 65536
document:5: flows: has no function: name at least one`)
	_, err = (&Function{Mode: ModeVerify, Wait: time.Second}).Marshal()
	wantText(t, err, `BAD_DOCUMENT: document:2: fname: is empty: write a name
document:5: option.wait: is for functions of fmode Load; this one is Verify`)
	_, err = (&Connector{Name: "c\xff", Type: "redis", Addrs: []string{"a"}}).Marshal()
	wantText(t, err, "BAD_DOCUMENT: document:2: cname: wants a text, not one tagged !!binary")
}

func TestExportDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	docs := students()
	for i := range docs {
		docs[i].YAML = append([]byte("# as written\n"), docs[i].YAML...)
	}
	docs = append(docs, Document{Kind: KindGlobal, YAML: []byte("kistype: global")})
	if err := ExportDir(dir, docs); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := "conn-Cache.yaml conn-Spare.yaml flow-Avg.yaml func-Save.yaml func-Spare.yaml func-Verify.yaml global.yaml"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("files %s, want %s", got, want)
	}
	_, again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if changes := Diff(docs, again); len(changes) != 0 {
		t.Errorf("an import of the export differs: %v", changes)
	}

	err = ExportDir(dir, []Document{{Kind: KindFlow, Name: "../flow"}, {Kind: "pod", Name: "p"}, {Kind: KindFlow, Name: "kept", YAML: []byte("a")}})
	wantText(t, err, `BAD_DOCUMENT: exporting flow/../flow: no kind "flow" with a name "../flow": parse the document first
BAD_DOCUMENT: exporting pod/p: no kind "pod" with a name "p": parse the document first`)
	if _, err := os.Stat(filepath.Join(dir, "flow-kept.yaml")); err != nil {
		t.Error("one bad document kept another from being written:", err)
	}
	if err := ExportDir(filepath.Join(dir, "global.yaml"), docs); err == nil || batch.CodeOf(err) != batch.CodeInternal {
		t.Errorf("exporting into a file: %v", err)
	}
}

// TestRoundTrip builds sets in code, exports and imports them.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		want := drawSet(t)
		var docs []Document
		for _, marshal := range want.marshallers() {
			d, err := marshal()
			if err != nil {
				t.Fatalf("%v\n%s", err, d.YAML)
			}
			docs = append(docs, d)
		}
		n++
		dir := filepath.Join(dir, fmt.Sprint(n))
		if err := ExportDir(dir, docs); err != nil {
			t.Fatal(err)
		}
		got, again, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		ignore := cmp.Options{
			cmpopts.IgnoreTypes(Document{}), cmpopts.IgnoreUnexported(Set{}), cmpopts.IgnoreFields(FlowFunction{}, "Line"),
			cmpopts.IgnoreFields(Function{}, "ConnectorLine"), cmpopts.IgnoreFields(DeclaredSave{}, "Line"),
			cmpopts.IgnoreFields(DeclaredLoad{}, "Line"), cmpopts.EquateEmpty(),
		}
		if diff := cmp.Diff(want, got, ignore); diff != "" {
			t.Fatalf("what was built and what was loaded differ: %s", diff)
		}
		if changes := Diff(docs, again); len(changes) != 0 {
			t.Fatalf("what was written and what was loaded differ: %v", changes)
		}
	})
}

func (s *Set) marshallers() (m []func() (Document, error)) {
	for _, f := range s.Flows {
		m = append(m, f.Marshal)
	}
	for _, f := range s.Functions {
		m = append(m, f.Marshal)
	}
	for _, c := range s.Connectors {
		m = append(m, c.Marshal)
	}
	if s.Global != nil {
		m = append(m, s.Global.Marshal)
	}
	return m
}

// drawSet draws a set as Parse would give it: references fit, and defaults are filled in.
func drawSet(t *rapid.T) *Set {
	text := rapid.String()
	name := rapid.StringMatching(`[^/\x00-\x1f\x7f-\x9f]{1,12}`)
	key := text.Filter(func(s string) bool { return s != "<<" }) // which YAML takes for a merge, quoted or not
	params := rapid.MapOfN(key, text, 0, 3)
	texts := rapid.SliceOfN(text, 0, 3)
	field := rapid.StringMatching(`[a-zA-Z0-9!#$%&()*+./:;<=>?@\[\]^_|~ 学号-]{1,8}`)
	value := field.Filter(func(s string) bool { return !strings.HasPrefix(s, "=") }) // which is an expression
	fields := rapid.MapOfN(field, value, 1, 3)
	duration := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64Range(1, 1<<62).Draw(t, "ns")) })
	reference := rapid.Custom(func(t *rapid.T) string { // a text that may have ${NAME}
		literal := text.Filter(func(s string) bool { return !strings.Contains(s, "${") }).Draw(t, "text")
		return literal + rapid.SampledFrom([]string{"", "${A}", "${A_1:b, c}x", "$${"}).Draw(t, "reference")
	})
	template := rapid.Custom(func(t *rapid.T) Template {
		literal := strings.NewReplacer("{", "{{", "}", "}}").Replace(text.Filter(func(s string) bool { return !strings.HasPrefix(s, "=") }).Draw(t, "literal")) // = would begin an expression
		k, err := ParseTemplate(literal + "{" + field.Draw(t, "field") + "}")
		if err != nil {
			t.Fatal(err)
		}
		return k
	})

	s := &Set{Flows: map[string]*Flow{}, Functions: map[string]*Function{}, Connectors: map[string]*Connector{}}
	for _, n := range rapid.SliceOfNDistinct(name, 1, 3, rapid.ID).Draw(t, "connectors") {
		s.Connectors[n] = &Connector{
			Name: n, Type: rapid.SampledFrom(connectorTypes).Draw(t, "type"), Key: reference.Draw(t, "key"),
			Addrs:  rapid.SliceOfN(rapid.SampledFrom([]string{"a:1", "${ADDRS:a:1, b:2}", "redis://x/0?a=b"}), 1, 3).Draw(t, "addrs"),
			Params: rapid.MapOfN(key, reference, 0, 3).Draw(t, "params"), Load: texts.Draw(t, "load"), Save: texts.Draw(t, "save"),
			TLS: rapid.Bool().Draw(t, "tls"), Username: reference.Draw(t, "username"), PasswordFile: reference.Draw(t, "password_file"),
			Replicas: rapid.IntRange(0, 9).Draw(t, "replicas"), Flows: rapid.SampledFrom([][]string{nil, {"*"}, {"Pay", "*"}}).Draw(t, "for flows"),
		}
	}
	connector := rapid.SampledFrom(slices.Sorted(maps.Keys(s.Connectors)))
	for _, n := range rapid.SliceOfNDistinct(name, 1, 3, rapid.ID).Draw(t, "functions") {
		f := &Function{
			Name: n, Mode: Mode(rapid.SampledFrom(modes).Draw(t, "mode")), Source: Source{Name: text.Draw(t, "source"), Must: texts.Draw(t, "must")},
			Timeout: duration.Draw(t, "timeout"), RetryTimes: rapid.IntRange(0, 1000).Draw(t, "retries"),
			RetryInterval: duration.Draw(t, "interval"), DefaultParams: params.Draw(t, "params"), OnMissing: OnMissingWait, Wait: DefaultWait,
		}
		if declared := rapid.Bool().Draw(t, "declared"); declared || rapid.Bool().Draw(t, "connected") {
			f.Connector = connector.Draw(t, "connector")
			if declared && f.Mode == ModeLoad {
				f.Load = &DeclaredLoad{Key: template.Draw(t, "key"), Fields: fields.Draw(t, "fields"), Types: map[string]LoadType{}}
				for _, field := range sortedKeys(f.Load.Fields) {
					if rapid.Bool().Draw(t, "typed") {
						f.Load.Types[field] = LoadType(rapid.SampledFrom(loadTypes).Draw(t, "type"))
					}
				}
			} else if declared && f.Mode == ModeSave {
				f.Save = &DeclaredSave{Key: template.Draw(t, "key"), Op: SaveOp(rapid.SampledFrom(saveOps).Draw(t, "op"))}
				if f.Save.Op != SaveDelete {
					f.Save.Fields = fields.Draw(t, "fields")
				}
			}
		}
		if f.Mode == ModeLoad {
			f.Wait = duration.Draw(t, "wait")
			f.OnMissing = rapid.SampledFrom([]OnMissing{OnMissingWait, OnMissingDead, OnMissingNull}).Draw(t, "on_missing")
		}
		s.Functions[n] = f
	}
	step := rapid.Custom(func(t *rapid.T) FlowFunction {
		return FlowFunction{Name: rapid.SampledFrom(slices.Sorted(maps.Keys(s.Functions))).Draw(t, "fname"), Params: params.Draw(t, "params")}
	})
	for _, n := range rapid.SliceOfNDistinct(name, 0, 3, rapid.ID).Draw(t, "flows") {
		s.Flows[n] = &Flow{
			Name: n, Enabled: rapid.Bool().Draw(t, "enabled"), Functions: rapid.SliceOfN(step, 1, 4).Draw(t, "steps"),
			ShardKey: rapid.OneOf(rapid.Just(""), field).Draw(t, "shard_key"), Copies: rapid.IntRange(0, MaxCopies).Draw(t, "copies"),
			Timeout: duration.Draw(t, "timeout"),
		}
	}
	if rapid.Bool().Draw(t, "global") {
		s.Global = &Global{PrometheusEnable: rapid.Bool().Draw(t, "enable"), PrometheusListen: rapid.Bool().Draw(t, "listen"), PrometheusServe: text.Draw(t, "serve")}
	}
	return s
}
