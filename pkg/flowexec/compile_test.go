package flowexec_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func TestCompile(t *testing.T) {
	registry := kis.NewRegistry()
	registry.Func("c", kis.Calculate(double))
	plan, err := flowexec.Compile(bundle(t, chain("shard_key: k\n", "c Calculate")), registry)
	if err != nil {
		t.Fatal(err)
	}
	if plan.ShardKey() != "k" || plan.Copies() != runtime.GOMAXPROCS(0) {
		t.Errorf("the plan is of %s, %d", plan.ShardKey(), plan.Copies())
	}
}

func TestCompileMistakes(t *testing.T) {
	type wide struct {
		out
		More  string
		Maybe *int
		Left  string `json:",omitempty"`
	}
	type other struct {
		K int    `json:"k"`
		M string `json:"m,omitempty"`
		N int    `json:"K"`
	}
	verify := kis.Verify(ctxErr(func(in) error { return nil }))
	for _, test := range []struct {
		name      string
		functions []string
		register  func(r *kis.Registry)
		want      string
	}{
		{
			name: "all at once", functions: []string{"a Calculate", "vv Calculate", "v Save", "s Save", "b Load"},
			register: func(r *kis.Registry) {
				r.Func("v", verify)
				r.Func("s", kis.Save(saveRow))
				r.Func("Value", verify)
			},
			want: `flow/F:5: flows[0].fname: no function "a" is registered here (these are: Value, s, v): register it under this name, or correct the name
				flow/F:6: flows[1].fname: no function "vv" is registered…
				func/v:3: fmode: is Save, but v is registered as kis.Verify (compile_test.go:…
				flow/F:9: flows[4].fname: no function "b" is registered…`,
		},
		{
			name: "a slip", functions: []string{"valeu Verify"},
			register: func(r *kis.Registry) { r.Func("Value", verify) },
			want:     `flow/F:5: flows[0].fname: no function "valeu" is registered here (these are: Value): register it under this name, or correct the name; did you mean "Value"?`,
		},
		{
			name: "a field that is lost", functions: []string{"c Calculate", "v Verify", "w Verify; source: {must: [k, z]}"},
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(double))
				r.Func("v", kis.Verify(ctxErr(func(*wide) error { return nil })))
				r.Func("w", kis.Verify(ctxErr(func(map[string]any) error { return nil })))
			},
			want: `flow/F:6: flows[1].fname: v reads (as *flowexec_test.wide) the field More, which flowexec_test.out lacks, that c passes on (it has k, m): add the field there
				flow/F:7: flows[2].fname: w must have (source.must) the field z, which flowexec_test.out lacks, that c passes on (it has k, m): add the field there`,
		},
		{
			name: "a field of another type", functions: []string{"c Calculate", "v Verify"},
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(double))
				r.Func("v", kis.Verify(ctxErr(func(other) error { return nil })))
			},
			want: `flow/F:6: flows[1].fname: v reads (as flowexec_test.other) the field k as int, but it is string in flowexec_test.out, that c passes on: make the two types agree
				flow/F:6: flows[1].fname: v reads (as flowexec_test.other) the field m as string, but it is int in flowexec_test.out, that c passes on: make the two types agree
				flow/F:6: flows[1].fname: v reads (as flowexec_test.other) the field K as int, but it is string in flowexec_test.out, that c passes on: make the two types agree`,
		},
		{
			name: "a declaration of fields that are lost", functions: []string{"c Calculate", "s Save; save: {key: '{kk}', set: {a: m, b: mm}}", "l Load; load: {key: '{k}', set: {x: y}}", "m Load; load: {key: '{none}', set: {x: y}}"},
			register: func(r *kis.Registry) { r.Func("c", kis.Calculate(double)) },
			want: `func/s:6: option.save.key: in the flow F it names the field kk, which flowexec_test.out lacks, that c passes on (it has k, m): add the field there
				func/s:6: option.save.set.b: in the flow F it names the field mm, which flowexec_test.out lacks, that c passes on (it has k, m): add the field there`,
		},
		{
			name: "no connector", functions: []string{"s Calculate"},
			register: func(r *kis.Registry) { r.Func("s", kis.Save(saveRow)) },
			want: `func/s:3: fmode: is Calculate, but s is registered as kis.Save (compile_test.go:…
				func/s:3: option.cname: is missing: s is a kis.Save (compile_test.go:…`,
		},
		{
			name: "declared and registered", functions: []string{"s Save; save: {key: k, delete: true}"},
			register: func(r *kis.Registry) { r.Func("s", kis.Save(saveRow)) },
			want:     "func/s:6: option.save: s is declared by its document, and registered as kis.Save too (compile_test.go:…",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry := kis.NewRegistry()
			test.register(registry)
			_, err := flowexec.Compile(bundle(t, chain("", test.functions...)), registry)
			var mistakes definition.Mistakes
			if batch.CodeOf(err) != batch.CodeFlowUncompilable || !errors.As(err, &mistakes) {
				t.Fatalf("got the error %v", err)
			}
			expect(t, mistakes.Error(), test.want)
		})
	}
}

// NewLocal tells of registration and of all flows together.
func TestLocalMistakes(t *testing.T) {
	set, err := definition.NewSet(chain("", "a Calculate"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = flowexec.NewLocalSet(set, func(r *kis.Registry) { r.Func("", kis.Calculate(double)); r.FaaS("f", 1) })
	for _, want := range []string{`register function ""`, "FaaS was given int", `no function "a"`, "compile_test.go:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
	if _, err := flowexec.NewLocal(t.TempDir()+"/none", func(*kis.Registry) {}); err == nil {
		t.Error("a missing folder is no error")
	}
}

func TestSubmitErrors(t *testing.T) {
	l := local(t, append(chain("", "c Calculate"),
		definition.Document{YAML: []byte("kistype: flow\nstatus: 0\nflow_name: off\nflows: [{fname: c}]\n")}),
		func(r *kis.Registry) { r.Func("c", kis.Calculate(double)) })
	for _, test := range []struct {
		flow string
		b    *batch.Batch
		want batch.Code
	}{
		{"none", batch.Rows(row("a", 1)), batch.CodeUnknownFlow},
		{"off", batch.Rows(row("a", 1)), batch.CodeFlowDisabled},
		{"F", batch.Rows[string](), batch.CodeEmptyBatch},
		{"F", batch.Rows(func() {}), batch.CodeRowUnencodable},
		{"F", batch.Pack(batch.Columns{Data: []byte("1"), Ends: []uint32{2}}), batch.CodeBadColumns},
	} {
		if _, err := l.Submit(context.Background(), test.flow, test.b); batch.CodeOf(err) != test.want {
			t.Errorf("flow %s: got %v, not %v", test.flow, err, test.want)
		}
	}
	result, err := l.Submit(context.Background(), "F", batch.Rows(row("a", 1), row(strings.Repeat("x", 1<<20), 1)))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, tell(result), "1 dead ROW_TOO_LARGE : …\n0 → {\"k\":\"a\",\"m\":2}")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Submit(ctx, "F", batch.Rows(row("a", 1))); err != nil && batch.CodeOf(err) != batch.CodeCancelled {
		t.Errorf("a caller that gave up gets %v", err)
	}
}
