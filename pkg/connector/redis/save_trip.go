package redis

import (
	"context"
	"fmt"
	"slices"

	goredis "github.com/redis/go-redis/v9"
)

// saveTrip is the trip of a batch of Saves. One sender owns it. It sends script parts, and each part goes through these states:
//
//	          sent, with other parts      answered: each effect took place,
//	(new) ----------in one script-------> or has its verdict
//	  ^  |                   |
//	  |  | a fault of the    | an error that does not tell whose fault it is
//	  +--+ store: sent       v
//	       again after     alone: the effects of each key in a script of their own, and beside
//	       a pause         them a control, which does the same to a key of ours
//	                         |              |
//	       the control fails:|              | the control takes place:
//	       the store's fault |              | the effects' own fault
//	                         v              v
//	                       sent again     answered: the effects have their verdict
//	                       after a pause
type saveTrip struct {
	conn       *Connection
	reqs       []*request // the requests whose callers wait
	over       []*request // the requests whose callers have their answer
	sendSource bool       // Redis does not know the script by its SHA: send its source
	noScript   bool       // that came out at the last attempt, so that parts without an answer are not at fault
	scripts    []*script  // those of the attempt under way
	// controls are the parts that are sent beside parts that are alone, by their operation. They use keys of KisGrid's own.
	controls    map[byte]*scriptPart
	replicas    *goredis.IntCmd          // WAIT; nil if the document asks for no replicas
	subscribers *goredis.MapStringIntCmd // PUBSUB NUMSUB of the presence channel; nil on a Cluster
}

// script is one EVAL or EVALSHA command, and the parts that it carries out.
type script struct {
	*goredis.SliceCmd
	parts   []*scriptPart
	byName  bool // it is EVALSHA
	control bool // it carries out one of saveTrip.controls
}

// sendSaves makes one round trip of a batch of Saves, and finishes them.
func (c *Connection) sendSaves(ctx context.Context, reqs []*request) {
	t := &saveTrip{conn: c, reqs: slices.Clone(reqs)}
	var tail []goredis.Cmder
	if c.options.replicas > 0 {
		t.replicas = goredis.NewIntCmd(ctx, "wait", c.options.replicas, c.options.replicaTimeout.Milliseconds())
		tail = append(tail, t.replicas)
	}
	if c.cluster == nil {
		t.subscribers = goredis.NewMapStringIntCmd(ctx, "pubsub", "numsub", c.watched.presence)
		tail = append(tail, t.subscribers)
	}
	c.roundTrip(ctx, "save", t, tail...)
	c.saves.finish(t.reqs, "saving")
	t.notify(ctx, t.reqs)
}

// commands implements trip: it makes scripts of the parts that Redis has not answered. A script carries out several parts; on a Cluster
// it carries out one, since a script must stay within one slot.
func (t *saveTrip) commands(ctx context.Context) []goredis.Cmder {
	t.scripts = t.scripts[:0]
	var commands []goredis.Cmder
	var parts []*scriptPart
	effects := 0
	put := func() {
		if len(parts) > 0 {
			s := &script{t.command(ctx, parts), parts, !t.sendSource, false}
			t.scripts, commands = append(t.scripts, s), append(commands, s.SliceCmd)
			parts, effects = nil, 0
		}
	}
	for _, req := range t.reqs {
		next, all := req.next()
		for _, part := range next {
			if t.conn.cluster != nil || part.alone || effects+len(part.keys) > maxPart {
				put()
			}
			parts, effects = append(parts, part), effects+len(part.keys)
			if part.alone {
				put()
			}
		}
		if !all {
			break // later requests wait too, so that all keep their order
		}
	}
	put()
	if len(commands) > 0 {
		for _, part := range t.controls {
			if !part.answered {
				parts = append(parts, part)
				put()
				t.scripts[len(t.scripts)-1].control = true
			}
		}
	}
	return commands
}

// next returns the parts of a request that are to be sent now. all is false if further parts follow in a later turn.
func (r *request) next() (parts []*scriptPart, all bool) {
	if r.abandoned() {
		return nil, true
	}
	var turns map[int]int // the turn of each slot; used only if a slot has several
	if r.lastTurn > 0 {
		turns = make(map[int]int)
	}
	for _, part := range r.parts {
		if part.answered {
			continue
		}
		parts = append(parts, part)
		if r.lastTurn > 0 {
			if turn, ok := turns[part.slot]; !ok || part.turn < turn {
				turns[part.slot] = part.turn
			}
		}
	}
	if r.lastTurn == 0 {
		return parts, true
	}
	left := len(parts)
	parts = slices.DeleteFunc(parts, func(part *scriptPart) bool { return part.turn > turns[part.slot] })
	return parts, len(parts) == left
}

// command makes the EVAL or EVALSHA command that carries out parts. The file save.lua says which arguments the script takes.
func (t *saveTrip) command(ctx context.Context, parts []*scriptPart) *goredis.SliceCmd {
	keys, values := 0, 0
	for _, part := range parts {
		keys, values = keys+1+len(part.keys), values+len(part.args)
	}
	windows := t.conn.windows.scriptKeys()
	args := make([]any, 0, 6+keys+values)
	if t.sendSource {
		args = append(args, "eval", saveScript.source, len(windows)+keys)
	} else {
		args = append(args, "evalsha", saveScript.sha, len(windows)+keys)
	}
	args = append(args, windows...)
	for _, part := range parts {
		args = append(append(args, part.record), part.keys...)
	}
	args = append(args, max(1, t.conn.windows.keepFor().Milliseconds()), len(windows))
	for _, part := range parts {
		args = append(args, part.args...)
	}
	return goredis.NewSliceCmd(ctx, args...)
}

// settle implements trip. In this order it reads the answers, asks whether enough replicas have the result, judges the parts that were
// sent alone, reports to the connection's health, and lets callers go.
func (t *saveTrip) settle(ctx context.Context) error {
	t.noScript = false
	for _, s := range t.scripts {
		t.read(s)
	}
	unsure := t.unsure()
	for _, s := range t.scripts {
		for _, part := range s.parts {
			if part.answered && unsure != nil {
				part.req.unsure = unsure
			}
		}
	}
	failed := t.judge()
	switch {
	case failed != nil:
		t.conn.health.refusesSaves(failed.err, failed.slot, failed.letters[0]|capital)
		if faultOf(failed.err) == keyFault {
			t.conn.windows.expire() // each script names the key of the once-windows, which may be the key it is about
		}
	case unsure != nil:
		pointUnsure.Hit()
		t.conn.health.note(saves, unsure, 0, letterSet)
	default:
		t.conn.health.takesSaves(t.carriedOut)
	}
	t.letGo(ctx)
	if failed != nil {
		return failed.err
	}
	return nil
}

// unsure returns an error if too few replicas have the effects of the last attempt: fewer than the document asks for. The effects
// could be lost with the master.
func (t *saveTrip) unsure() error {
	if t.replicas == nil {
		return nil
	}
	n, err := t.replicas.Result()
	if err == nil && n < int64(t.conn.options.replicas) {
		err = fmt.Errorf("%d of %d replicas had it after %v", n, t.conn.options.replicas, t.conn.options.replicaTimeout)
	}
	return err
}

// read takes the answer to a script, and notes for each of the script's parts whether it was carried out, and with which error if not.
func (t *saveTrip) read(s *script) {
	answer, err := s.Result()
	if err == nil && !isAnswerFor(answer, s.parts) {
		err = answerError(fmt.Sprintf("the answer is not one of the Save script: %.100q", fmt.Sprint(answer...)))
	}
	if isNoScript(err) && s.byName {
		pointNoScript.Hit()
		t.sendSource, t.noScript = true, true
		for _, part := range s.parts {
			part.err = nil
		}
		return
	}
	for _, part := range s.parts {
		part.err, part.answered, part.tried, part.first = err, err == nil, part.alone, false
	}
	switch f := faultOf(err); {
	case s.control:
		s.parts[0].answered = err == nil && len(answer) == 1
	case f == noFault:
		t.readAnswer(s, answer)
	case f != storeFault:
		for _, part := range s.parts { // the error does not tell whose fault it is
			if !part.alone {
				t.split(part, everyPlace(part))
			}
		}
	}
}

// readAnswer notes which parts, and which effects of the other parts, did not take place, as the answer of a script says.
func (t *saveTrip) readAnswer(s *script, answer []any) {
	var left map[*scriptPart][]leftEffect
	for i := 1; i < len(answer); i += 2 {
		n, text := answer[i].(int64), answer[i+1].(string)
		if n < 0 {
			s.parts[-n-1].readAll(text)
			continue
		}
		place, of := int(n-1), 0
		for place >= len(s.parts[of].keys) {
			place -= len(s.parts[of].keys)
			of++
		}
		if left == nil {
			left = make(map[*scriptPart][]leftEffect)
		}
		left[s.parts[of]] = append(left[s.parts[of]], leftEffect{place, text})
	}
	for part, effects := range left {
		t.readEffects(part, effects)
	}
}

// isAnswerFor reports whether an answer has the form of one of the Save script, for these parts: the number of parts, then pairs of a
// number and a text.
func isAnswerFor(answer []any, parts []*scriptPart) bool {
	if len(answer)%2 == 0 || answer[0] != int64(len(parts)) {
		return false
	}
	effects := 0
	for _, part := range parts {
		effects += len(part.keys)
	}
	for i := 1; i < len(answer); i += 2 {
		n, isNumber := answer[i].(int64)
		_, isText := answer[i+1].(string)
		if !isNumber || !isText || n == 0 || n > int64(effects) || n < -int64(len(parts)) {
			return false
		}
	}
	return true
}

// superseded is the text with which the Save script says that a later term of a part's log has begun.
const superseded = "LOG_SUPERSEDED"

// readAll notes that no effect of a part took place. An empty why means that the batch lies below the floor of its stream. Else the
// script could not read or write the part's record, and why is Redis's error: the part is sent again, alone.
func (p *scriptPart) readAll(why string) {
	if why == "" {
		pointGivenUp.Hit()
		p.givenUp = true
		return
	}
	if why == superseded {
		pointSuperseded.Hit()
		p.over = true
		return
	}
	p.err, p.answered, p.alone = answerError(why), false, true
}

// leftEffect is an effect that did not take place, as the answer of the Save script names it.
type leftEffect struct {
	place int    // in its part
	why   string // Redis's error; empty if the effect was not tried, because an earlier one on its key failed
}

// readEffects notes which effects of a part did not take place. An effect that itself is to blame gets its verdict. Any other of these
// effects, and the effects behind it on the same key, which the script did not try, become new parts, one for each key.
func (t *saveTrip) readEffects(p *scriptPart, left []leftEffect) {
	var places []int
	failures := make(map[string]error) // by key
	for _, e := range left {
		err := answerError(e.why)
		if e.why != "" && faultOf(err) == rowFault {
			p.refuse(t.conn, e.place, err)
			continue
		}
		if key := *p.keys[e.place].(*string); failures[key] == nil {
			failures[key] = err
		}
		places = append(places, e.place)
	}
	if len(places) == 0 {
		return
	}
	tried := p.tried
	for _, part := range t.split(p, places) {
		part.err, part.tried, part.first = failures[*part.keys[0].(*string)], tried, true
	}
}

// partly implements trip: it reports whether Redis has carried out any part.
func (t *saveTrip) partly() bool {
	if len(t.over) > 0 {
		return true
	}
	for _, req := range t.reqs {
		if slices.ContainsFunc(req.parts, func(part *scriptPart) bool { return part.answered }) {
			return true
		}
	}
	return false
}

// letGo finishes the requests whose parts are all answered, and wakes the Watchers of their keys.
func (t *saveTrip) letGo(ctx context.Context) {
	var over []*request
	t.reqs = slices.DeleteFunc(t.reqs, func(req *request) bool {
		left := slices.ContainsFunc(req.parts, func(part *scriptPart) bool { return !part.answered })
		if !left {
			over = append(over, req)
		}
		return !left
	})
	if len(over) > 0 {
		t.conn.saves.finish(over, "saving")
		t.notify(ctx, over)
		t.over = append(t.over, over...)
	}
}

// notify wakes the Watchers of the keys that requests have saved. The command PUBSUB at the end of the round trip tells whether other
// processes wait for keys. On a Cluster each node knows its own subscribers only, so publish asks all nodes.
func (t *saveTrip) notify(ctx context.Context, reqs []*request) {
	elsewhere := true
	if t.subscribers != nil {
		n, err := t.subscribers.Result()
		elsewhere = n[t.conn.watched.presence] > 0 || err != nil && !goredis.IsPermissionError(err)
		t.conn.watched.warnIfDenied(err)
	}
	t.conn.watched.saved(ctx, reqs, elsewhere)
}
