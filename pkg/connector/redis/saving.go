package redis

import (
	"context"
	"fmt"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// saving is a round trip of Saves on its way. One sender owns it.
//
// A share's way: sent, with others in one script; answered, mostly. If not, the answer tells why. An effect's own fault is its
// verdict. A fault of the store has the share sent again, after a pause. With all other answers the effects are sent once more,
// those of each key in a script of their own, beside others of the same operations: where these take place, it was the
// effects' own fault, else it is the store's.
type saving struct {
	conn    *Connection
	calls   []*call // that have not been let go
	over    []*call // that have
	source  bool    // Redis does not know the script by its name
	untold  bool    // that came out only now
	scripts []*script
	beside  map[byte]*share // by operation: what is sent beside shares that are alone
	copies  *goredis.IntCmd // WAIT
	listens *goredis.MapStringIntCmd
}

// script is one command, and the shares that it carries out.
type script struct {
	*goredis.SliceCmd
	shares []*share
	byName bool
	probe  bool // it is sent beside others, and nobody waits for it
}

// sendSaves is a round trip of Saves.
func (c *Connection) sendSaves(ctx context.Context, calls []*call) {
	t := &saving{conn: c, calls: slices.Clone(calls)}
	var tail []goredis.Cmder
	if c.options.replicas > 0 {
		t.copies = goredis.NewIntCmd(ctx, "wait", c.options.replicas, c.options.replicaTimeout.Milliseconds())
		tail = append(tail, t.copies)
	}
	if c.cluster == nil {
		t.listens = goredis.NewMapStringIntCmd(ctx, "pubsub", "numsub", c.waits.anybody)
		tail = append(tail, t.listens)
	}
	c.roundTrip(ctx, "save", t, tail...)
	c.finish(t.calls, "saving")
	t.tell(ctx, t.calls)
}

// commands makes scripts of what Redis has not done: of several shares each, but on a Cluster, where a script stays within a slot.
func (t *saving) commands(ctx context.Context) []goredis.Cmder {
	t.scripts = t.scripts[:0]
	var commands []goredis.Cmder
	var shares []*share
	effects := 0
	put := func() {
		if len(shares) > 0 {
			s := &script{t.command(ctx, shares), shares, !t.source, false}
			t.scripts, commands = append(t.scripts, s), append(commands, s.SliceCmd)
			shares, effects = nil, 0
		}
	}
	for _, call := range t.calls {
		next, all := call.next()
		for _, s := range next {
			if t.conn.cluster != nil || s.alone || effects+len(s.keys) > maxShare {
				put()
			}
			shares, effects = append(shares, s), effects+len(s.keys)
			if s.alone {
				put()
			}
		}
		if !all {
			break // the calls behind it keep their turn, too
		}
	}
	put()
	if len(commands) > 0 {
		for _, s := range t.beside {
			if !s.answered {
				shares = append(shares, s)
				put()
				t.scripts[len(t.scripts)-1].probe = true
			}
		}
	}
	return commands
}

// next are the call's shares that are to be sent now; all is false where others are to follow in a later turn.
func (c *call) next() (shares []*share, all bool) {
	if c.abandoned() {
		return nil, true
	}
	var first map[int]int // by slot, the turn that is on; of calls with several
	if c.turns > 0 {
		first = make(map[int]int)
	}
	for _, s := range c.shares {
		if s.answered {
			continue
		}
		shares = append(shares, s)
		if c.turns > 0 {
			if turn, ok := first[s.slot]; !ok || s.turn < turn {
				first[s.slot] = s.turn
			}
		}
	}
	if c.turns == 0 {
		return shares, true
	}
	left := len(shares)
	shares = slices.DeleteFunc(shares, func(s *share) bool { return s.turn > first[s.slot] })
	return shares, len(shares) == left
}

// command is the script for shares.
func (t *saving) command(ctx context.Context, shares []*share) *goredis.SliceCmd {
	keys, values := 0, 0
	for _, s := range shares {
		keys, values = keys+1+len(s.keys), values+len(s.args)
	}
	windows := t.conn.windowKeys()
	args := make([]any, 0, 6+keys+values)
	if t.source {
		args = append(args, "eval", saveScript.source, len(windows)+keys)
	} else {
		args = append(args, "evalsha", saveScript.sha, len(windows)+keys)
	}
	args = append(args, windows...)
	for _, s := range shares {
		args = append(append(args, s.record), s.keys...)
	}
	args = append(args, max(1, t.conn.windows.kept().Milliseconds()), len(windows))
	for _, s := range shares {
		args = append(args, s.args...)
	}
	return goredis.NewSliceCmd(ctx, args...)
}

// settle takes in what Redis said.
func (t *saving) settle(ctx context.Context) error {
	t.untold = false
	for _, s := range t.scripts {
		t.read(s)
	}
	unsure := t.unsure()
	for _, s := range t.scripts {
		for _, share := range s.shares {
			if share.answered && unsure != nil {
				share.call.unsure = unsure
			}
		}
	}
	failed := t.judge()
	switch {
	case failed != nil:
		t.conn.refusesSaves(failed.err, failed.slot, failed.letters[0]|capital)
		if faultOf(failed.err) == keyFault {
			t.conn.doubtWindows() // each script names their key
		}
	case unsure != nil:
		t.conn.note(saves, unsure, 0, letterSet)
	default:
		t.conn.takesSaves(t.carriedOut)
	}
	t.letGo(ctx)
	if failed != nil {
		return failed.err
	}
	return nil
}

// unsure is why what Redis answered now may be lost with its master; nil where that was not to be known.
func (t *saving) unsure() error {
	if t.copies == nil {
		return nil
	}
	n, err := t.copies.Result()
	if err == nil && n < int64(t.conn.options.replicas) {
		err = fmt.Errorf("%d of %d replicas had it after %v", n, t.conn.options.replicas, t.conn.options.replicaTimeout)
	}
	return err
}

// read tells the shares of a script what Redis said.
func (t *saving) read(s *script) {
	answer, err := s.Result()
	if err == nil && !fits(answer, s.shares) {
		err = answerError(fmt.Sprintf("the script's answer is none: %.100q", fmt.Sprint(answer...)))
	}
	if isNoScript(err) && s.byName {
		t.source, t.untold = true, true
		for _, share := range s.shares {
			share.err = nil
		}
		return
	}
	for _, share := range s.shares {
		share.err, share.answered, share.tried, share.first = err, err == nil, share.alone, false
	}
	switch f := faultOf(err); {
	case s.probe:
		s.shares[0].answered = err == nil && len(answer) == 1
	case f == noFault:
		t.readAnswer(s, answer)
	case f != storeFault:
		for _, share := range s.shares { // it does not tell whose fault it is
			if !share.alone {
				t.apart(share, everyPlace(share))
			}
		}
	}
}

// readAnswer takes in which parts and effects did not take place.
func (t *saving) readAnswer(s *script, answer []any) {
	var left map[*share][]leftEffect
	for i := 1; i < len(answer); i += 2 {
		n, text := answer[i].(int64), answer[i+1].(string)
		if n < 0 {
			s.shares[-n-1].readAll(text)
			continue
		}
		place, of := int(n-1), 0
		for place >= len(s.shares[of].keys) {
			place -= len(s.shares[of].keys)
			of++
		}
		if left == nil {
			left = make(map[*share][]leftEffect)
		}
		left[s.shares[of]] = append(left[s.shares[of]], leftEffect{place, text})
	}
	for share, effects := range left {
		t.readEffects(share, effects)
	}
}

// fits reports that an answer is one of our script, on these shares.
func fits(answer []any, shares []*share) bool {
	if len(answer)%2 == 0 || answer[0] != int64(len(shares)) {
		return false
	}
	effects := 0
	for _, s := range shares {
		effects += len(s.keys)
	}
	for i := 1; i < len(answer); i += 2 {
		n, isNumber := answer[i].(int64)
		_, isText := answer[i+1].(string)
		if !isNumber || !isText || n == 0 || n > int64(effects) || n < -int64(len(shares)) {
			return false
		}
	}
	return true
}

func everyPlace(s *share) []int {
	places := make([]int, len(s.keys))
	for i := range places {
		places[i] = i
	}
	return places
}

// readAll takes in that nothing of a share took place, because of its record.
func (s *share) readAll(why string) {
	if why == "" {
		s.givenUp = true
		return
	}
	s.err, s.answered, s.alone = answerError(why), false, true
}

// leftEffect is an effect that did not take place, by its place in its share, and why.
type leftEffect struct {
	place int
	why   string
}

// readEffects takes in which effects of a share did not take place. The script has done nothing more to the key of one that failed
// by a fault that is not its own.
func (t *saving) readEffects(s *share, left []leftEffect) {
	var places []int
	failures := make(map[string]error) // by key
	for _, e := range left {
		err := answerError(e.why)
		if e.why != "" && faultOf(err) == rowFault {
			s.refuse(t.conn, e.place, err)
			continue
		}
		if key := *s.keys[e.place].(*string); failures[key] == nil {
			failures[key] = err
		}
		places = append(places, e.place)
	}
	if len(places) == 0 {
		return
	}
	tried := s.tried
	for _, share := range t.apart(s, places) {
		share.err, share.tried, share.first = failures[*share.keys[0].(*string)], tried, true
	}
}

// apart takes effects out of a share, in shares of one key each that are sent alone. It is told their places in order.
func (t *saving) apart(s *share, places []int) (apart []*share) {
	byKey := make(map[string][]int)
	var keys []string
	for _, place := range places {
		key := *s.keys[place].(*string)
		if _, known := byKey[key]; !known {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], place)
	}
	for _, key := range keys {
		share := s.take(byKey[key])
		share.alone, share.err = true, s.err
		apart = append(apart, share)
	}
	rest := slices.DeleteFunc(everyPlace(s), func(place int) bool {
		_, taken := slices.BinarySearch(places, place)
		return taken
	})
	*s = *s.take(rest)
	s.answered = true
	s.call.shares = append(s.call.shares, apart...)
	return apart
}

// refuse has a share that was sent alone end with its error as the verdict: on its first effect, after which the others are tried,
// or on each.
func (t *saving) refuse(s *share) {
	if s.first && len(s.keys) > 1 {
		s.refuse(t.conn, 0, s.err)
		rest := s.take(everyPlace(s)[1:])
		rest.alone = true
		s.call.shares = append(s.call.shares, rest)
	} else {
		for place := range s.keys {
			s.refuse(t.conn, place, s.err)
		}
	}
	s.err, s.answered = nil, true
}

// judge decides whose fault it was that shares which were tried alone did not take place, and has others sent beside those that
// are to be tried alone. It returns a share that failed by the store's fault.
func (t *saving) judge() (failed *share) {
	for _, call := range t.calls {
		if call.abandoned() {
			continue
		}
		for _, s := range call.shares {
			if s.answered {
				continue
			}
			if s.alone {
				t.accompany(s)
			}
			switch f := faultOf(s.err); {
			case f == noFault, f != storeFault && (!s.tried || t.untold):
			case f == rowFault, f != storeFault && t.tookPlace(s):
				t.refuse(s)
			case failed == nil:
				failed = s
			}
		}
	}
	return failed
}

// accompany has an effect of each of the share's operations sent beside it, on a key of our own in its slot, which is removed at
// once.
func (t *saving) accompany(s *share) {
	for _, letter := range s.letters {
		letter |= capital
		if t.beside[letter] != nil || t.done(letter) {
			continue
		}
		if t.beside == nil {
			t.beside = make(map[byte]*share)
		}
		t.beside[letter] = t.conn.probe(s.slot, letter).shares[0]
	}
}

// probe is a Save that leaves nothing behind: an operation on a key of our own in a slot, and its removal.
func (c *Connection) probe(slot int, letter byte) *call {
	key := c.probeKey(slot)
	effects := []connector.Effect{{Key: key, Field: "probe", Value: "1"}, {Op: connector.Delete, Key: key}}
	switch letter {
	case letterAdd:
		effects[0].Op = connector.Incr
	case letterAddDecimal:
		effects[0].Op, effects[0].Value = connector.Incr, "0.5"
	case letterAppend:
		effects[0].Op = connector.Append
	case letterDelete:
		effects = effects[1:]
	default:
		effects[0].Op = connector.Set
	}
	call, err := c.encode(&connector.Cause{}, effects)
	if err != nil {
		panic(err) // these operations exist
	}
	for _, s := range call.shares {
		s.alone = true
	}
	return call
}

// probeKey is the key of probes in a slot, without the connector's prefix. No row has it.
func (c *Connection) probeKey(slot int) string {
	tag := ""
	if c.cluster != nil {
		tag = slotTags()[slot]
	}
	return connector.ProbeKey(tag)
}

// tookPlace reports that Redis carried out in this trip what a share that was tried alone asked for, for somebody else.
func (t *saving) tookPlace(s *share) bool {
	letters := s.letters
	if s.first {
		letters = letters[:1]
	}
	for _, letter := range letters {
		if !t.done(letter | capital) {
			return false
		}
	}
	return true
}

// done reports that Redis carried out such an operation in this trip.
func (t *saving) done(letter byte) bool {
	beside := t.beside[letter]
	return beside != nil && beside.answered || t.carriedOut(-1, letter)
}

// carriedOut reports that Redis carried out such an operation for one of the trip's callers, in a slot; -1: in any.
func (t *saving) carriedOut(slot int, letter byte) bool {
	for _, calls := range [][]*call{t.over, t.calls} {
		for _, call := range calls {
			for _, s := range call.shares {
				if !s.answered || s.givenUp || slot >= 0 && s.slot != slot {
					continue
				}
				for place, l := range s.letters {
					if l|capital == letter && (call.verdicts == nil || call.verdicts[s.effects[place]] == nil) {
						return true
					}
				}
			}
		}
	}
	return false
}

// partly implements trip.
func (t *saving) partly() bool {
	if len(t.over) > 0 {
		return true
	}
	for _, call := range t.calls {
		if slices.ContainsFunc(call.shares, func(s *share) bool { return s.answered }) {
			return true
		}
	}
	return false
}

// letGo lets the callers go of whose calls nothing is left to be sent.
func (t *saving) letGo(ctx context.Context) {
	var over []*call
	t.calls = slices.DeleteFunc(t.calls, func(call *call) bool {
		left := slices.ContainsFunc(call.shares, func(s *share) bool { return !s.answered })
		if !left {
			over = append(over, call)
		}
		return !left
	})
	if len(over) > 0 {
		t.conn.finish(over, "saving")
		t.tell(ctx, over)
		t.over = append(t.over, over...)
	}
}

// tell wakes who waits for what calls have saved. On a Cluster every node knows its own subscribers only: publish asks them all.
func (t *saving) tell(ctx context.Context, calls []*call) {
	elsewhere := true
	if t.listens != nil {
		n, err := t.listens.Result()
		elsewhere = n[t.conn.waits.anybody] > 0 || err != nil && !goredis.IsPermissionError(err)
		t.conn.waits.allowed(err)
	}
	t.conn.waits.saved(ctx, calls, elsewhere)
}
