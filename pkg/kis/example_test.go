package kis_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Reading is a row of the examples.
type Reading struct {
	Sensor  string  `json:"sensor"`
	Celsius float64 `json:"celsius"`
}

// A Verify looks at rows. Those for which it returns no error pass on whole.
func ExampleVerify() {
	plausible := func(_ context.Context, r Reading) error {
		if r.Celsius < -90 || r.Celsius > 60 {
			return kis.Drop("%g °C is no weather", r.Celsius)
		}
		return nil
	}
	run("Plausible Verify", func(r *kis.Registry) { r.Func("Plausible", kis.Verify(plausible)) },
		`{"sensor":"roof","celsius":21.5,"place":"A"}`, `{"sensor":"roof","celsius":999}`)
	// Output:
	// {"sensor":"roof","celsius":21.5,"place":"A"}
	// row 1 is filtered in Plausible: 999 °C is no weather
}

// A Calculate makes one row of each. An error makes its row dead, and no other.
func ExampleCalculate() {
	type fahrenheit struct {
		Sensor     string  `json:"sensor"`
		Fahrenheit float64 `json:"fahrenheit"`
	}
	convert := func(_ context.Context, r Reading) (fahrenheit, error) {
		if r.Sensor == "" {
			return fahrenheit{}, fmt.Errorf("nobody measured %g °C", r.Celsius)
		}
		return fahrenheit{r.Sensor, r.Celsius*9/5 + 32}, nil
	}
	run("ToFahrenheit Calculate", func(r *kis.Registry) { r.Func("ToFahrenheit", kis.Calculate(convert)) },
		`{"sensor":"roof","celsius":20}`, `{"celsius":21}`)
	// Output:
	// {"sensor":"roof","fahrenheit":68}
	// row 1 is dead in ToFahrenheit: nobody measured 21 °C
}

// An Expand makes any number of rows of each.
func ExampleExpand() {
	type series struct {
		Sensor string    `json:"sensor"`
		Values []float64 `json:"values"`
	}
	single := func(_ context.Context, s series, emit func(Reading)) error {
		for _, v := range s.Values {
			emit(Reading{s.Sensor, v})
		}
		return nil
	}
	run("Single Expand", func(r *kis.Registry) { r.Func("Single", kis.Expand(single)) },
		`{"sensor":"roof","values":[20,21]}`, `{"sensor":"cellar","values":[12]}`)
	// Output:
	// {"sensor":"roof","celsius":20}
	// {"sensor":"roof","celsius":21}
	// {"sensor":"cellar","celsius":12}
}

// A Save writes to the connector that its document names. Its rows pass on.
func ExampleSave() {
	keep := func(_ context.Context, to kis.Writer, r Reading) error {
		to.Set(r.Sensor, "celsius", r.Celsius)
		to.Incr(r.Sensor, "readings", 1)
		return nil
	}
	run("Keep Save", func(r *kis.Registry) { r.Func("Keep", kis.Save(keep)) },
		`{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"roof","celsius":20}
}

// A Load gets what was saved under the row's key, by this flow or another one. Until it is there the row waits.
func ExampleLoad() {
	type saved struct {
		Readings int `json:"readings"`
	}
	type numbered struct {
		Reading
		Number int `json:"number"`
	}
	keep := func(_ context.Context, to kis.Writer, r Reading) error {
		to.Incr(r.Sensor, "readings", 1)
		return nil
	}
	key := func(r Reading) string { return r.Sensor }
	number := func(_ context.Context, r Reading, s *saved) (numbered, error) {
		return numbered{r, s.Readings}, nil
	}
	register := func(r *kis.Registry) {
		r.Func("Keep", kis.Save(keep))
		r.Func("Number", kis.Load(key, number))
	}
	run("Keep Save, Number Load", register, `{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"roof","celsius":20,"number":1}
}

// A Batch function sees all rows of its run at once: without a shard_key those of the whole batch.
func ExampleBatch() {
	aboveMean := func(_ context.Context, rows []Reading) ([]Reading, error) {
		sum := 0.0
		for _, r := range rows {
			sum += r.Celsius
		}
		for i := range rows { // as many rows as were given: each comes from the one in its place
			rows[i].Celsius -= sum / float64(len(rows))
		}
		return rows, nil
	}
	run("AboveMean Calculate", func(r *kis.Registry) { r.Func("AboveMean", kis.Batch(aboveMean)) },
		`{"sensor":"cellar","celsius":12}`, `{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"cellar","celsius":-4}
	// {"sensor":"roof","celsius":4}
}

// FaaS takes KisFlow's own functions as they are.
func ExampleRegistry_FaaS() {
	warm := func(_ context.Context, flow kis.Flow, rows []*Reading) error {
		for _, r := range rows {
			if r.Celsius > 15 {
				_ = flow.CommitRow(r) // rows that are not committed are filtered
			}
		}
		return nil
	}
	run("Warm Calculate, Same Calculate", func(r *kis.Registry) {
		r.FaaS("Warm", warm)
		r.Func("Same", kis.Calculate(func(_ context.Context, r Reading) (Reading, error) { return r, nil }))
	}, `{"sensor":"cellar","celsius":12}`, `{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"roof","celsius":20}
	// row 0 is filtered in Warm: the function passed nothing on for it
}

// Drop ends a row that is right but not wanted. It is filtered, which is no failure.
func ExampleDrop() {
	warm := func(_ context.Context, r Reading) error {
		if r.Celsius < 15 {
			return kis.Drop("%s is cold", r.Sensor)
		}
		return nil
	}
	run("Warm Verify", func(r *kis.Registry) { r.Func("Warm", kis.Verify(warm)) },
		`{"sensor":"cellar","celsius":12}`, `{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"roof","celsius":20}
	// row 0 is filtered in Warm: cellar is cold
}

// Jump sends a row to another function of the flow: here past the one that converts Fahrenheit.
func ExampleJump() {
	celsius := func(_ context.Context, r Reading) error {
		if r.Celsius <= 60 {
			return kis.Jump("Keep")
		}
		return nil // it must be Fahrenheit
	}
	convert := func(_ context.Context, r Reading) (Reading, error) {
		return Reading{r.Sensor, (r.Celsius - 32) * 5 / 9}, nil
	}
	keep := func(context.Context, Reading) error { return nil }
	run("IsCelsius Verify, Convert Calculate, Keep Verify", func(r *kis.Registry) {
		r.Func("IsCelsius", kis.Verify(celsius))
		r.Func("Convert", kis.Calculate(convert))
		r.Func("Keep", kis.Verify(keep))
	}, `{"sensor":"roof","celsius":20}`, `{"sensor":"cellar","celsius":68}`)
	// Output:
	// {"sensor":"roof","celsius":20}
	// {"sensor":"cellar","celsius":20}
}

// From tells a function which flow and function it runs as, and gives it its parameters.
func ExampleFrom() {
	name := func(ctx context.Context, r Reading) (Reading, error) {
		call := kis.From(ctx)
		r.Sensor = call.Flow + "/" + call.Function + "/" + r.Sensor + call.Param("suffix") // this flow has no parameters
		return r, nil
	}
	run("Name Calculate", func(r *kis.Registry) { r.Func("Name", kis.Calculate(name)) }, `{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"F/Name/roof","celsius":20}
}

// Origins says which rows the rows returned come from, if there are fewer or more of them than rows given.
func ExampleCall_Origins() {
	warmest := func(ctx context.Context, rows []Reading) ([]Reading, error) {
		best := 0
		for i, r := range rows {
			if r.Celsius > rows[best].Celsius {
				best = i
			}
		}
		kis.From(ctx).Origins(best)
		return rows[best : best+1], nil
	}
	run("Warmest Calculate", func(r *kis.Registry) { r.Func("Warmest", kis.Batch(warmest)) },
		`{"sensor":"cellar","celsius":12}`, `{"sensor":"roof","celsius":20}`)
	// Output:
	// {"sensor":"roof","celsius":20}
}

// Err reports all mistakes of registration together. A worker refuses to start while there are any.
func ExampleRegistry_Err() {
	r := kis.NewRegistry()
	r.Func("", kis.Verify(func(context.Context, Reading) error { return nil }))
	r.FaaS("Count", func(context.Context, []Reading) error { return nil })
	fmt.Println(strings.Count(r.Err().Error(), "\n")+1, "mistakes")
	// Output:
	// 2 mistakes
}

// run runs rows through a flow of functions, each "name fmode", and prints what comes out.
func run(functions string, register func(*kis.Registry), rows ...string) {
	flow := "kistype: flow\nflow_name: F\nstatus: 1\nflows:\n"
	docs := []definition.Document{{YAML: []byte("kistype: conn\ncname: Store\ntype: memory\n")}}
	for function := range strings.SplitSeq(functions, ", ") {
		name, mode, _ := strings.Cut(function, " ")
		flow += "  - fname: " + name + "\n"
		docs = append(docs, definition.Document{YAML: fmt.Appendf(nil, "kistype: func\nfname: %s\nfmode: %s\noption: {cname: Store}\n", name, mode)})
	}
	set, err := definition.NewSet(append(docs, definition.Document{YAML: []byte(flow)}))
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	local, err := flowexec.NewLocalSet(set, register)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	defer local.Close()
	result, err := local.Submit(context.Background(), "F", batch.Rows(rows...))
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	for i := range result.Output.Rows.Len() {
		fmt.Fprintf(os.Stdout, "%s\n", result.Output.Rows.Row(i))
	}
	for _, o := range result.NotDone {
		fmt.Fprintf(os.Stdout, "row %d is %s in %s: %s\n", o.Row, o.Outcome, o.Function, o.Reason)
	}
}
