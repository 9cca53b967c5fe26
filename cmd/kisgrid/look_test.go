package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 100, 90: 180, 99: 198, 99.9: 200, 100: 200} {
		if got := percentile(times, p); got != want {
			t.Errorf("the %g-th percentile of 1 to 200 is %d, want %d", p, got, want)
		}
	}
	if got := percentile(times[:1], 99.9); got != 1 {
		t.Errorf("the percentile of one time is %d", got)
	}
}

func TestBenchResult(t *testing.T) {
	began := time.Now()
	b := bench{flow: "F", batchRows: 2, rate: 3, began: began, ended: began.Add(2 * time.Second)}
	for i := range 4 {
		b.note(&batch.Result{Rows: 2, NotDone: []batch.RowOutcome{{Outcome: batch.Dead}}}, time.Duration(4-i)*time.Millisecond, nil)
	}
	var out bytes.Buffer
	if err := b.result().print(&out, &output{}); err != nil {
		t.Fatal(err)
	}
	want := "F: 8 rows in 4 batches of 2, 2.7 s: 3 rows/s of 3 asked for\n4 done 0 filtered 0 aborted 4 dead 0 failed\n" +
		"ms from Send to the answer of a batch: p50 2.0  p90 4.0  p99 4.0  p99.9 4.0  max 4.0  mean 2.5\n"
	if out.String() != want {
		t.Errorf("it prints\n%s\nwant\n%s", &out, want)
	}
}

// counts makes the answer of one coordinator about one flow.
func counts(by string, in, done uint64) []coordinator.FlowView {
	return []coordinator.FlowView{{FlowStatus: cluster.FlowStatus{Flow: "F", State: "active"},
		Rows: map[string]uint64{"in": in, "done": done, "in_flight": in - done}, Counted: coordinator.Counted{By: by}}}
}

func TestRates(t *testing.T) {
	looked := func(at int, answers ...[]coordinator.FlowView) *counted {
		c := &counted{at: time.Unix(int64(at), 0), flows: map[string]flowCount{}}
		for _, a := range answers {
			c.add(a)
		}
		return c
	}
	for name, c := range map[string]struct {
		before, now *counted
		in, done    float64
	}{
		"two coordinators":              {looked(0, counts("a", 10, 4), counts("b", 5, 5)), looked(2, counts("b", 9, 7), counts("a", 14, 4)), 4, 1},
		"a coordinator that came":       {looked(0, counts("a", 10, 4)), looked(2, counts("a", 10, 4), counts("b", 1000, 1000)), 0, 0},
		"a coordinator that began anew": {looked(0, counts("a", 10, 4)), looked(2, counts("a", 1, 1)), 0, 0},
	} {
		f := rates(c.before, c.now).Flows[0]
		if f.PerSecond["in"] != c.in || f.PerSecond["done"] != c.done {
			t.Errorf("%s: %v, want %g in and %g done each second", name, f.PerSecond, c.in, c.done)
		}
	}
	v := rates(looked(0, counts("a", 10, 4)), looked(1, counts("a", 12, 4)))
	v.Missing = []string{"b"}
	var out bytes.Buffer
	for _, table := range v.tables() {
		if err := table.Write(&out); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"F     2     0", "active", "WORKER"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the screen lacks %q:\n%s", want, &out)
		}
	}
	if notes := v.notes(); !strings.Contains(notes, "without the rows of b") {
		t.Errorf("the notes do not tell of a coordinator without an answer:\n%s", notes)
	}
}

func TestReadSeries(t *testing.T) {
	all, err := readSeries(strings.NewReader("# HELP a b\na 1\nkisgrid_dead_letters{flow=\"F\"} 2.5e+03\n\nb{x=\"y z\"} +Inf\n"))
	if err != nil || all["a"] != 1 || all[`kisgrid_dead_letters{flow="F"}`] != 2500 || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := readSeries(strings.NewReader("a b\n")); err == nil {
		t.Error("a page of something else was read")
	}
	if got := labelOf(`kisgrid_dead_letters{flow="F",x="y"}`, "x"); got != "y" {
		t.Errorf("the label x is %q", got)
	}
}

// The doctor's judgements of one coordinator that it has asked.
func TestDoctorJudges(t *testing.T) {
	c := cluster.Coordinator{ID: "c-1", Address: "c:7700", HTTP: "c:7702"}
	for name, test := range map[string]struct {
		v    visited
		want []string // state and a part of the text, for each finding
	}{
		"all is well": {visited{series: series{"process_open_fds": 10, "process_max_fds": 1024, "kisgrid_dead_letters_up": 1}},
			[]string{"ok its clock", "ok it has 10 files", "ok the store"}},
		"no answer": {visited{err: batch.Errorf(batch.CodeUnavailable, "no way"), httpErr: batch.Errorf(batch.CodeUnavailable, "no way")},
			[]string{"unknown it does not answer", "unknown its HTTP port"}},
		"the clock is ahead": {visited{series: series{"kisgrid_dead_letters_up": 1}, ahead: 5 * time.Second, doubt: time.Second},
			[]string{"wrong its clock is 5s ahead", "ok the store"}},
		"the clock may be right": {visited{series: series{"kisgrid_dead_letters_up": 1}, ahead: -5 * time.Second, doubt: 4 * time.Second},
			[]string{"ok its clock", "ok the store"}},
		"few files are left": {visited{series: series{"process_open_fds": 900, "process_max_fds": 1024}},
			[]string{"ok its clock", "wrong it has 900 files open, of 1024", "look it keeps no dead letters"}},
		"letters": {visited{series: series{"kisgrid_dead_letters_up": 0, "kisgrid_dead_letters_limit": 100, `kisgrid_dead_letters{flow="F"}`: 95}},
			[]string{"ok its clock", "wrong the store of dead letters does not", "wrong 95 letters are kept, of 100"}},
	} {
		var d doctor
		d.judgePorts(c, &test.v)
		if test.v.series != nil {
			d.judgeClock(c.ID, &test.v)
			d.judgeFiles(c.ID, &test.v)
			d.judgeLetters(c, &test.v)
		}
		var got []string
		for i, f := range d.findings {
			got = append(got, f.State+" "+f.Text)
			if i < len(test.want) && !strings.HasPrefix(got[i], test.want[i]) {
				t.Errorf("%s: it finds %q, want %q", name, got[i], test.want[i])
			}
			if (f.State == stateGood) != (f.Do == "") {
				t.Errorf("%s: %s: what to do is %q", name, got[i], f.Do)
			}
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: it finds %q, want %q", name, got, test.want)
		}
	}
}

// Processes of several builds are named; one build, which is that of the command, is in order.
func TestDoctorBuilds(t *testing.T) {
	var d doctor
	d.examineBuilds(map[string][]string{"v1": {"worker b", "worker a"}, "v2": {"coordinator c", "worker d", "worker e", "worker f"}})
	if want := "v1 at worker a, worker b; v2 at coordinator c, worker d, worker e and 1 more"; !strings.Contains(d.findings[0].Text, want) || d.findings[0].State != stateLook {
		t.Errorf("%+v, want %s", d.findings, want)
	}
}

// Processes with different limits are named, and those of earlier builds do not tell.
func TestDoctorLimits(t *testing.T) {
	d := doctor{coordinators: []cluster.Coordinator{{ID: "c", Limits: &cluster.Limits{RowBytes: 1, BatchBytes: 2, BatchRows: 3}}, {ID: "old"}}}
	d.judgeLimits()
	if d.findings[0].State != stateGood {
		t.Errorf("the same limits: %+v", d.findings)
	}
	limits := func(row, bytes, rows int) *cluster.Limits {
		return &cluster.Limits{RowBytes: row, BatchBytes: bytes, BatchRows: rows}
	}
	d.workers = []coordinator.WorkerView{{Worker: cluster.Worker{ID: "w", Limits: limits(9, 2, 3)}}}
	d.findings = nil
	d.judgeLimits()
	if d.findings[0].State != stateGood {
		t.Errorf("a worker's limit for a row counts: %+v", d.findings)
	}
	d.workers[0].Limits, d.findings = limits(1, 2, 4), nil
	d.judgeLimits()
	if want := "2 bytes and 3 rows a batch at coordinator c; 2 bytes and 4 rows a batch at worker w"; d.findings[0].State != stateLook || !strings.Contains(d.findings[0].Text, want) {
		t.Errorf("%+v, want %s", d.findings, want)
	}
	d.coordinators[1].Limits, d.findings = limits(5, 2, 3), nil
	d.judgeLimits()
	if want := "1 bytes a row, 2 bytes and 3 rows a batch at c; 5 bytes a row, 2 bytes and 3 rows a batch at old"; d.findings[0].State != stateWrong || !strings.Contains(d.findings[0].Text, want) {
		t.Errorf("%+v, want %s", d.findings, want)
	}
}

// Workers whose ports do not answer are counted in one finding.
func TestDoctorWorkers(t *testing.T) {
	var d doctor
	var pages []visited
	for _, id := range []string{"a", "b", "c"} {
		d.workers = append(d.workers, coordinator.WorkerView{Worker: cluster.Worker{ID: id, HTTP: id}})
		pages = append(pages, visited{httpErr: batch.Errorf(batch.CodeUnavailable, "no way")})
	}
	pages[1] = visited{series: series{"process_open_fds": 1000, "process_max_fds": 1024}}
	d.judgeWorkers(pages)
	if len(d.findings) != 3 || d.findings[1].Check != "files" || d.findings[1].State != stateWrong || !strings.Contains(d.findings[2].Text, "this and 1 other workers") {
		t.Errorf("%+v", d.findings)
	}
}

// The doctor tells processes without an access file where a coordinator has one.
func TestDoctorGuards(t *testing.T) {
	for name, c := range map[string]struct {
		coordinators, workers []bool // whether each has the file
		want                  string
	}{
		"nobody":                         {[]bool{false}, []bool{false}, ""},
		"a worker only":                  {[]bool{false}, []bool{true}, ""},
		"everybody":                      {[]bool{true, true}, []bool{true}, "ok "},
		"a worker and a coordinator not": {[]bool{true, false}, []bool{true, false}, "wrong c1,wrong w1"},
	} {
		var d doctor
		for i, guarded := range c.coordinators {
			d.coordinators = append(d.coordinators, cluster.Coordinator{ID: fmt.Sprint("c", i), Guarded: guarded})
		}
		for i, guarded := range c.workers {
			d.workers = append(d.workers, coordinator.WorkerView{Worker: cluster.Worker{ID: fmt.Sprint("w", i), Guarded: guarded}})
		}
		d.judgeGuards()
		var got []string
		for _, f := range d.findings {
			got = append(got, f.State+" "+f.Subject)
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Where etcd does not answer, the coordinator that says so is not blamed.
func TestDoctorWithoutEtcd(t *testing.T) {
	away := batch.Errorf(batch.CodeUnavailable, "reading flows in etcd: connection refused")
	var d doctor
	d.broken("c:7700", away)
	if f := d.findings[0]; f.State != stateWrong || f.Check != "coordinator" || !strings.Contains(f.Do, "start a coordinator") {
		t.Errorf("without a word of etcd: %+v", f)
	}
	d = doctor{findings: []finding{{State: stateWrong, Check: "etcd"}}}
	d.broken("c:7700", away)
	if f := d.findings[1]; f.State != stateUnknown || f.Check != "flow" || !strings.Contains(f.Do, "mend etcd") {
		t.Errorf("where etcd is away: %+v", f)
	}
	for known, want := range map[int64]string{time.Time{}.UnixMilli(): "it has never answered", time.Now().Add(-time.Minute).UnixMilli(): "it has not answered for 1m"} {
		d = doctor{}
		if err := d.examineCoordinators(t.Context(), awayAdmin{known: known}); err != nil {
			t.Fatal(err)
		}
		if f := d.findings[0]; f.State != stateWrong || f.Check != "etcd" || !strings.HasPrefix(f.Text, want) {
			t.Errorf("etcd was last heard at %d: %+v, want %q", known, f, want)
		}
	}
}

// awayAdmin is a coordinator that etcd does not answer.
type awayAdmin struct {
	pb.AdminClient
	known int64 // when it last did
}

func (a awayAdmin) Get(context.Context, *pb.GetRequest, ...grpc.CallOption) (*pb.GetResponse, error) {
	return &pb.GetResponse{KnownUnixMilliseconds: a.known, Away: "connection refused"}, nil
}
