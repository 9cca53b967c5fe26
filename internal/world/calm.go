package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// startClients lets clients begin at their times.
func (w *world) startClients() {
	for _, c := range w.s.Clients {
		s := newSubmitter(w, c)
		w.clients = append(w.clients, s)
		w.at(c.Start, s.begin)
	}
}

// calm ends all faults, and gives the cluster the scenario's time to come to rest. Clients make no more rows, and wait for the answers of
// those that they have sent.
func (w *world) calm() {
	w.finishAll()
	for _, n := range w.living() {
		n.gate.release()
	}
	for _, s := range w.clients {
		s.stopMaking()
	}
	w.mendConnector()
	w.rec.CalmBegan()
	w.inWorld(w.provide)
	time.Sleep(w.s.Calm)
	for wait := time.Duration(0); wait < mostPatience && w.anyOpen(); wait += someTime {
		time.Sleep(someTime) // the checks see that answers came late; whether they come at all is seen here
	}
	for _, s := range w.clients {
		if s.isOpen() { // its batches have no answer in the history
			s.kill()
		}
	}
	rest := settles
	if !w.probe() {
		rest += w.longestWait() // rows that nobody waits for any more stay parked for their time
	}
	time.Sleep(rest) // until acknowledgements and credit of the last rows have arrived
}

// provide saves the keys that rows of clients wait for and that nobody has saved: a program beside the cluster does it. Each row of a key
// that is missing would wait for the whole time of its Load, one after the other.
func (w *world) provide() {
	for _, s := range w.clients {
		if s.form == nil || !s.form.LoadsOther {
			continue
		}
		keys := s.c.Keys
		if keys == 0 {
			keys = s.c.Rows
		}
		for key := range keys {
			name := forms.LastKey(w.flowOf(s.c.Flow).For, fmt.Sprint("k", key))
			if w.redis.Hash(0, forms.KeyPrefix+name)["n"] != "" {
				continue
			}
			if w.redisDo("HSETNX", forms.KeyPrefix+name, "n", "1") == ":1" {
				w.rec.Happened(history.StoreChanged, name, "saved by another program")
			}
		}
	}
}

// settles is how long a cluster may take after its last answer until nothing of the rows is held any more.
const settles = 5 * time.Second

// mendConnector writes all documents as the operator wants them, if the scenario's last word on the connector may be a wrong address: then
// no row that saves could end. Documents of flows that were broken since are mended with it, since their active revisions have the wrong
// address too. Changes that are under way are over before: one that waited for etcd would write its wrong address last.
func (w *world) mendConnector() {
	if slices.ContainsFunc(w.s.Changes, func(c scenario.Change) bool { return c.Kind == "bad-connector" }) {
		w.changing.Wait()
		w.putAll()
	}
}

// Clients whose answers are late have mostPatience more to get them. Every someTime it is seen whether some still wait.
const (
	mostPatience = 20 * time.Minute
	someTime     = 30 * time.Second
)

// anyOpen reports whether the program of some client still waits for answers.
func (w *world) anyOpen() bool {
	return slices.ContainsFunc(w.clients, func(s *submitter) bool {
		s.mu.Lock()
		l := s.life
		s.mu.Unlock()
		if l == nil {
			return false
		}
		select {
		case <-l.done:
			return false
		default:
			return true
		}
	})
}

// probeTimeout is how long a probe may take.
const probeTimeout = 20 * time.Second

// probe submits one plain row to each flow, as a client of the name "probe": it tells whether the flow runs. Flows whose Load waits for the
// key of another flow come after the others, which save the key. It reports whether all rows have an answer.
func (w *world) probe() bool {
	process := w.net.Host("probe").Process("probe")
	settings := w.secured()
	options := []client.Option{client.WithDialOptions(transport.Through(process)...), client.WithRetryFor(probeTimeout)}
	if w.s.TLS {
		options = append(options, client.WithTLSFiles(settings.TLSCA, settings.TLSCert, settings.TLSKey), client.WithTLSServerName(serverName))
	}
	c, err := client.Dial(w.coordinators(""), options...)
	if err != nil {
		w.must(err)
		return false
	}
	var unanswered atomic.Bool
	w.provideProbes()
	for _, loads := range []bool{false, true} {
		var calls sync.WaitGroup
		for i, f := range w.s.Flows {
			if forms.Of(f.Form).LoadsOther != loads {
				continue
			}
			text := `{"key":"probe","alt":"ae","n":0}`
			record := w.rec.Made(&history.Batch{Client: "probe", Flow: f.Name, Number: i + 1, Rows: []history.Row{{Key: "probe", Bytes: len(text)}}})
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(w.ctx, probeTimeout)
				defer cancel()
				b := client.Rows(text)
				try := w.rec.Submitting(record, true, probeTimeout)
				result, err := c.Submit(ctx, f.Name, b, client.NoOutput())
				w.rec.Answered(try, b.ID(), result, nil, err, errors.Is(err, client.ErrUnanswered))
				if err != nil {
					unanswered.Store(true)
				}
			})
		}
		calls.Wait()
	}
	w.must(c.Close())
	process.Kill()
	return !unanswered.Load()
}

// provideProbes saves the keys that probes wait for, where the flow that saves them does not run any more.
func (w *world) provideProbes() {
	for _, f := range w.s.Flows {
		name := forms.LastKey(f.For, "probe")
		if forms.Of(f.Form).LoadsOther && w.redisDo("HSETNX", forms.KeyPrefix+name, "n", "0") == ":1" {
			w.rec.Happened(history.StoreChanged, name, "saved by another program")
		}
	}
}

// longestWait returns the longest time that a row may take once it has begun.
func (w *world) longestWait() time.Duration {
	longest := time.Duration(0)
	for _, f := range w.s.Flows {
		longest = max(longest, cmp.Or(f.Timeout, definition.DefaultFlowTimeout), f.Wait)
	}
	return longest
}
