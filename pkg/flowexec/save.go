package flowexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// runSave takes rows through a Save: first the function says what to write, then all of it is sent at once. A row goes on
// when its effects are there.
func (r *run) runSave(s *step, rs *rowset) {
	f := &r.x.frame
	f.Effects = f.Effects[:0]
	if s.code == nil {
		r.now = rs
		if !r.reading(r.writesOwnCode(rs), rs, func() { r.declareEffects(s, rs) }) {
			return
		}
	} else if !r.through(rs, s.code.Call) {
		return
	}
	saved := r.x.keep(rs, r.x.gone)
	r.leave(rs)
	if len(f.Effects) == 0 {
		r.pass(saved, s.index+1)
		return
	}
	effects := r.effects(s, rs)
	// From here on the rows that are gone have ended or jumped: the others share what becomes of the sending.
	rows := r.x.without(rs.len(), r.x.gone)
	r.now, r.x.gone, r.x.jumps = saved, r.x.gone[:0], r.x.jumps[:0]
	refused, err := r.send(s, effects)
	if err != nil {
		r.storeAway(s, saved, err)
		return
	}
	r.x.lane.lanes.config.Saves.saved(s.connector.Name)
	if len(refused) > 0 {
		r.refuse(s, rows, refused)
		saved = r.x.keep(saved, r.x.gone)
	}
	r.pass(saved, s.index+1)
}

// effects names what the function wrote for ever.
func (r *run) effects(s *step, rs *rowset) []connector.Effect {
	written := r.x.frame.Effects
	effects := make([]connector.Effect, len(written))
	command, last := uint32(0), -1
	for i, e := range written {
		if e.Row != last {
			command, last = 0, e.Row
		}
		row, output, visit := r.identity(s, rs, e.Row)
		effects[i] = connector.Effect{
			Op: operations[e.Op], Key: e.Key, Field: e.Field, Value: e.Value, Row: row, Output: output, Visit: visit, Command: command,
		}
		command++
	}
	return effects
}

var operations = map[kis.Op]connector.Op{
	kis.OpSet: connector.Set, kis.OpIncr: connector.Incr, kis.OpAppend: connector.Append, kis.OpDelete: connector.Delete,
}

// send sends effects, again and again while the store is away. The error is the last one when time is up; refused has, by
// the row of the frame, why its effects did not take place.
func (r *run) send(s *step, effects []connector.Effect) (refused map[int]error, err error) {
	written := r.x.frame.Effects
	cause := connector.Cause{Flow: r.plan.flow, Function: s.name, Batch: r.part.Batch, Floor: r.part.Floor, Born: r.part.Born}
	err = r.persist(s, func(ctx context.Context, c connector.Connection) error {
		verdicts, err := c.Save(ctx, cause, effects)
		if err != nil {
			return err
		}
		for i, verdict := range verdicts {
			if verdict == nil {
				continue
			}
			if refused == nil {
				refused = make(map[int]error)
			}
			if refused[written[i].Row] == nil {
				refused[written[i].Row] = verdict
			}
		}
		return nil
	})
	return refused, err
}

// openPatience is how long a run waits in its lane for a connector that opens.
const openPatience = 20 * time.Millisecond

// persist does something with the step's connector. While its store is away, a run without keys parks and tries again, with
// backoff, as long as its rows have time. With keys the error is an awayError: the rows are to park.
func (r *run) persist(s *step, do func(context.Context, connector.Connection) error) error {
	budget := r.plan.timeout
	for i := range r.now.len() {
		budget = min(budget, r.left(i))
	}
	ctx, cancel := r.limited(budget)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 10*time.Millisecond, time.Second
	for {
		err := r.tryPersist(ctx, s, do)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || !passing(err):
			return err
		case r.keyed:
			return awayError{err}
		}
		wait, last := pause.NextBackOff(), false
		if until, ok := ctx.Deadline(); ok && time.Until(until) <= wait {
			wait, last = time.Until(until), true // ctx may notice a moment later: don't ask once more until it does
		}
		if !r.rest(wait, nil, nil) || last || ctx.Err() != nil {
			return err
		}
	}
}

func (r *run) tryPersist(ctx context.Context, s *step, do func(context.Context, connector.Connection) error) (err error) {
	ctx, span := r.x.traceConnector(ctx, s)
	if span != nil {
		defer func() { endConnector(span, err) }()
	}
	opening, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	c, err := r.x.lane.lanes.connection(opening, s.connector)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, c), c.Close())
}

// awayError is that of a store which may come back.
type awayError struct{ error }

// parkAway parks rows until the step's connector is tried again. Those that have no time left end.
func (r *run) parkAway(rs *rowset, unasked batch.RowOutcome) {
	const least, most = 10 * time.Millisecond, time.Second
	now := r.x.lane.lanes.now()
	for i := range rs.len() {
		h := rs.holdOf(i)
		if r.behind(rs, i) {
			r.setAside(i, h)
			continue
		}
		wait := jitter(most / 4)
		if !h.load {
			if h.since == 0 {
				h.since = now
			}
			wait = jitter(min(max((now-h.since)/2, least), most))
		} else if h.since != notSpent {
			r.charge(rs.origin[i], min(now, h.due)-h.since)
			h.since = notSpent
		}
		if wait >= r.left(i) {
			r.lose(i, unasked)
			continue
		}
		r.charge(rs.origin[i], wait)
		if !h.load {
			h.due = now + wait
		}
		r.park(i, h).due = now + wait
	}
	r.leave(rs)
}

// passing reports whether an error of a store may pass: all do that are not known to stay.
func passing(err error) bool {
	var e *batch.Error
	return !errors.As(err, &e) || e.Code.Retryable()
}

// connection finds the connection of a connector.
func (l *Lanes) connection(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	if l.config.Connectors == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "connector %s: this process has no connectors", c.Name)
	}
	return l.config.Connectors.Get(ctx, c)
}

// storeAway parks rows whose connector could not be asked, if it may come back, else it ends them.
func (r *run) storeAway(s *step, rs *rowset, err error) {
	if r.returned {
		return
	}
	if o := r.x.stopped(); o != nil {
		r.halt(*o)
		return
	}
	if code := batch.CodeOf(err); code == batch.CodeBatchTooOld || code == batch.CodeBatchGivenUp {
		// Nobody knows any more what of it took effect.
		r.endAll(rs, batch.RowOutcome{Outcome: batch.Failed, Code: code, Attempts: 1, Reason: trimmed(err.Error())})
		return
	}
	unasked := batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeConnectorUnavailable, Attempts: 1, Reason: trimmed(fmt.Sprintf(
		"connector %s could not be asked: %v: submit the batch again when it is there", s.connector.Name, err))}
	if _, away := err.(awayError); away { //nolint:errorlint // it is never wrapped
		r.parkAway(rs, unasked)
		return
	}
	r.endAll(rs, unasked)
}

// refuse ends the rows whose effects the store refused. rows has for each row under way its row in the frame.
func (r *run) refuse(s *step, rows []uint32, refused map[int]error) {
	for _, frameRow := range slices.Sorted(maps.Keys(refused)) {
		i, ok := slices.BinarySearch(rows, uint32(frameRow))
		if !ok {
			continue
		}
		r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeSaveFailed, Attempts: 1,
			Reason: trimmed(fmt.Sprintf("connector %s refused what the row saves: %v", s.connector.Name, refused[frameRow]))})
	}
}

// declareEffects writes what the function's document says.
func (r *run) declareEffects(s *step, rs *rowset) {
	f := &r.x.frame
	names := slices.Sorted(maps.Keys(s.save.Fields))
	for i := range rs.len() {
		if !r.x.asks(i) {
			return
		}
		fields, err := r.object(rs, i)
		if err != nil {
			r.lose(i, undecodable(s, err))
			continue
		}
		start := len(f.Effects)
		key, err := keyOf(s.save.Key, fields)
		if err == nil && s.save.Op == definition.SaveDelete {
			f.Effects = append(f.Effects, kis.Effect{Op: kis.OpDelete, Key: key, Row: i})
		}
		for _, name := range names {
			var value string
			if err != nil {
				break
			}
			if value, err = textOf(fields, s.save.Fields[name]); err == nil {
				f.Effects = append(f.Effects, kis.Effect{Op: declaredOps[s.save.Op], Key: key, Field: name, Value: value, Row: i})
			}
		}
		if err != nil {
			f.Effects = f.Effects[:start]
			r.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeMissingField, Attempts: 1, Reason: trimmed(err.Error())})
		}
	}
}

var declaredOps = map[definition.SaveOp]kis.Op{
	definition.SaveSet: kis.OpSet, definition.SaveIncr: kis.OpIncr, definition.SaveAppend: kis.OpAppend,
}

func undecodable(s *step, err error) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Attempts: 1,
		Reason: trimmed(fmt.Sprintf("%s needs the row's fields, and it is no JSON object: %v", s.name, err))}
}

// keyOf fills a key with a row's fields.
func keyOf(t definition.Template, fields object) (string, error) {
	var key []byte
	for _, part := range t.Parts {
		key = append(key, part.Literal...)
		if part.Field == "" {
			continue
		}
		text, err := textOf(fields, part.Field)
		if err != nil {
			return "", fmt.Errorf("the key %s: %w", t.Text, err)
		}
		key = append(key, text...)
	}
	return string(key), nil
}

// textOf is a field as connectors store it.
func textOf(fields object, name string) (string, error) {
	raw, ok := fields.field(name)
	if !ok {
		return "", fmt.Errorf("the row lacks the field %s", name)
	}
	if raw[0] != '"' {
		return string(raw), nil
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return text, err
}
