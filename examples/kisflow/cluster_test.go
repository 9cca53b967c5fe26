package kisflow

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/examples/kisflow/3-commit/commit"
	"github.com/kisgrid/kisgrid/examples/kisflow/7-flow_action/action"
	"github.com/kisgrid/kisgrid/examples/kisflow/8-connector/connector"
	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
)

// startCluster starts a cluster of two workers with these functions and documents, and a client of it.
func startCluster(t *testing.T, register func(*kis.Registry), dir string) *client.Client {
	t.Helper()
	return flowtest.Cluster(t, 2, flowtest.Register(register), flowtest.Conf(dir)).Client()
}

// submit submits rows of JSON.
func submit(t *testing.T, c *client.Client, flow string, rows ...string) *client.Result {
	t.Helper()
	raw := make([]json.RawMessage, len(rows))
	for i, row := range rows {
		raw[i] = json.RawMessage(row)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := c.Submit(ctx, flow, client.Rows(raw...))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// averages are a result's output, as the programs print it.
func averages(t *testing.T, r *client.Result) []string {
	t.Helper()
	rows, err := client.Output[connector.Average](r)
	if err != nil {
		t.Fatal(err)
	}
	var printed []string
	for _, row := range rows {
		printed = append(printed, fmt.Sprintf("%d: %.2f", row.StuId, row.AvgScore))
	}
	return printed
}

// linked exports a flow that is linked in code: its documents are what a cluster needs.
func linked(t *testing.T, params config.FParam, functions ...*config.KisFuncConfig) string {
	t.Helper()
	f := flow.NewKisFlow(config.NewFlowConfig("CalStuAvgScore", common.FlowEnable))
	for _, function := range functions {
		if err := f.Link(function, params); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := file.ConfigExportYaml(f, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The functions that run in the programs run on workers, unchanged.
func TestCluster(t *testing.T) {
	verify := config.NewFuncConfig("VerifyStu", common.V, nil, nil)
	average := config.NewFuncConfig("AvgStuScore", common.C, nil, nil)
	show := config.NewFuncConfig("PrintStuAvgScore", common.E, nil, nil)
	const (
		stu101  = `{"stu_id":101,"score_1":100,"score_2":90,"score_3":80}`
		stu102  = `{"stu_id":102,"score_1":100,"score_2":70,"score_3":60}`
		stu1001 = `{"stu_id":1001,"score_1":100,"score_2":70,"score_3":60}`
	)
	for name, c := range map[string]struct {
		register func(*kis.Registry)
		dir      string
		rows     []string
		want     []string
		outcomes map[batch.Outcome]int
	}{
		"1-quick_start": {
			scores.Register, linked(t, nil, average, show), []string{stu101, stu102}, []string{"101: 90.00", "102: 76.67"}, nil,
		},
		"2-quick_start_with_config": {
			scores.Register, "2-quick_start_with_config/conf", []string{stu101, stu102}, []string{"101: 90.00", "102: 76.67"}, nil,
		},
		"3-commit": {commit.Register, "3-commit/conf", []string{stu101, stu102}, []string{"101: 90.00", "102: 76.67"}, nil},
		"5-flow": {
			scores.Register, linked(t, config.FParam{"school": "Tsinghua", "country": "China"}, verify, average, show),
			[]string{stu101, stu1001}, []string{"101: 90.00"}, map[batch.Outcome]int{batch.Filtered: 1},
		},
		"7-flow_action": {action.Register, "7-flow_action/conf", []string{stu101, stu102}, []string{"101: 90.00", "102: 76.67"}, nil},
		"7-flow_action aborts": {
			action.Register, "7-flow_action/conf", []string{stu101, stu1001}, nil, map[batch.Outcome]int{batch.Aborted: 2},
		},
		"9-serialize": {
			scores.Register, "9-serialize/conf", []string{stu101, stu1001, `{"stu_id":"x"}`}, []string{"101: 90.00"},
			map[batch.Outcome]int{batch.Filtered: 1, batch.Dead: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is waited
			result := submit(t, startCluster(t, c.register, c.dir), "CalStuAvgScore", c.rows...)
			if got := averages(t, result); !slices.Equal(got, c.want) {
				t.Errorf("the flow passed on %q, want %q", got, c.want)
			}
			outcomes := make(map[batch.Outcome]int)
			for _, o := range result.NotDone {
				outcomes[o.Outcome]++
			}
			if !maps.Equal(outcomes, c.outcomes) {
				t.Errorf("the rows ended as %v, want %v done aside: %+v", outcomes, c.outcomes, result.NotDone)
			}
		})
	}
}

// The flow that loads is submitted first, and waits for the other one to save.
func TestClusterWithConnector(t *testing.T) {
	c := startCluster(t, connector.Register, filepath.Join("8-connector", "conf"))
	loaded := make(chan *client.Result)
	go func() {
		loaded <- submit(t, c, "CalStuAvgScore3", `{"stu_id":101,"score_3":80}`, `{"stu_id":102,"score_3":70}`)
	}()
	saved := submit(t, c, "CalStuAvgScore12", `{"stu_id":101,"score_1":100,"score_2":90}`, `{"stu_id":102,"score_1":100,"score_2":80}`)
	if got, want := averages(t, saved), []string{"101: 95.00", "102: 90.00"}; !slices.Equal(got, want) {
		t.Errorf("the flow that saves passed on %q, want %q: %+v", got, want, saved.NotDone)
	}
	result := <-loaded
	if got, want := averages(t, result), []string{"101: 90.00", "102: 83.33"}; !slices.Equal(got, want) {
		t.Errorf("the flow that loads passed on %q, want %q: %+v", got, want, result.NotDone)
	}
}
