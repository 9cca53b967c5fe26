package scheduler_test

import (
	"maps"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// FuzzStep takes bytes for events, nonsense included: workers, parts and rows that are not there, answers that come twice,
// sessions that begin while one is there. No event may panic, and the state must hold together after each.
func FuzzStep(f *testing.F) {
	const (
		submit = iota
		cancel
		connect
		resume
		disconnect
		ready
		drain
		gone
		credit
		answer
		switched
		tick
		explain
		goOn
		cordon
		events
	)
	worker := func(w byte) []byte {
		return []byte{connect, w, ready, w, 0, 1, credit, w, 0, 2, 2}
	}
	seeds := [][][]byte{
		{{switched, 0, 1, 0}, worker(1), {submit, 0, 4, 0, 1, 2, 3}, {answer, 1, 1, 0, 0, 3, 1}},
		{{switched, 0, 1, 0}, worker(1), {submit, 0, 4, 9, 1, 2, 3}, worker(2), {answer, 1, 1, 2, 0, 9, 0}, {drain, 1}, {gone, 1, 0}},
		{{switched, 0, 1, 0}, worker(1), {submit, 0, 3, 1, 1, 1}, {disconnect, 1}, worker(2), {tick, 9}, {resume, 1, 0}, {answer, 1, 1, 1, 0, 0, 0}},
		{{switched, 1, 1, 3}, {connect, 1}, {ready, 1, 1, 9}, {credit, 1, 1, 9, 9}, {submit, 1, 9}, {gone, 1, 1}, {connect, 2}, {ready, 2, 1, 9},
			{credit, 2, 1, 9, 9}, {gone, 2, 1}, {connect, 3}, {ready, 3, 1, 9}, {credit, 3, 1, 9, 9}, {gone, 3, 1}},
		{{submit, 0, 2, 1, 2}, {tick, 200}, {submit, 0, 1, 1}, {cancel, 1}, {cancel, 9}, {explain, 0, 1}, {resume, 7, 7}, {connect, 1}, {connect, 1}},
	}
	for _, seed := range seeds {
		for _, slice := range []byte{0, 5, 19} {
			data := []byte{slice}
			for _, event := range seed {
				data = append(data, event...)
			}
			f.Add(data)
		}
	}

	names := [...]string{"", "a", "b", "c", "d"}
	flows := [...]string{"sharded", "whole"}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			t.Skip("longer events find nothing more")
		}
		next := func() byte {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return b
		}
		id := func() string { return names[int(next())%len(names)] }
		flow := func() string { return flows[int(next())%len(flows)] }
		ranges := func() []batch.Range {
			return []batch.Range{{First: uint32(next()), Count: uint32(next())}, {First: ^uint32(0) - 1, Count: ^uint32(0)}}
		}

		// Where little is done in one step, most goes on in further ones.
		s := scheduler.New(scheduler.Config{Slice: 1 << (next() % 20)})
		now := time.Unix(0, 0)
		var batches []*scheduler.Batch
		live := map[*scheduler.Batch]bool{}
		asked := map[*scheduler.Search]bool{}
		do := func(e scheduler.Event) {
			for _, a := range s.Step(e, now) {
				switch a := a.(type) {
				case scheduler.Answer:
					if a.Last {
						delete(live, a.Part.Batch)
					}
				case scheduler.Fail:
					if a.Last {
						delete(live, a.Batch)
					}
				case scheduler.Finish:
					delete(live, a.Batch)
				case scheduler.Searched:
					if a.Search.Reason == "" {
						t.Fatalf("a search found no reason: %+v", a.Search)
					}
					delete(asked, a.Search)
				}
			}
		}
		for len(data) > 0 {
			var e scheduler.Event
			switch next() % events {
			case submit:
				b := &scheduler.Batch{Flow: flow(), Revision: 1}
				for i := range 1 + uint32(next())%16 {
					b.Ends = append(b.Ends, 1000*(i+1))
					switch key := next(); {
					case b.Flow == "whole":
					case key == 255:
						b.Ended = append(b.Ended, batch.RowOutcome{Row: i, Outcome: batch.Dead})
						fallthrough
					default:
						b.Keys = append(b.Keys, uint64(key)*257)
					}
				}
				if next()%4 == 0 {
					b.Deadline = now.Add(time.Second)
				}
				batches = append(batches, b)
				live[b] = true
				e = scheduler.Submitted{Batch: b}
			case cancel:
				b := new(scheduler.Batch) // nobody knows it
				if i := int(next()); i < len(batches) {
					b = batches[i]
				}
				delete(live, b)
				e = scheduler.Cancelled{Batch: b}
			case connect:
				w := id()
				e = scheduler.WorkerConnected{Worker: w, Name: w}
			case resume:
				e = scheduler.WorkerResumed{Worker: id(), PartsReceived: uint64(next())}
			case disconnect:
				e = scheduler.WorkerDisconnected{Worker: id()}
			case ready:
				e = scheduler.WorkerReady{Worker: id(), Flow: flow(), Revision: int64(next())}
			case drain:
				e = scheduler.WorkerDraining{Worker: id()}
			case gone:
				e = scheduler.WorkerGone{Worker: id(), Died: next()%2 == 1}
			case credit:
				e = scheduler.Credited{Worker: id(), Flow: flow(), Rows: int64(next()), Bytes: int64(next()) * 1000}
			case answer:
				e = scheduler.Answered{
					Worker: id(), Part: uint64(next()), Returned: ranges(), Finished: ranges(), Began: ranges(), Parked: ranges(),
					NotDone: []batch.RowOutcome{{Row: uint32(next()), Outcome: batch.Dead}, {Row: ^uint32(0), Outcome: batch.Failed}},
					Last:    next()%2 == 1,
				}
			case switched:
				e = scheduler.FlowSwitched{Flow: flow(), Revision: int64(next()), Ready: names[:int(next())%len(names)]}
			case tick:
				now = now.Add(time.Duration(next()) * 100 * time.Millisecond)
				e = scheduler.Tick{}
			case cordon:
				e = scheduler.WorkerCordoned{Worker: id(), Cordoned: next()%2 == 1}
			case goOn:
				e = scheduler.Continue{}
			case explain:
				q := &scheduler.Search{Flow: flow(), Key: uint64(next()), Most: int(next())}
				if x := s.Explain(q.Flow, q.Key); x.Reason == "" {
					t.Fatal("Explain gives no reason")
				}
				asked[q] = true
				e = scheduler.Asked{Search: q}
			}
			do(e)
			var all []*scheduler.Batch
			for b := range live {
				all = append(all, b)
			}
			if err := s.Check(all, len(data)%256, 256); err != nil {
				t.Fatalf("after %T: %v", e, err)
			}
		}
		for steps := 0; s.Behind(); steps++ {
			if do(scheduler.Continue{}); steps > 1_000_000 {
				t.Fatal("the work that is left does not end")
			}
		}
		if len(asked) > 0 {
			t.Fatalf("%d searches did not end", len(asked))
		}
		searchAll(t, s, do, batches, live)
	})
}

// searchAll looks for the rows of each key, one key after the other. Those without an outcome are found once, each, and so are those that
// workers have although they were given up.
func searchAll(t *testing.T, s *scheduler.Scheduler, do func(scheduler.Event), batches []*scheduler.Batch, live map[*scheduler.Batch]bool) {
	type row struct {
		batch *scheduler.Batch
		row   uint32
	}
	open := map[uint64]map[row]bool{}
	for _, b := range batches {
		for _, key := range b.Keys {
			if open[key] == nil {
				open[key] = map[row]bool{}
			}
		}
		if live[b] && len(b.Keys) > 0 {
			for _, r := range scheduler.OpenRows(b) {
				open[b.Keys[r]][row{b, r}] = true
			}
		}
	}
	givenUp := 0
	for key, rows := range open {
		const most = 1 << 16
		q := &scheduler.Search{Flow: "sharded", Key: key, Most: most}
		for do(scheduler.Asked{Search: q}); s.Behind(); {
			do(scheduler.Continue{})
		}
		counts := map[scheduler.Place]int{}
		for _, f := range q.Rows {
			counts[scheduler.Place{Where: f.Where, Worker: f.Worker}]++
			if f.GivenUp {
				givenUp++
				if live[f.Batch] || f.Where != scheduler.AtWorker {
					t.Errorf("a row that has no outcome is given up: %+v", f)
				}
				continue
			}
			if at := (row{f.Batch, f.Row}); !rows[at] {
				t.Errorf("a row was found twice, or has an outcome: %+v", f)
			} else {
				delete(rows, at)
			}
		}
		if len(rows) > 0 || q.Unsettled || !maps.Equal(counts, q.Counts) {
			t.Errorf("%d rows of key %d were not found; the others are counted as %v", len(rows), key, q.Counts)
		}
		few := &scheduler.Search{Flow: "sharded", Key: key, Most: 1}
		for do(scheduler.Asked{Search: few}); s.Behind(); {
			do(scheduler.Continue{})
		}
		if len(few.Rows) != min(1, len(q.Rows)) || !maps.Equal(few.Counts, q.Counts) {
			t.Errorf("of %v one row is to be told: %+v", q.Counts, few.Rows)
		}
	}
	if want := s.GivenUp("sharded"); givenUp != want {
		t.Errorf("%d rows that were given up are found, and workers have %d", givenUp, want)
	}
}
