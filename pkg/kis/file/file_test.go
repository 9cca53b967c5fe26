package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
)

const (
	flowF = "kistype: flow\nstatus: 1\nflow_name: F\nflows:\n  - fname: f\n    params: {school: Tsinghua}\n"
	funcF = "kistype: func\nfname: f\nfmode: Calculate\n"
)

// folder writes documents into files of a folder.
func folder(t testing.TB, docs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, d := range docs {
		sub := filepath.Join(dir, fmt.Sprint("sub", i%2))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i, ".yml")), []byte(d), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestImport(t *testing.T) {
	r := kis.NewRegistry()
	calls := 0
	r.FaaS("f", func(_ context.Context, f kis.Flow) error {
		calls++
		if f.GetFuncParam("school") != "Tsinghua" || f.GetThisFuncConf().FMode != string(common.C) {
			t.Errorf("the function got %v of %+v", f.GetFuncParamAll(), f.GetThisFuncConf())
		}
		return nil
	})
	dir := folder(t, flowF, funcF, strings.NewReplacer("flow_name: F", "flow_name: off", "status: 1", "status: 0").Replace(flowF))
	for range 2 { // a second import replaces the flows
		if err := file.Import(dir, r); err != nil {
			t.Fatal(err)
		}
		if err := r.GetFlow("F").Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 2 || r.GetFlow("off") != nil || len(r.GetFlows()) != 1 {
		t.Errorf("%d calls; flows %v", calls, r.GetFlows())
	}
}

// All mistakes are reported together, and nothing is imported.
func TestImportMistakes(t *testing.T) {
	r := kis.NewRegistry()
	r.FaaS("bad", 1)
	dir := folder(t, flowF, funcF+"colour: red\n", flowF, "kistype: func\nfname: g\nfmode: Save\noption: {cname: nowhere}\n", "fname: h\n",
		"kistype: flow\nstatus: 1\nflow_name: G\nflows: [{fname: nobody}]\n")
	err := file.Import(dir, r)
	if err == nil || len(r.GetFlows()) != 0 {
		t.Fatalf("Import returned %v, and there are flows %v", err, r.GetFlows())
	}
	for _, want := range []string{"colour", "second document for the flow", "nowhere", "kistype: is missing", "nobody", "FaaS was given int"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if err := file.Import(filepath.Join(dir, "none"), kis.NewRegistry()); batch.CodeOf(err) != batch.CodeNotFound {
		t.Errorf("import of no folder returned %v", err)
	}
}

func TestImportOpensConnectors(t *testing.T) {
	r := kis.NewRegistry()
	opened := 0
	r.CaaSInit("store", func(kis.Connector) error { opened++; return nil })
	r.CaaSInit("broken", func(kis.Connector) error { return fmt.Errorf("no store") })
	conn := "kistype: conn\ncname: %s\ntype: redis\naddrs: localhost:1\n"
	functions := []string{"kistype: func\nfname: f\nfmode: Save\noption: {cname: store}\n", "kistype: func\nfname: g\nfmode: Load\noption: {cname: store}\n"}
	flows := []string{"kistype: flow\nstatus: 1\nflow_name: F\nflows: [{fname: f}, {fname: g}]\n", "kistype: flow\nstatus: 1\nflow_name: G\nflows: [{fname: g}]\n"}
	if err := file.Import(folder(t, slices.Concat(flows, functions, []string{fmt.Sprintf(conn, "store")})...), r); err != nil || opened != 1 {
		t.Errorf("Import returned %v; the connector was opened %d times", err, opened)
	}
	err := file.Import(folder(t, flowF, "kistype: func\nfname: f\nfmode: Save\noption: {cname: broken}\n", fmt.Sprintf(conn, "broken")), r)
	if err == nil || !strings.Contains(err.Error(), "open connector broken: no store") {
		t.Errorf("Import returned %v", err)
	}
}

// names are texts that are awkward in YAML.
var names = rapid.SampledFrom([]string{"f", "Avg Score", "yes", "12", "学生", "a-b_c.d", "~", "null"})

// Whatever is made in code can be exported, and import gives the same again.
func TestExportRoundTrip(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		text := rapid.OneOf(rapid.SampledFrom([]string{"", "0", "true", "a: b", "#", "${A:1}"}), rapid.StringN(0, 8, -1))
		params := rapid.MapOfN(names, text, 0, 3)
		conf := config.NewFlowConfig(names.Draw(t, "flow"), common.FlowEnable)
		f := flow.New(kis.NewRegistry(), conf)
		connectors := make(map[string]*config.KisConnConfig)
		for _, name := range rapid.SliceOfNDistinct(names, 1, 4, rapid.ID[string]).Draw(t, "functions") {
			mode := rapid.SampledFrom([]common.KisMode{common.V, common.S, common.L, common.C, common.E}).Draw(t, "mode")
			function := config.NewFuncConfig(name, mode,
				&config.KisSource{Name: text.Draw(t, "source"), Must: rapid.SliceOfN(names, 0, 2).Draw(t, "must")},
				&config.KisFuncOption{
					RetryTimes: rapid.IntRange(0, 9).Draw(t, "retries"), RetryDuration: rapid.IntRange(0, 9999).Draw(t, "interval"), Params: params.Draw(t, "defaults"),
				})
			if rapid.Bool().Draw(t, "connected") {
				name := names.Draw(t, "connector")
				if connectors[name] == nil {
					connectors[name] = config.NewConnConfig(name, "localhost:1,${B:2}", common.REDIS, "key_", map[string]string{"db": "1"})
				}
				if err := function.AddConnConfig(connectors[name]); err != nil {
					t.Fatal(err)
				}
			}
			err := f.Link(function, params.Draw(t, "params"))
			if err != nil { // not every text can be a document's: the error says so
				t.Skip(err)
			}
		}
		first, second := filepath.Join(root, fmt.Sprint(n), "first"), filepath.Join(root, fmt.Sprint(n), "second")
		if err := file.ConfigExportYaml(f, first); err != nil {
			t.Fatal(err)
		}
		r := kis.NewRegistry()
		if err := file.Import(first, r); err != nil {
			t.Fatal(err)
		}
		imported := r.GetFlow(conf.FlowName)
		for _, entry := range conf.Flows {
			was, is := f.GetFuncConfigByName(entry.FuncName), imported.GetFuncConfigByName(entry.FuncName)
			if a, b := meaning(t, was), meaning(t, is); a != b {
				t.Fatalf("function %s was\n%s\nand is\n%s", entry.FuncName, a, b)
			}
		}
		if err := file.ConfigExportYaml(imported, second); err != nil {
			t.Fatal(err)
		}
		if a, b := texts(t, first), texts(t, second); !reflect.DeepEqual(a, b) {
			t.Fatalf("exported first\n%v\nthen\n%v", a, b)
		}
		for _, dir := range []string{first, second} {
			_ = os.RemoveAll(dir)
		}
	})
}

// meaning is what a configuration says.
func meaning(t *rapid.T, c *config.KisFuncConfig) string {
	d, err := c.Document()
	if err != nil {
		t.Fatal(err)
	}
	text := string(d.YAML)
	if connector, err := c.GetConnConfig(); err == nil {
		d, err := connector.Document()
		if err != nil {
			t.Fatal(err)
		}
		text += string(d.YAML)
	}
	return text
}

// texts are the files of a folder.
func texts(t *rapid.T, dir string) map[string]string {
	docs, err := definition.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, d := range docs {
		all[filepath.Base(d.Path)] = string(d.YAML)
	}
	return all
}

// What was imported and not changed is exported as it was written: comments, timeouts and all that KisFlow has no name for.
func TestExportKeepsDocuments(t *testing.T) {
	r := kis.NewRegistry()
	written := []string{
		"# the flow\n" + flowF + "shard_key: id\ntimeout: 5s\n", funcF + "timeout: 30s # as long as by default\noption: {cname: c}\n",
		"kistype: conn\ncname: c\ntype: redis # of the cluster's own\naddrs: ${ADDR:localhost:1}\nreplicas: 1\n",
	}
	if err := file.Import(folder(t, written...), r); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := file.ConfigExportYaml(r.GetFlow("F"), dir); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"flow-F.yaml", "func-f.yaml", "conn-c.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(text) != written[i] {
			t.Errorf("%s is %q (%v), want %q", name, text, err, written[i])
		}
	}
	r.GetFlow("F").GetFuncConfigByName("f").Option.RetryTimes = 2
	if err := file.ConfigExportYaml(r.GetFlow("F"), dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "func-f.yaml")); err != nil || !strings.Contains(string(text), "retry_times: 2") {
		t.Errorf("the changed function is exported as %q (%v)", text, err)
	}
}
