package kisflow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) { os.Exit(testprocess.Main(m, "./...")) }

// program runs a program in its own folder, and gives back what it printed.
func program(t *testing.T, name string, env ...string) string {
	t.Helper()
	code, out, log := testprocess.Run(t, testprocess.Config{Dir: name, Env: env}, name)
	if code != 0 {
		t.Fatalf("%s ended with %d:\n%s%s", name, code, out, log)
	}
	return out
}

const verified = "verify: school = Tsinghua country = China\n"

func TestPrograms(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"1-quick_start", "stu_id: [101], avg score: [90.00]\nstu_id: [102], avg score: [76.67]\n"},
		{"2-quick_start_with_config", "stu_id: [101], avg score: [90.00]\nstu_id: [102], avg score: [76.67]\n"},
		{"3-commit", `stu_id: [101], committed as: [string]
stu_id: [103], committed as: [string]
stu_id: [104], committed as: [string]
stu_id: [106], committed as: [scores.Score]
stu_id: [107], committed as: [*scores.Score]
stu_id: [108], committed as: [scores.Score]
stu_id: [110], committed as: [*scores.Score]
stu_id: [101], avg score: [90.00]
stu_id: [103], avg score: [90.00]
stu_id: [104], avg score: [76.67]
stu_id: [106], avg score: [81.00]
stu_id: [107], avg score: [83.00]
stu_id: [108], avg score: [83.00]
stu_id: [110], avg score: [83.00]
`},
		{"4-function", calls(3)},
		{"5-flow", verified + "stu_id: [101], avg score: [90.00]\n" + verified + "stu_id: [102], avg score: [76.67]\n"},
		{"7-flow_action", "stu_id: [101], avg score: [90.00]\nstu_id: [102], avg score: [86.67]\nstu_id: [1003] aborts 2 rows\n"},
		{"9-serialize", verified + "stu_id: [101], avg score: [90.00]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := program(t, c.name); got != c.want {
				t.Errorf("it printed\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// calls is what case 4 prints in so many runs.
func calls(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "function: AvgStuScore, mode: Calculate, source: SourceStuScore\nschool: Tsinghua, country: China\ncall: %d\n", i+1)
	}
	return out.String()
}

// lines are the lines of a text, sorted: what runs at the same time prints in any order.
func lines(text string) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return lines
}

func TestProgramInGoroutines(t *testing.T) {
	want := []string{"stu_id: [101], avg score: [90.00]", "stu_id: [201], avg score: [90.00]", strings.TrimSpace(verified), strings.TrimSpace(verified)}
	if got := lines(program(t, "6-flow_in_goroutines")); !slices.Equal(got, want) {
		t.Errorf("it printed %q, want %q", got, want)
	}
}

// Both flows start at once: the one that loads waits for the other to save.
func TestProgramWithConnector(t *testing.T) {
	redis, err := devcluster.StartRedis(devcluster.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Close() })
	want := []string{
		"CalStuAvgScore12: stu_id: [101], avg score: [95.00]", "CalStuAvgScore12: stu_id: [102], avg score: [90.00]",
		"CalStuAvgScore3: stu_id: [101], avg score: [90.00]", "CalStuAvgScore3: stu_id: [102], avg score: [83.33]",
	}
	if got := lines(program(t, "8-connector", "REDIS_ADDR="+redis.Address())); !slices.Equal(got, want) {
		t.Errorf("it printed %q, want %q", got, want)
	}
}

func TestProgramWithoutItsRedisSaysSo(t *testing.T) {
	code, out, _ := testprocess.Run(t, testprocess.Config{Dir: "8-connector", Env: []string{"REDIS_ADDR=127.0.0.1:1"}}, "8-connector")
	if code == 0 || !strings.Contains(out, "open connector Score12Cache: ") || strings.Contains(out, "panic") {
		t.Errorf("it ended with %d and printed\n%s", code, out)
	}
}

func TestProgramWithLogger(t *testing.T) {
	got := program(t, "11-logger")
	for _, want := range []string{
		`(?m)^\[info\] flow CalStuAvgScore is imported, with functions \[VerifyStu AvgStuScore PrintStuAvgScore\]$`,
		`(?m)^\[debug\] flow CalStuAvgScore: Verify VerifyStu took .* for 2 rows$`,
		`(?m)^\[debug\] flow CalStuAvgScore: Calculate AvgStuScore took .* for 1 rows$`,
		`(?m)^\[debug\] flow CalStuAvgScore: ran 2 rows in .*, 1 of them not to the end$`,
		`(?m)^stu_id: \[101\], avg score: \[90.00\]$`,
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("it did not print %s:\n%s", want, got)
		}
	}
}

func TestProgramWithMetrics(t *testing.T) {
	// The document names the port, as KisFlow's does. The test runs the program with another one.
	address := testprocess.Address(t)
	dir := filepath.Join(t.TempDir(), "10-metrics")
	if err := os.CopyFS(dir, os.DirFS("10-metrics")); err != nil {
		t.Fatal(err)
	}
	global := filepath.Join(dir, "conf", "kis-flow.yml")
	text, err := os.ReadFile(global)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(global, bytes.Replace(text, []byte("0.0.0.0:20004"), []byte(address), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	testprocess.Start(t, testprocess.Config{Dir: dir}, "10-metrics")
	// A row has gone through, and the next one is a second away: the counts stand for one row, or few.
	var got string
	testprocess.Until(t, "a run is counted", func() error {
		got, err = get(t.Context(), "http://"+address+"/metrics")
		if err == nil && !strings.Contains(got, `flow_run_duration_count{flow_name="CalStuAvgScore"}`) {
			err = errors.New(got)
		}
		return err
	})
	for _, want := range []string{
		`# TYPE kisflow_data_total counter`, `# TYPE flow_data_total counter`, `# TYPE flow_schedule_cnts counter`, `# TYPE func_schedule_cnts counter`,
		`# TYPE func_run_duration histogram`, `# TYPE flow_run_duration histogram`,
		`flow_data_total{flow_name="CalStuAvgScore"} `, `flow_schedule_cnts{flow_name="CalStuAvgScore"} `,
		`func_schedule_cnts{func_mode="Verify",func_name="VerifyStu"} `,
		`func_run_duration_bucket{func_mode="Calculate",func_name="AvgStuScore",le="30000"} `,
		`flow_run_duration_bucket{flow_name="CalStuAvgScore",le="60000"} `,
		`kisgrid_flow_run_seconds_count{flow="CalStuAvgScore"} `, `kisgrid_function_run_seconds_count{flow="CalStuAvgScore",function="VerifyStu"} `,
		`kisgrid_rows_ended_total{flow="CalStuAvgScore",outcome="done"} `,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
