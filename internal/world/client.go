package world

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// submitter is a client of the scenario: a program that makes rows and submits them, over all of its lives.
type submitter struct {
	w      *world
	c      scenario.Client
	form   *forms.Form
	drawer *forms.Drawer
	rng    *rand.Rand // of pauses and of second tries; its own goroutine's

	made   int // rows made so far: written under mu by the goroutine that submits, which reads it without
	number int // batches made so far
	// stream is the identity of a producer, sequence its newest batch, and kept its batches without an answer, in order.
	stream   batch.StreamID
	sequence uint64

	mu    sync.Mutex
	kept  []*sent       // guarded by mu
	over  bool          // no more rows are made: guarded by mu
	life  *clientLife   // the present life, or nil; guarded by mu
	ended chan struct{} // closed when the client is done with all its rows
}

// clientLife is one life of a client's program.
type clientLife struct {
	net    *simnet.Process
	client *client.Client
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup // batches that wait for their answers
	room   chan struct{}  // one token for each open batch
	done   chan struct{}
}

// sent is a batch with its record.
type sent struct {
	batch  *batch.Batch
	record *history.Batch
	tries  int
	born   time.Time // when a producer says that it made the batch
}

// newSubmitter makes a client.
func newSubmitter(w *world, c scenario.Client) *submitter {
	rng := w.s.Rand("client " + c.Name)
	s := &submitter{w: w, c: c, rng: w.s.Rand("pauses " + c.Name), ended: make(chan struct{})}
	if flow := w.flowOf(c.Flow); flow != nil {
		s.form = forms.Of(flow.Form)
		s.drawer = forms.NewDrawer(c, s.form, rng)
	}
	for i := range s.stream {
		s.stream[i] = byte(rng.Uint32())
	}
	return s
}

// begin begins a life of the client's program, which may be killed.
func (s *submitter) begin() {
	ctx, cancel := context.WithCancel(s.w.ctx)
	l := &clientLife{net: s.w.host(s.c.Host).Process(s.c.Name), ctx: ctx, cancel: cancel, done: make(chan struct{})}
	open := s.c.Open
	if open <= 0 {
		open = 10000
	}
	l.room = make(chan struct{}, open)
	s.mu.Lock()
	s.life = l
	s.mu.Unlock()
	s.w.inWorld(func() {
		defer close(l.done)
		defer cancel()
		s.live(l)
	})
}

// live is the program of one life: it dials, submits rows until there are no more, and waits for their answers.
func (s *submitter) live(l *clientLife) {
	settings := s.w.secured()
	options := []client.Option{client.WithDialOptions(transport.Through(l.net)...)}
	if s.w.s.TLS {
		options = append(options, client.WithTLSFiles(settings.TLSCA, settings.TLSCert, settings.TLSKey), client.WithTLSServerName(serverName))
	}
	c, err := client.Dial(s.w.coordinators(s.c.To), options...)
	if err != nil {
		s.w.rec.Happened(history.Note, s.c.Name, "dial: "+err.Error())
		return
	}
	l.client = c
	switch s.c.How {
	case "call", "producer":
		s.submitCalls(l)
	case "watch":
		s.watch(l)
	case "intruder":
		l.tasks.Go(func() { s.intrude(l) })
		s.submitStream(l)
	case "redrive":
		l.tasks.Go(func() { s.redrive(l) })
		s.submitStream(l)
	case "wrong":
		l.tasks.Go(func() { s.misbehave(l) })
		s.submitStream(l)
	case "slow":
		l.tasks.Go(func() { s.dawdle(l) })
		s.submitStream(l)
	default:
		s.submitStream(l)
	}
	l.tasks.Wait()
	if err := c.Close(); err != nil && l.ctx.Err() == nil {
		s.w.rec.Happened(history.Note, s.c.Name, "close: "+err.Error())
	}
	if l.ctx.Err() == nil {
		l.net.Kill() // the program has ended
		close(s.ended)
	}
}

// kill ends the client's program at once, and waits until its goroutines have ended.
func (s *submitter) kill() {
	s.mu.Lock()
	l := s.life
	s.mu.Unlock()
	if l == nil {
		return
	}
	l.net.Kill()
	l.cancel()
	<-l.done
}

// next makes the next batch, or nil when there are no more rows.
func (s *submitter) next() *sent {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if over || s.made >= s.c.Rows {
		return nil
	}
	many := min(max(1, s.c.Batch), s.c.Rows-s.made)
	s.mu.Lock()
	s.made += many
	s.mu.Unlock()
	s.number++
	record := &history.Batch{Client: s.c.Name, Flow: s.c.Flow, Number: s.number, Results: s.c.Results}
	columns := batch.Columns{}
	if s.c.Msgpack {
		columns.Encoding = batch.MessagePack
	}
	for range many {
		d := s.drawer.Next()
		d.NoKey = d.NoKey && !s.c.Msgpack // there the client hashes the key itself, so that each row has one
		text := s.encode(&columns, d)
		columns.Append(text)
		row := history.Row{Key: d.Row.Key, N: d.Row.N, Do: d.Row.Do, Bytes: len(text), Bad: d.Bad, NoKey: d.NoKey}
		if d.NoKey {
			row.Key = ""
		}
		record.Rows = append(record.Rows, row)
		if d.Late {
			s.w.saveLate(s.c.Flow, d.Row.Key, time.Duration(1+s.chance(20))*time.Second)
		}
	}
	s.w.rec.Made(record)
	return &sent{batch: client.Pack(columns), record: record}
}

// encode returns a row in the client's encoding, and adds the hash of its key where the encoding needs it.
func (s *submitter) encode(columns *batch.Columns, d forms.Drawn) []byte {
	if !s.c.Msgpack {
		return d.Text
	}
	text := d.Text
	if !d.Bad && !d.NoKey {
		var err error
		if text, err = encodeMsgpack(&d.Row); err != nil {
			panic(err) // a Row has nothing that MessagePack can't hold
		}
	}
	if s.form.Sharded {
		field := batch.NewKeyField("key")
		key, err := field.HashValue([]byte(`"` + d.Row.Key + `"`))
		if err != nil {
			panic(err)
		}
		columns.Keys = append(columns.Keys, key)
	}
	return text
}

// encodeMsgpack writes a row in MessagePack, with the names of its JSON fields.
func encodeMsgpack(r *forms.Row) ([]byte, error) {
	var text strings.Builder
	e := msgpack.NewEncoder(&text)
	e.SetCustomStructTag("json")
	err := e.Encode(r)
	return []byte(text.String()), err
}

// options returns the options with which a batch is submitted.
func (s *submitter) options() []client.SubmitOption {
	var options []client.SubmitOption
	if !s.c.Results {
		options = append(options, client.NoOutput())
	}
	if s.c.Timeout > 0 {
		options = append(options, client.Timeout(s.c.Timeout))
	}
	return options
}

// answered notes the end of a try. A try that the end of the program has cut off is noted as gone.
func (s *submitter) answered(l *clientLife, try *history.Try, b *sent, result *client.Result, err error) {
	if l.ctx.Err() != nil && result == nil {
		s.w.rec.Gone(try, b.batch.ID())
		return
	}
	var outputs []history.Output
	if result != nil && s.c.Results {
		outputs = readOutputs(result)
	}
	s.w.rec.Answered(try, b.batch.ID(), result, outputs, err, errors.Is(err, client.ErrUnanswered))
}

// readOutputs returns the output rows of a result, without their pads.
func readOutputs(result *client.Result) []history.Output {
	rows := &result.Output.Rows
	outputs := make([]history.Output, rows.Len())
	for i := range outputs {
		text := string(rows.Row(i))
		if before, rest, ok := strings.Cut(text, `"pad":"`); ok {
			if _, after, ok := strings.Cut(rest, `"`); ok {
				text = strings.TrimSuffix(before, ",") + after
			}
		}
		outputs[i] = history.Output{Origin: result.Output.Origins[i], Row: text}
	}
	return outputs
}

// again decides whether a batch is submitted again after a try: one that is unanswered, or has failed rows. A batch that is not submitted
// again is given up. most bounds the tries.
func (s *submitter) again(l *clientLife, b *sent, result *client.Result, err error) bool {
	failed := err != nil && result == nil
	if result != nil {
		counts := result.Counts()
		failed = counts[batch.Failed] > 0
	}
	if !failed || l.ctx.Err() != nil {
		return false
	}
	const most = 8
	b.tries++
	code := batch.CodeOf(err)
	hopeless := err != nil && !code.Retryable() && !errors.Is(err, client.ErrUnanswered) || code == batch.CodeBadBatchID || code == batch.CodeRevisionGone
	if b.tries >= most || hopeless || s.chance(100) >= s.c.Again {
		l.client.GiveUp(b.batch)
		s.w.rec.GaveUp(b.record)
		return false
	}
	return true
}

// chance draws a number below n. Several goroutines of the client may call it.
func (s *submitter) chance(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

// pause waits, and reports whether the life goes on.
func (l *clientLife) pause(d time.Duration) bool {
	if d <= 0 {
		return l.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// enter waits for room for one more open batch. It returns false when the life ends first.
func (l *clientLife) enter() bool {
	select {
	case l.room <- struct{}{}:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// leave gives the room of a batch back.
func (l *clientLife) leave() { <-l.room }

// stopMaking says that the client makes no more rows.
func (s *submitter) stopMaking() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}
