package definition

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

// asYAML is every key there is, for the YAML library to decode by itself.
type asYAML struct {
	Kistype  string `yaml:"kistype"`
	Status   int    `yaml:"status"`
	FlowName string `yaml:"flow_name"`
	Flows    []struct {
		Fname  string            `yaml:"fname"`
		Params map[string]string `yaml:"params"`
	} `yaml:"flows"`
	ShardKey string        `yaml:"shard_key"`
	Copies   int           `yaml:"copies"`
	Timeout  time.Duration `yaml:"timeout"`

	Fname  string `yaml:"fname"`
	Fmode  string `yaml:"fmode"`
	Source struct {
		Name string   `yaml:"name"`
		Must []string `yaml:"must"`
	} `yaml:"source"`
	Option struct {
		Cname          string            `yaml:"cname"`
		RetryTimes     int               `yaml:"retry_times"`
		RetryDuration  yaml.Node         `yaml:"retry_duration"`
		ReturnDuration int64             `yaml:"return_duration"`
		DefaultParams  map[string]string `yaml:"default_params"`
		OnMissing      yaml.Node         `yaml:"on_missing"`
		Wait           time.Duration     `yaml:"wait"`
		Save           *struct {
			Key    string            `yaml:"key"`
			Set    map[string]string `yaml:"set"`
			Incr   map[string]string `yaml:"incr"`
			Append map[string]string `yaml:"append"`
			Delete bool              `yaml:"delete"`
		} `yaml:"save"`
		Load *struct {
			Key   string              `yaml:"key"`
			Set   map[string]string   `yaml:"set"`
			Types map[string]LoadType `yaml:"types"`
		} `yaml:"load"`
	} `yaml:"option"`

	Cname        string            `yaml:"cname"`
	Addrs        string            `yaml:"addrs"`
	Type         string            `yaml:"type"`
	Key          string            `yaml:"key"`
	Params       map[string]string `yaml:"params"`
	Load         []string          `yaml:"load"`
	Save         []string          `yaml:"save"`
	TLS          bool              `yaml:"tls"`
	Username     string            `yaml:"username"`
	PasswordFile string            `yaml:"password_file"`
	Replicas     int               `yaml:"replicas"`

	PrometheusEnable bool   `yaml:"prometheus_enable"`
	PrometheusListen bool   `yaml:"prometheus_listen"`
	PrometheusServe  string `yaml:"prometheus_serve"`
}

// parsed is what Parse must make of it. The lines are not the library's to tell.
func (y *asYAML) parsed(got Parsed) Parsed {
	var p Parsed
	switch Kind(y.Kistype) {
	case KindFlow:
		p.Flow = &Flow{Name: y.FlowName, Enabled: y.Status == 1, ShardKey: y.ShardKey, Copies: y.Copies, Timeout: y.Timeout}
		if y.Timeout == 0 {
			p.Flow.Timeout = DefaultFlowTimeout
		}
		for i, f := range y.Flows {
			p.Flow.Functions = append(p.Flow.Functions, FlowFunction{Name: f.Fname, Params: f.Params, Line: got.Flow.Functions[i].Line})
		}
	case KindFunc:
		o := &y.Option
		f := &Function{
			Name: y.Fname, Mode: Mode(y.Fmode), Source: Source{Name: y.Source.Name, Must: y.Source.Must}, Timeout: y.Timeout, Connector: o.Cname, ConnectorLine: got.Function.ConnectorLine,
			RetryTimes: o.RetryTimes, RetryInterval: time.Duration(o.ReturnDuration) * time.Millisecond, DefaultParams: o.DefaultParams,
			OnMissing: OnMissingWait, Wait: o.Wait,
		}
		if n := &o.OnMissing; !n.IsZero() {
			if n.Kind == yaml.AliasNode {
				n = n.Alias
			}
			if n.ShortTag() != "!!null" || n.Value == "null" {
				f.OnMissing = OnMissing(n.Value)
			}
		}
		if n := &o.RetryDuration; !n.IsZero() && n.ShortTag() != "!!null" {
			var milliseconds int64
			if n.Kind == yaml.AliasNode {
				n = n.Alias
			}
			if n.Decode(&f.RetryInterval) != nil || n.ShortTag() == "!!int" {
				_ = n.Decode(&milliseconds)
				f.RetryInterval = time.Duration(milliseconds) * time.Millisecond
			}
		}
		if f.Timeout == 0 {
			f.Timeout = DefaultFunctionTimeout
		}
		if f.Wait == 0 {
			f.Wait = DefaultWait
		}
		if s := o.Save; s != nil {
			key, _ := ParseTemplate(s.Key)
			f.Save = &DeclaredSave{Key: key, Line: got.Function.Save.Line}
			switch {
			case s.Set != nil:
				f.Save.Op, f.Save.Fields = SaveSet, s.Set
			case s.Incr != nil:
				f.Save.Op, f.Save.Fields = SaveIncr, s.Incr
			case s.Append != nil:
				f.Save.Op, f.Save.Fields = SaveAppend, s.Append
			case s.Delete:
				f.Save.Op = SaveDelete
			}
		}
		if l := o.Load; l != nil {
			key, _ := ParseTemplate(l.Key)
			f.Load = &DeclaredLoad{Key: key, Fields: l.Set, Types: l.Types, Line: got.Function.Load.Line}
		}
		p.Function = f
	case KindConn:
		p.Connector = &Connector{
			Name: y.Cname, Type: y.Type, Key: y.Key, Addrs: splitAddrs(y.Addrs), Params: y.Params, Load: y.Load, Save: y.Save,
			TLS: y.TLS, Username: y.Username, PasswordFile: y.PasswordFile, Replicas: y.Replicas,
		}
	case KindGlobal:
		p.Global = &Global{PrometheusEnable: y.PrometheusEnable, PrometheusListen: y.PrometheusListen, PrometheusServe: y.PrometheusServe}
	}
	return p
}

// FuzzParse: nothing panics, and what Parse accepts the YAML library accepts too, strictly, and reads the same from it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"kistype: flow\nstatus: 1\nflow_name: F\nshard_key: id\ncopies: 0x4\ntimeout: 1m\nflows:\n- fname: A\n  params: &p {a: 1, b: }\n- {fname: B, params: *p}\n",
		"kistype: func\nfname: f\nfmode: Save\ntimeout: 5s\nsource: {name: s, must: [a, 1.0, true]}\noption:\n  cname: c\n  retry_times: 1_0\n  return_duration: 50\n  default_params: {~: 1}\n  save: {key: '{a}{{', incr: {n: a}}\n",
		"kistype: func\nfname: f\nfmode: Load\noption: {cname: c, on_missing: dead, wait: 1s, retry_duration: 7ms, load: {key: k, set: {a: b}}}\n",
		"kistype: func\nfname: f\nfmode: Save\noption: {cname: c, retry_duration: 7, save: {key: k, delete: yes}}\n",
		"kistype: conn\ncname: c\naddrs: '${A:b,c} , d:1'\ntype: redis\nkey: |\n  k\nparams: {? a : >-\n  b}\nload: null\nsave: [f]\ntls: on\nusername: $${\nreplicas: 1\n",
		"%YAML 1.2\n---\nkistype: global\nprometheus_enable: true\nprometheus_serve: \"\\u00e9\"\n...\n",
		"{kistype: conn, cname: !!str 1, type: memory, params: {<<: {a: b}, 2001-01-01: 2001-01-01}}",
		"kistype: conn\ncname: c\ntype: memory\nparams: {\"<<\": 1}\n", "a: &a [*a]\n", "---\n---\n", "\ufeffkistype: flow",
	} {
		f.Add([]byte(seed))
	}
	_ = filepath.WalkDir("../../examples", func(path string, entry os.DirEntry, err error) error {
		if text, err := os.ReadFile(path); err == nil && isYAML(path) {
			f.Add(text)
		}
		return err
	})
	f.Fuzz(func(t *testing.T, text []byte) {
		docs := Split("fuzz.yml", text)
		for _, d := range docs {
			if !bytes.Contains(text, d.YAML) {
				t.Fatalf("Split made up %q", d.YAML)
			}
		}
		_, _ = NewSet(docs)
		lines := 1
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // as YAML has them
			lines += bytes.Count(text, []byte(end))
		}
		for _, key := range []string{"fmode", "option.cname", "option.save.set.a"} {
			if line := (Document{YAML: text, Line: 3}).LineOf(key); line != 0 && (line < 3 || line >= 3+lines) {
				t.Fatalf("%s is on line %d of\n%s", key, line, text)
			}
		}
		p, err := Parse(Document{YAML: text})
		if err != nil {
			return
		}
		got := p.bare()
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		var want asYAML
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("the YAML library refuses what Parse accepts: %v\n%s", err, text)
		}
		if diff := cmp.Diff(want.parsed(got), got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("the YAML library reads %s\nfrom\n%s", diff, text)
		}
	})
}
