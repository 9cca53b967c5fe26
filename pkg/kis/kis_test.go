package kis_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

type row struct {
	ID   int    `json:"id"`
	Name string `json:"name,omitempty"`
	Skip int    `json:"-"`
}

func TestRegistry(t *testing.T) {
	r := kis.NewRegistry()
	r.Func("verify", kis.Verify(func(context.Context, row) error { return nil }))
	r.Func("load", kis.Load(func(*row) string { return "" }, func(context.Context, *row, *row) (map[string]int, error) { return nil, nil }))
	r.FaaS("faas", func(kis.Flow, []row, []*row, int, context.Context) error { return nil })
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	want := []kis.FunctionInfo{
		{Name: "faas", Mode: "FaaS", In: "kis_test.row{id int, name string}, *kis_test.row{id int, name string}", Out: "interface {}"},
		{Name: "load", Mode: "Load", In: "*kis_test.row{id int, name string}", Out: "map[string]int"},
		{Name: "verify", Mode: "Verify", In: "kis_test.row{id int, name string}"},
	}
	got := r.Functions()
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}

func TestRegistryMistakes(t *testing.T) {
	good := func(context.Context, kis.Flow) error { return nil }
	for _, test := range []struct {
		name     string
		register func(r *kis.Registry)
		want     string
	}{
		{"no name", func(r *kis.Registry) { r.Func("", kis.Verify(func(context.Context, row) error { return nil })) }, "the name is empty"},
		{"no function", func(r *kis.Registry) { r.Func("f", kis.Func{}) }, "there is no function"},
		{"nil", func(r *kis.Registry) { r.Func("f", kis.Verify[row](nil)) }, "kis.Verify was given no function (nil)"},
		{"nil key", func(r *kis.Registry) { r.Func("f", kis.Load[row, row, row](nil, nil)) }, "kis.Load was given no function (nil)"},
		{"twice", func(r *kis.Registry) { r.FaaS("f", good); r.FaaS("f", good) }, "the name is taken since kis_test.go:"},
		{"no row", func(r *kis.Registry) { r.Func("f", kis.Verify(func(context.Context, chan int) error { return nil })) }, "it reads chan int, which JSON can't hold"},
		{"two pointers", func(r *kis.Registry) { r.Func("f", kis.Verify(func(context.Context, **row) error { return nil })) }, "not a pointer to a pointer"},
		{"an interface", func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(context.Context, row) (error, error) { return nil, nil }))
		}, "it passes on the interface error"},
		{"a value without fields", func(r *kis.Registry) {
			r.Func("f", kis.Load(func(row) string { return "" }, func(context.Context, row, *int) (row, error) { return row{}, nil }))
		}, "it loads int: a saved value has fields"},
		{"FaaS of nothing", func(r *kis.Registry) { r.FaaS("f", nil) }, "FaaS was given <nil>"},
		{"FaaS of nil", func(r *kis.Registry) { r.FaaS("f", (func(context.Context, kis.Flow) error)(nil)) }, "no function (nil)"},
		{"FaaS without context", func(r *kis.Registry) { r.FaaS("f", func(kis.Flow) error { return nil }) }, "takes 0 context.Context and 1 kis.Flow"},
		{"FaaS without error", func(r *kis.Registry) { r.FaaS("f", func(context.Context, kis.Flow) {}) }, "must return an error and nothing else"},
		{"FaaS with dots", func(r *kis.Registry) { r.FaaS("f", func(context.Context, kis.Flow, ...row) error { return nil }) }, "take a slice instead"},
		{"FaaS with bad rows", func(r *kis.Registry) { r.FaaS("f", func(context.Context, kis.Flow, []func()) error { return nil }) }, "parameter 3 of"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := new(kis.Registry)
			test.register(r)
			err := r.Err()
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "kis_test.go:") {
				t.Errorf("got %v, want it to say %q and where", err, test.want)
			}
		})
	}
}

func TestFromOutside(t *testing.T) {
	c := kis.From(context.Background())
	c.Cache().Set("k", 1, 0)
	c.Origins(1)
	if c.Attempt != 1 || c.Flow != "" || c.Param("p") != "" || c.Params() != nil || !c.RowID().Batch.IsZero() {
		t.Errorf("outside of a flow, got %+v", c)
	}
}

func TestCache(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c kis.Cache
		c.Set("ever", 1, 0)
		c.Set("soon", 2, time.Minute)
		c.Set("gone", 3, 0)
		c.Delete("gone")
		for _, step := range []struct {
			after time.Duration
			key   string
			want  any
		}{{0, "soon", 2}, {59 * time.Second, "soon", 2}, {time.Second, "soon", nil}, {time.Hour, "ever", 1}, {0, "gone", nil}} {
			time.Sleep(step.after)
			if got, ok := c.Get(step.key); got != step.want || ok != (step.want != nil) {
				t.Errorf("%s: got %v, %v, want %v", step.key, got, ok, step.want)
			}
		}
	})
}

func TestSignals(t *testing.T) {
	for err, want := range map[error]string{
		kis.Drop("%d is odd", 3): "drop: 3 is odd", kis.Abort("no header"): "abort: no header", kis.Jump("f"): "jump to f",
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestFaaSDesc(t *testing.T) {
	fn := func(context.Context, kis.Flow, []*row, int) error { return nil }
	d, err := kis.NewFaaSDesc("f", fn)
	if err != nil {
		t.Fatal(err)
	}
	if d.FnName != "f" || d.ArgNum != 4 || d.ArgsType[2] != reflect.TypeFor[[]*row]() || d.FuncType != reflect.TypeOf(fn) || !d.FuncValue.IsValid() {
		t.Errorf("it is described as %+v", d)
	}
	if rows, err := d.Marshal([]int{1, 2}); err != nil || len(rows) != 2 || rows[1] != "2" {
		t.Errorf("its rows are written as %v, %v", rows, err)
	}
	if _, err := kis.NewFaaSDesc("f", func(context.Context) {}); err == nil || !strings.Contains(err.Error(), `function "f"`) || !strings.Contains(err.Error(), "must return an error") {
		t.Errorf("what is no such function is described with %v", err)
	}
}

// defaulted embeds DefaultSerialize, and returns an error whose methods panic.
type defaulted struct {
	kis.DefaultSerialize
}

func (*defaulted) UnMarshal([]any, reflect.Type) (reflect.Value, error) {
	return reflect.Value{}, panicking{}
}

type panicking struct{}

func (panicking) Error() string { panic("no text") }
func (panicking) Is(error) bool { panic("no comparison") }

// What a row type's own methods return may panic when it is looked at: that ends no process.
func TestPanickingMethodsAreErrors(t *testing.T) {
	r := kis.NewRegistry()
	r.FaaS("f", func(context.Context, kis.Flow, []defaulted) error { return nil })
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}
