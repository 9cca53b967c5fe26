package flowexec_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// What functions read that rows never have there is told, also where the flow runs all the same.
func TestWarnings(t *testing.T) {
	type optional struct {
		K    string `json:"k"`
		Note *int   `json:"note"`
		More string `json:"more,omitempty"`
	}
	type loaded struct {
		K string `json:"k"`
		V string `json:"v"`
	}
	type number struct{ V int }
	type needs struct {
		V, Lost string
	}
	register := func(r *kis.Registry) {
		r.Func("make", kis.Calculate(func(_ context.Context, i in) (in, error) { return i, nil }))
		r.Func("raw", kis.Calculate(func(_ context.Context, i in) (json.RawMessage, error) { return nil, nil }))
		r.Func("optional", kis.Verify(func(context.Context, optional) error { return nil }))
		r.Func("calculates", kis.Calculate(func(_ context.Context, o *optional) (optional, error) { return *o, nil }))
		r.Func("text", kis.Verify(func(context.Context, loaded) error { return nil }))
		r.Func("number", kis.Verify(func(context.Context, number) error { return nil }))
		r.Func("needs", kis.Verify(func(context.Context, needs) error { return nil }))
		r.FaaS("verify", func(_ context.Context, flow kis.Flow, rows []*in) error { return flow.Next(kis.ActionDataReuse) })
		r.FaaS("any", func(_ context.Context, flow kis.Flow, rows []*in) error { return nil })
	}
	const get = `get Load; load: {key: "{k}", set: {v: f}}`
	for name, test := range map[string]struct {
		steps []string
		want  []string // a part of each
	}{
		"all there":                         {[]string{"make Calculate", get, "text Verify"}, nil},
		"rows that are not known":           {[]string{get, "needs Verify", "optional Verify"}, nil},
		"rows of raw JSON":                  {[]string{"raw Calculate", get, "needs Verify"}, nil},
		"rows of whatever a function likes": {[]string{"make Calculate", "any Calculate", "needs Verify"}, nil},
		"optional fields of a Verify": {[]string{"make Calculate", "optional Verify"}, []string{
			"flow/F:6: flows[1].fname: optional reads (as flowexec_test.optional) the field note, which the rows that make passes on lack (here they have k, n)",
			"the field more, which"}},
		"optional fields of another":      {[]string{"make Calculate", "calculates Calculate"}, nil},
		"a field behind a declared Load":  {[]string{"make Calculate", get, "needs Verify"}, []string{"flow/F:7: flows[2].fname: needs reads (as flowexec_test.needs) the field Lost, which the rows that make passes on lack (here they have k, n, v)"}},
		"a field behind KisFlow's Verify": {[]string{"make Calculate", "verify Verify", "text Verify"}, []string{"text reads (as flowexec_test.loaded) the field v"}},
		"what must be there":              {[]string{"make Calculate", get, "text Verify; source: {must: [v, z]}"}, []string{"text must have (source.must) the field z"}},
		"what a document names":           {[]string{"make Calculate", get, `put Save; save: {key: "{z}", set: {v: V, w: zz}}`}, []string{"put names (option.save.key) the field z", "put names (option.save.set.w) the field zz"}},
		"two readers that differ":         {[]string{"make Calculate", get, "text Verify", "number Verify"}, []string{"number reads (as flowexec_test.number) the field V as int, but it is string as get sets it for the first function that reads it"}},
		"types that nobody asks":          {[]string{`get Load; load: {key: "{k}", set: {v: f}, types: {v: int}}`, "text Verify"}, []string{"func/get:6: option.load.types.v: is not asked in the flow F, where a later function reads the field as string"}},
	} {
		t.Run(name, func(t *testing.T) {
			registry := kis.NewRegistry()
			register(registry)
			plan, err := flowexec.Compile(bundle(t, chain("", test.steps...)), registry)
			if err != nil {
				t.Fatal(err)
			}
			got := plan.Warnings()
			if len(got) != len(test.want) {
				t.Fatalf("the warnings are\n%s\nwant %q", strings.Join(got, "\n"), test.want)
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("the warning\n%s\nlacks\n%s", got[i], want)
				}
			}
		})
	}
}
