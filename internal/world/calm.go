package world

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/client"
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
	time.Sleep(w.s.Calm)
	for wait := time.Duration(0); wait < mostPatience && w.anyOpen(); wait += someTime {
		time.Sleep(someTime) // the checks see that answers came late; whether they come at all is seen here
	}
	for _, s := range w.clients {
		if s.isOpen() { // its batches have no answer in the history
			s.kill()
		}
	}
	w.probe()
	time.Sleep(settles) // until acknowledgements and credit of the last rows have arrived
}

// settles is how long a cluster may take after its last answer until nothing of the rows is held any more.
const settles = 5 * time.Second

// mendConnector writes the connector's document anew where a change gave it a wrong address: then every store can be reached in calm.
func (w *world) mendConnector() {
	if !slices.ContainsFunc(w.s.Changes, func(c scenario.Change) bool { return c.Kind == "bad-connector" }) {
		return
	}
	w.mu.Lock()
	docs := w.store.Documents()[:1]
	w.mu.Unlock()
	w.must(w.etcdctl(docs))
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

// probe submits one plain row to each flow, as a client of the name "probe": it tells whether the flow runs.
func (w *world) probe() {
	process := w.net.Host("probe").Process("probe")
	settings := w.secured()
	options := []client.Option{client.WithDialOptions(transport.Through(process)...), client.WithRetryFor(probeTimeout)}
	if w.s.TLS {
		options = append(options, client.WithTLSFiles(settings.TLSCA, settings.TLSCert, settings.TLSKey), client.WithTLSServerName(serverName))
	}
	c, err := client.Dial(w.coordinators(""), options...)
	if err != nil {
		w.must(err)
		return
	}
	var calls sync.WaitGroup
	for i, f := range w.s.Flows {
		text := `{"key":"probe","alt":"ae","n":0}`
		record := w.rec.Made(&history.Batch{Client: "probe", Flow: f.Name, Number: i + 1, Rows: []history.Row{{Key: "probe", Bytes: len(text)}}})
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(w.ctx, probeTimeout)
			defer cancel()
			b := client.Rows(text)
			try := w.rec.Submitting(record, true, probeTimeout)
			result, err := c.Submit(ctx, f.Name, b, client.NoOutput())
			w.rec.Answered(try, b.ID(), result, nil, err, errors.Is(err, client.ErrUnanswered))
		})
	}
	calls.Wait()
	w.must(c.Close())
	process.Kill()
}
