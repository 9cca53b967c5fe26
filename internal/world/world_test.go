package world_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// quiet is a scenario in which nothing goes wrong.
func quiet() scenario.Scenario {
	return scenario.Scenario{
		Seed: 1, Lasts: 20 * time.Second, Calm: 10 * time.Second,
		Coordinators: []scenario.Process{{Name: "c1", Host: "h1"}, {Name: "c2", Host: "h2"}},
		Workers:      []scenario.Process{{Name: "w1", Host: "h1"}, {Name: "w2", Host: "h2"}, {Name: "w3", Host: "h3"}},
		Flows: []scenario.Flow{
			{Name: "Chain", Form: "chain"}, {Name: "Whole", Form: "whole"}, {Name: "Set", Form: "set"}, {Name: "Load", Form: "load", For: "Set"},
		},
		Clients: []scenario.Client{
			{Name: "a", How: "stream", Start: 3 * time.Second, Flow: "Chain", Host: "h4", Rows: 1000, Batch: 10, Keys: 20, Results: true},
			{Name: "b", How: "call", Start: 3 * time.Second, Flow: "Whole", Host: "h4", Rows: 100, Batch: 5, Open: 4},
			{Name: "c", How: "producer", Start: 3 * time.Second, Flow: "Set", Host: "h5", Rows: 100, Batch: 5, Keys: 10, Open: 4},
			{Name: "d", How: "stream", Start: 3 * time.Second, Flow: "Load", Host: "h5", Rows: 100, Batch: 5, Keys: 10},
		},
	}
}

// When nothing goes wrong, every row is done, and nothing is left in the end.
func TestQuiet(t *testing.T) {
	r := world.Run(t, quiet())
	t.Logf("took %s", r.Took)
	sound(t, r)
	for _, b := range r.History.Batches {
		if try := b.Last(); try == nil || !try.Answered || len(try.NotDone) > 0 {
			t.Errorf("batch %d of %s ended as %+v", b.Number, b.Client, try)
		}
	}
}

// sound checks that a life of a cluster came to its end, and left nothing behind.
func sound(t *testing.T, r *world.Report) {
	t.Helper()
	if r.Stuck != "" {
		t.Fatalf("stuck: %s", r.Stuck)
	}
	f := r.History.Final
	for _, stack := range f.Goroutines {
		t.Errorf("a goroutine is left:\n%s", stack)
	}
	for _, c := range f.ConnsAfter {
		t.Errorf("%s left open: %s", c.From, c.To)
	}
	for key := range f.EtcdAfter {
		if !strings.HasSuffix(key, "/garbage") && (strings.HasPrefix(key, "workers/") || strings.HasPrefix(key, "coordinators/") || strings.HasPrefix(key, "leader")) {
			t.Errorf("etcd still has %s", key)
		}
	}
	for _, l := range r.History.Lives {
		if l.How == history.Failed {
			t.Errorf("%s failed: %s", l.Process, l.Error)
		}
		for _, line := range l.Logs {
			if line.Level == "error" {
				t.Errorf("%s %s: %s", line.At, l.Process, line.Text)
			}
		}
	}
}

// unanswered returns how many batches have no answer in the end. It logs how the others ended.
func unanswered(t *testing.T, r *world.Report) int {
	t.Helper()
	open, failed, undone := 0, 0, 0
	for _, b := range r.History.Batches {
		try := b.Last()
		switch {
		case try == nil || try.Ended == 0:
			open++
		case !try.Answered:
			failed++
		case len(try.NotDone) > 0:
			undone++
		}
	}
	t.Logf("of %d batches, %d have no answer, %d ended with an error, and %d have rows that are not done", len(r.History.Batches), open, failed, undone)
	return open
}

// TestCost runs the scenario by which the cost of a life is measured: 5 virtual minutes, 3 coordinators, 5 workers, 10,000 rows.
func TestCost(t *testing.T) {
	if bubble.Race {
		t.Skip("the cost of a life says nothing with the race detector")
	}
	r := world.Run(t, measured())
	sound(t, r)
	rows, done := 0, 0
	for _, b := range r.History.Batches {
		rows += len(b.Rows)
		if try := b.Last(); try != nil && try.Answered {
			done += len(b.Rows) - len(try.NotDone)
		}
	}
	t.Logf("%d rows, %d of them done, %d calls of functions, in %s", rows, done, len(r.History.Runs), r.Took)
	if done != rows {
		t.Errorf("%d of %d rows are done", done, rows)
	}
}

// oneInFourWithRace skips three of four tests when the race detector is on, which makes lives ten times as slow. TestWorld draws from all
// kinds of faults and changes, also with the race detector. i is the number of the test.
func oneInFourWithRace(t *testing.T, i int) {
	if bubble.Race && i%4 > 0 {
		t.Skip("one in four is enough with the race detector")
	}
}

// TestFaults lives through each kind of fault, one at a time, with a load of all the quiet scenario's clients. Every client has its answers
// after the calm, and nothing is left in the end.
func TestFaults(t *testing.T) {
	for i, kind := range scenario.FaultKinds {
		t.Run(kind.Name, func(t *testing.T) {
			oneInFourWithRace(t, i)
			s := quiet()
			s.Lasts, s.Calm = 40*time.Second, 40*time.Second
			s.Etcd.Members = 3
			s.Redis.Replicas, s.Redis.Lag = 1, 100*time.Millisecond
			for i := range s.Clients {
				s.Clients[i].Every, s.Clients[i].Again = 300*time.Millisecond, 100
			}
			f := scenario.Fault{At: 12 * time.Second, Kind: kind.Name}
			if kind.Lasts {
				f.For = 8 * time.Second
			}
			if kind.By {
				f.By = 300 * time.Millisecond
			}
			if kind.N {
				f.N = 500
			}
			switch kind.Who {
			case scenario.AProcess, scenario.ProcessOrClient, scenario.AWorker:
				f.Who = "w2"
			case scenario.AnEnd:
				f.Who, f.Whom = "w2", "c1"
			case scenario.AHost:
				f.Who, f.Whom = "h2", "h3"
			}
			s.Faults = []scenario.Fault{f}
			r := world.Run(t, s)
			t.Logf("took %s", r.Took)
			sound(t, r)
			if len(r.History.Faults) != 1 || r.History.Faults[0].Until < r.History.Faults[0].At {
				t.Errorf("the faults are %+v", r.History.Faults)
			}
			open := unanswered(t, r)
			t.Log(r.History.Faults[0].Note)
			if open > 0 {
				t.Errorf("%d batches have no answer", open)
			}
		})
	}
}

// TestChanges makes each kind of change of documents, by the command line and by etcdctl. Every client has its answers after the calm, and
// nothing is left in the end.
func TestChanges(t *testing.T) {
	for i, kind := range scenario.ChangeKinds {
		for _, by := range []string{"apply", "etcdctl"} {
			if by == "etcdctl" && !kind.By {
				continue
			}
			t.Run(kind.Name+" by "+by, func(t *testing.T) {
				oneInFourWithRace(t, i)
				s := quiet()
				s.Lasts, s.Calm = 40*time.Second, 40*time.Second
				for i := range s.Clients {
					s.Clients[i].Every, s.Clients[i].Again = 300*time.Millisecond, 100
				}
				c := scenario.Change{At: 10 * time.Second, Kind: kind.Name, Flow: "Chain", By: by}
				if kind.N {
					c.N = 20
				}
				s.Changes = []scenario.Change{{At: 8 * time.Second, Kind: "revise", Flow: "Chain"}, c, {At: 25 * time.Second, Kind: "put-back", Flow: "Chain"}}
				if kind.Name == "many-gone" {
					s.Changes = append(s.Changes, scenario.Change{At: 9 * time.Second, Kind: "many", N: 20})
				}
				r := world.Run(t, s)
				sound(t, r)
				open := unanswered(t, r)
				marks := map[string]int{}
				for _, run := range r.History.Runs {
					if run.Flow == "Chain" {
						marks[run.Mark]++
					}
				}
				t.Logf("marks %v; took %s", marks, r.Took)
				for _, c := range r.History.Changes {
					if c.Err != "" {
						t.Errorf("%s: %s", c.Kind, c.Err)
					}
				}
				for _, e := range r.History.Events {
					t.Logf("%s %s %s", e.At, e.Who, e.Text)
				}
				if open > 0 || len(marks) < 3 {
					t.Errorf("%d batches have no answer, and rows ran with the marks %v", open, marks)
				}
			})
		}
	}
}

// TestSecured lives through a scenario with TLS, users of etcd and Redis, and dead letters.
func TestSecured(t *testing.T) {
	s := quiet()
	s.TLS, s.Etcd.User, s.Redis.User = true, "kisgrid", "kisgrid"
	for i := range s.Coordinators {
		s.Coordinators[i].Letters = true
	}
	s.Clients[0].Mix = scenario.Mix{Error: 20, Bad: 20, Drop: 20, Panic: 5}
	s.Clients = append(s.Clients,
		scenario.Client{Name: "e", How: "watch", Flow: "Chain", Host: "h4", Rows: 1},
		scenario.Client{Name: "f", How: "wrong", Flow: "Chain", Host: "h5", Rows: 20, Batch: 1, Start: 3 * time.Second, Every: 500 * time.Millisecond},
		scenario.Client{Name: "g", How: "idle", Flow: "Chain", Host: "h5", Rows: 20, Batch: 10, Start: 3 * time.Second},
		scenario.Client{Name: "i", How: "gone", Flow: "Chain", Host: "h5", Rows: 200, Batch: 10, Start: 3 * time.Second, Every: 100 * time.Millisecond},
		scenario.Client{Name: "j", How: "slow", Flow: "Chain", Host: "h5", Rows: 200, Batch: 10, Start: 3 * time.Second, Every: 100 * time.Millisecond},
		scenario.Client{Name: "k", How: "stream", Flow: "Chain", Host: "h5", Rows: 200, Batch: 10, Start: 3 * time.Second, Msgpack: true},
	)
	r := world.Run(t, s)
	t.Logf("took %s", r.Took)
	sound(t, r)
	kept := 0
	for _, b := range r.History.Batches {
		try := b.Last()
		if try == nil || !try.Answered && !try.Gone {
			t.Errorf("batch %d of %s ended as %+v", b.Number, b.Client, try)
			continue
		}
		for _, o := range try.NotDone {
			if o.Kept {
				kept++
			}
		}
	}
	if kept == 0 {
		t.Error("no dead letter was kept")
	}
	for _, e := range r.History.Events {
		t.Logf("%s %s %s", e.At, e.Who, e.Text)
	}
	for _, c := range r.History.Calls {
		t.Logf("%s %s %s: %s %.100s", c.At, c.Verb, c.Subject, c.Code, c.Error)
	}
}

// measured is the scenario of TestCost.
func measured() scenario.Scenario {
	s := quiet()
	s.Lasts, s.Calm = 4*time.Minute, time.Minute
	s.Coordinators = append(s.Coordinators, scenario.Process{Name: "c3", Host: "h3"})
	s.Workers = append(s.Workers, scenario.Process{Name: "w4", Host: "h4"}, scenario.Process{Name: "w5", Host: "h5"})
	s.Clients = []scenario.Client{
		{Name: "a", How: "stream", Start: 3 * time.Second, Flow: "Chain", Host: "h6", Rows: 6000, Batch: 10, Keys: 50, Every: 200 * time.Millisecond, Results: true},
		{Name: "b", How: "call", Start: 3 * time.Second, Flow: "Whole", Host: "h6", Rows: 2000, Batch: 10, Open: 4, Every: 500 * time.Millisecond},
		{Name: "c", How: "producer", Start: 3 * time.Second, Flow: "Set", Host: "h7", Rows: 1000, Batch: 5, Keys: 10, Open: 4, Every: 500 * time.Millisecond},
		{Name: "d", How: "stream", Start: 3 * time.Second, Flow: "Load", Host: "h7", Rows: 1000, Batch: 5, Keys: 10, Every: 500 * time.Millisecond},
	}
	return s
}
