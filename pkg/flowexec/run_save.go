package flowexec

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// saving takes rows through a Save. The function says for each row which effects it has on the connector, and the effects of all
// rows are sent in one call. A row goes on to the next step when its effects have taken place.
type saving struct {
	st  *stepRun
	run *run
	x   *executor
}

// save takes the rows of rs through the Save step s. The function is not called again for rows that have parked since it said
// their effects: those effects are sent once more, unless the connector has answered.
func (sv *saving) save(s *step, rs *rows.Set) {
	f := &sv.x.frame
	f.Effects = f.Effects[:0]
	if s.code == nil {
		sv.st.rs = rs
		if !sv.st.reading(sv.x.reader.RunsOwnCodeToWrite(rs), rs, func() { sv.declare(s, rs) }) {
			return
		}
	} else if !sv.st.callEach(rs, s.code.Call, true) {
		return
	}
	saved := sv.x.mem.Keep(rs, sv.st.gone)
	sv.st.send(rs, nil)
	// The rows that are gone now have ended, jumped or parked.
	places := sv.x.mem.Without(rs.Len(), sv.st.gone)
	sv.st.rs, sv.st.gone, sv.st.jumps = saved, sv.st.gone[:0], sv.st.jumps[:0]
	if len(f.Effects) > 0 || alongOf(saved) != nil && alongOf(saved).keeps != nil {
		if !sv.sendEffects(s, rs, places) {
			return
		}
		saved = sv.x.mem.Keep(saved, sv.st.gone)
	}
	sv.run.queue(saved, s.Index+1)
}

// sendEffects sends the effects of the rows that are left after the function's calls (st.rs) to the connector, and ends or parks
// rows that do not go on. rs are the rows that the function was called for, and places has for each row of st.rs its place in rs.
// It returns false if no row goes on, because the run is over or its connector could not be asked.
func (sv *saving) sendEffects(s *step, rs *rows.Set, places []uint32) bool {
	written := sv.x.frame.Effects
	effects := sv.effects(s, rs)
	cause := connector.Cause{Flow: sv.run.plan.flow, Function: s.Name, Batch: sv.run.part.Batch, Floor: sv.run.part.Floor, Born: sv.run.part.Born}
	if log := sv.run.part.Log; log != nil {
		cause.Log = &connector.Log{ID: log.Log, Term: log.Term, Floor: log.Floor}
	}
	saves := sv.x.lane.lanes.config.Saves
	do := func(ctx context.Context, c connector.Connection) (asked, error) { // the call may outlast the run
		verdicts, err := c.Save(ctx, cause, effects)
		if err == nil {
			saves.saved(s.connector.Name)
		}
		return asked{verdicts: verdicts}, err
	}
	if !sv.run.keyed {
		answer, over, ok := sv.st.asking.persist(s, do)
		if !ok {
			sv.st.asking.storeAway(answer.err)
			return false
		}
		for i, row := range places {
			from, to := effectsOf(written, row)
			if over[i] {
				sv.st.lose(i, sv.st.asking.unasked(nil))
			} else {
				sv.settleRow(s, i, answer.verdicts, from, to)
			}
		}
		return true
	}
	var a *ask
	began, answered := sv.x.lane.lanes.clock.now(), true
	if len(effects) > 0 {
		a = sv.st.asking.ask(s, sv.run.budgets.most(), do)
		began, answered = sv.st.asking.soon(a, began)
	}
	if o := sv.x.stopped(); o != nil {
		if a != nil {
			a.cancel()
		}
		sv.st.halt(*o)
		return false
	}
	now := sv.st.rs
	for i, row := range places {
		k := keptOf(now, i)
		from, to := effectsOf(written, row)
		switch {
		case k.answered():
		case from == to:
			k = &kept{since: began} // the row has no effects: it may only be behind others
		case k == nil:
			k = &kept{said: said{effects: slices.Clone(written[from:to])}, ask: a, from: from, since: began}
		default:
			again := *k
			again.ask, again.from, again.since = a, from, began
			k = &again
		}
		switch {
		case sv.run.parking.behind(now, i), from < to && !answered:
			sv.st.asking.parkAsking(i, *k)
		case k.ask == nil:
		case k.ask.asked.err != nil:
			sv.st.asking.askAgain(i, *k, k.ask.asked.err)
		default:
			sv.settleRow(s, i, k.ask.asked.verdicts, k.from, k.from+len(k.effects))
		}
	}
	sv.st.send(now, nil)
	return true
}

// effectsOf returns where the effects of one row stand in written: from written[from] to before written[to]. written is sorted by
// row.
func effectsOf(written []kis.Effect, row uint32) (from, to int) {
	byRow := func(e kis.Effect, row int) int { return e.Row - row }
	from, _ = slices.BinarySearchFunc(written, int(row), byRow)
	for to = from; to < len(written) && written[to].Row == int(row); to++ {
	}
	return from, to
}

// settleRow ends row i if the connector has refused one of its effects. verdicts[from:to] are the connector's answers to the row's
// effects; nil verdicts mean that all effects have taken place.
func (sv *saving) settleRow(s *step, i int, verdicts []error, from, to int) {
	if verdicts == nil {
		return
	}
	for _, refused := range verdicts[from:to] {
		if refused != nil {
			sv.st.lose(i, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeSaveFailed, Attempts: 1,
				Reason: decode.Trimmed(fmt.Sprintf("connector %s refused what the row saves: %v", s.connector.Name, refused))})
			return
		}
	}
}

// effects makes the connector's effects of those that the function wrote for rows of rs. It gives each effect a name that stays
// the same when the batch runs again: the identity of its row, and its number among the row's effects. A connector that has seen
// the name leaves the effect out.
func (sv *saving) effects(s *step, rs *rows.Set) []connector.Effect {
	written := sv.x.frame.Effects
	effects := make([]connector.Effect, len(written))
	command, last := uint32(0), -1
	for i, e := range written {
		if e.Row != last {
			command, last = 0, e.Row
		}
		row, output, visit := sv.run.identity(s, rs, e.Row)
		effects[i] = connector.Effect{
			Op: operations[e.Op], Key: e.Key, Field: e.Field, Value: e.Value, Row: row, Output: output, Visit: visit, Command: command,
		}
		if at, ok := sv.run.position(rs, e.Row); ok {
			effects[i].Row, effects[i].Position = 0, at
		}
		command++
	}
	return effects
}

// operations has the connector's operation for each operation of package kis.
var operations = map[kis.Op]connector.Op{
	kis.OpSet: connector.Set, kis.OpIncr: connector.Incr, kis.OpAppend: connector.Append, kis.OpDelete: connector.Delete,
}

// storeAway ends the current step's rows in a run without keys, because their connector could not be asked: err says why, nil
// means that it did not answer. If the run was given back, it does nothing; if the run was cancelled, it halts the run.
func (q *asking) storeAway(err error) {
	if q.run.returned {
		return
	}
	if o := q.x.stopped(); o != nil {
		q.st.halt(*o)
		return
	}
	q.st.whole.endAll(q.st.rs, q.refusedFor(err))
}

// declare appends the effects of each row to the frame's Effects, for a Save without Go code: it makes them as the function's
// document says. Rows for which that fails end.
func (sv *saving) declare(s *step, rs *rows.Set) {
	f := &sv.x.frame
	names := slices.Sorted(maps.Keys(s.save.Fields))
	plain := s.effects == nil || s.effects.key == nil || len(s.effects.values) < len(names)
	for i := range rs.Len() {
		if !sv.x.asks(i) {
			return
		}
		if sv.st.asking.stillWaits(rs, i) || sv.st.saysAgain(i) {
			continue
		}
		row, err := sv.st.effectRow(s, rs, i, plain)
		if err != nil {
			row.done()
			sv.st.lose(i, unreadable(s, err, rs.Born != sv.run.part.Start))
			continue
		}
		start := len(f.Effects)
		key, err := row.key(s.save.Key)
		if err == nil && s.save.Op == definition.SaveDelete {
			f.Effects = append(f.Effects, kis.Effect{Op: kis.OpDelete, Key: key, Row: i})
		}
		for _, name := range names {
			var value string
			if err != nil {
				break
			}
			if value, err = row.value(name, s.save.Fields[name]); err == nil {
				f.Effects = append(f.Effects, kis.Effect{Op: declaredOps[s.save.Op], Key: key, Field: name, Value: value, Row: i})
			}
		}
		row.done()
		if err != nil {
			f.Effects = f.Effects[:start]
			sv.st.lose(i, effectOutcome(err))
		}
	}
}

// declaredOps has the operation that writes one field, for each op of a Save's document. SaveDelete is not in it, because it
// writes no field.
var declaredOps = map[definition.SaveOp]kis.Op{
	definition.SaveSet: kis.OpSet, definition.SaveIncr: kis.OpIncr, definition.SaveAppend: kis.OpAppend,
}

// undecodable returns the outcome of a row that is no JSON object, in a step that needs its fields. err says what is wrong with
// the row.
func undecodable(s *step, err error) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Attempts: 1,
		Reason: decode.Trimmed(fmt.Sprintf("%s needs the row's fields, and it is no JSON object: %v", s.Name, err))}
}

// keyOf returns the key that a document's template makes of a row's fields. The error says which field is missing or can't be in a
// key.
func keyOf(t definition.Template, fields decode.Object) (string, error) {
	var key []byte
	for _, part := range t.Parts {
		key = append(key, part.Literal...)
		if part.Field == "" {
			continue
		}
		text, err := textOf(fields, part.Field)
		if part.ByValue {
			text, err = valueOf(fields, part.Field)
		}
		if err != nil {
			return "", fmt.Errorf("the key %s: %w", t.Text, err)
		}
		key = append(key, text...)
	}
	return string(key), nil
}

// textOf returns a row's field as connectors store it: a JSON string as the text itself, other values as their JSON. It returns an
// error if the row lacks the field.
func textOf(fields decode.Object, name string) (string, error) {
	raw, ok := fields.Field(name)
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

// valueOf returns a row's field as it stands in a key that goes by value (see batch.KeyText): 1 and 1.0 are the same there. It
// returns an error if the row lacks the field, or the value can't be in a key.
func valueOf(fields decode.Object, name string) (string, error) {
	raw, ok := fields.Field(name)
	if !ok {
		return "", fmt.Errorf("the row lacks the field %s", name)
	}
	text, err := batch.KeyText(raw)
	if err != nil {
		err = fmt.Errorf("the field %s can't be in a key by its value: %w", name, err)
	}
	return text, err
}
