package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Save carries out effects in order, each once. Saves of other callers may go in the same script, each in its own order.
func (c *Connection) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	switch {
	case len(effects) == 0:
		return nil, nil
	}
	if err := c.admit(ctx, &cause, c.now()); err != nil {
		return nil, err
	}
	call, err := c.encode(&cause, effects)
	if err != nil {
		return nil, err
	}
	if err := c.saves.do(ctx, call, "saving"); err != nil {
		return nil, err
	}
	for _, s := range call.shares {
		if s.givenUp {
			return nil, connector.GivenUp(c.name, &cause)
		}
	}
	return call.verdicts, nil
}

// share is what one script does for a Save: all of it, the next so many effects, or on a Cluster those in one slot. It
// belongs to whom its call does.
type share struct {
	call    *call
	effects []int // their places in the call
	record  string
	keys    []any // of the effects
	letters []byte
	field   string // of the last effect
	args    []any
	effectBits

	answered bool
	givenUp  bool  // the batch lies below its stream's floor
	err      error // why Redis could not be asked the last time
}

// maxShare is how many effects a share has at the most. Redis does nothing else while a script runs.
const maxShare = tripCommands

// The letters of operations in scripts: capitals where the effect before has the same one, and the same field.
const (
	letterSet        = 's'
	letterAdd        = 'i'
	letterAddDecimal = 'f'
	letterAppend     = 'a'
	letterDelete     = 'd'

	capital = 'a' - 'A'
)

// encode turns effects into what scripts are told. It holds no memory of the effects' owner: a caller that gives up may leave.
func (c *Connection) encode(cause *connector.Cause, effects []connector.Effect) (*call, error) {
	n := len(effects)
	call := &call{keys: make([]string, n)}
	// Arguments point into one slice: a string in an any would be an allocation.
	texts := make([]string, 0, 2*n)
	bySlot := make(map[int]*share)
	for i := range effects {
		e := &effects[i]
		call.keys[i] = c.prefix + e.Key
		call.bytes += len(call.keys[i]) + len(e.Field) + len(e.Value)
		slot := 0
		if c.cluster != nil {
			slot = slotOf(call.keys[i])
		}
		s := bySlot[slot]
		if s == nil || len(s.keys) == maxShare {
			s = c.newShare(call, cause, slot, min(n-i, maxShare))
			bySlot[slot] = s
		}
		s.effects, s.keys = append(s.effects, i), append(s.keys, &call.keys[i])
		if !cause.Batch.IsZero() {
			s.add(e)
		}
		letter, args := byte(0), 2
		switch e.Op {
		case connector.Set:
			letter = letterSet
		case connector.Incr:
			letter = addition(e.Value)
		case connector.Append:
			letter, args = letterAppend, 1
		case connector.Delete:
			letter, args = letterDelete, 0
		default:
			return nil, batch.Errorf(batch.CodeInternal, "connector %s: function %s made an effect of kind %d, which is none; report this", c.name, cause.Function, e.Op)
		}
		repeated := len(s.letters) > 0 && s.letters[len(s.letters)-1]|capital == letter && (args < 2 || s.field == e.Field)
		if repeated {
			letter -= capital
		}
		s.letters, s.field = append(s.letters, letter), e.Field
		if args == 2 && !repeated {
			texts = append(texts, e.Field)
			s.args = append(s.args, &texts[len(texts)-1])
		}
		if args > 0 {
			texts = append(texts, e.Value)
			s.args = append(s.args, &texts[len(texts)-1])
		}
	}
	for _, s := range call.shares {
		s.head(cause)
	}
	return call, nil
}

// addition chooses the operation: adding whole numbers takes Redis half the time.
func addition(value string) byte {
	if _, err := strconv.ParseInt(value, 10, 64); err == nil {
		return letterAdd
	}
	return letterAddDecimal
}

func (c *Connection) newShare(call *call, cause *connector.Cause, slot, most int) *share {
	s := &share{call: call, effects: make([]int, 0, most), keys: make([]any, 0, most), letters: make([]byte, 0, most), args: make([]any, 0, 2*most)}
	s.refs = make([]byte, 0, 6*most)
	tag := ""
	if c.cluster != nil {
		tag = slotTags()[slot]
	}
	s.record = record(cause, tag)
	call.shares = append(call.shares, s)
	return s
}

// head puts what the script must know of the share before its arguments.
func (s *share) head(cause *connector.Cause) {
	sequence := digits(cause.Batch.Sequence)
	args := make([]any, 0, 6+2*len(s.fields)+len(s.args))
	args = append(args, sequence, digits(cause.Floor), len(s.fields), len(s.keys), s.letters, s.refs)
	for i, f := range s.fields {
		args = append(args, f.text(sequence), s.bits[i])
	}
	s.args = append(args, s.args...)
}

// saving is a round trip of Saves on its way. One sender owns it.
type saving struct {
	conn    *Connection
	calls   []*call
	source  bool // Redis does not know the script
	scripts []*script
}

// script is one command, and the shares that it carries out.
type script struct {
	*goredis.SliceCmd
	shares []*share
}

// sendSaves is a round trip of Saves.
func (c *Connection) sendSaves(ctx context.Context, calls []*call) {
	t := &saving{conn: c, calls: calls}
	var tail []goredis.Cmder
	copies := goredis.NewIntCmd(ctx, "wait", c.options.replicas, c.options.replicaTimeout.Milliseconds())
	if c.options.replicas > 0 {
		tail = append(tail, copies)
	}
	subscribers := goredis.NewMapStringIntCmd(ctx, "pubsub", "numsub", c.waits.anybody)
	if c.cluster == nil {
		tail = append(tail, subscribers)
	}
	c.roundTrip(ctx, "save", t.pending, tail...)
	n, failure := copies.Result()
	if failure == nil && n < int64(c.options.replicas) {
		failure = fmt.Errorf("%d of %d replicas had it after %v", n, c.options.replicas, c.options.replicaTimeout)
	}
	c.waits.allowed(subscribers.Err())
	c.finish(calls, "saving", failure)
	// On a Cluster every node knows its own subscribers only: publish asks them all.
	c.waits.saved(ctx, calls, c.cluster != nil || subscribers.Val()[c.waits.anybody] > 0)
}

// pending takes in what Redis said, and makes scripts of what it has not done: of several shares each, but on a Cluster, where
// a script stays within a slot.
func (t *saving) pending(ctx context.Context) ([]goredis.Cmder, error) {
	for _, s := range t.scripts {
		t.settle(s)
	}
	t.scripts = nil
	var commands []goredis.Cmder
	var failure error
	var shares []*share
	effects := 0
	put := func() {
		if len(shares) > 0 {
			s := &script{t.command(ctx, shares), shares}
			t.scripts, commands = append(t.scripts, s), append(commands, s.SliceCmd)
			shares, effects = nil, 0
		}
	}
	for _, call := range t.calls {
		for _, s := range call.shares {
			if s.answered || call.abandoned() {
				continue
			}
			if t.conn.cluster != nil || effects+len(s.keys) > maxShare {
				put()
			}
			effects += len(s.keys)
			shares, failure = append(shares, s), cmp.Or(failure, s.err)
		}
	}
	put()
	return commands, failure
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

// settle tells the shares of a script what Redis said.
func (t *saving) settle(s *script) {
	answer, err := s.Result()
	if isNoScript(err) {
		t.source = true
		for _, share := range s.shares {
			share.err = nil
		}
		return
	}
	for _, share := range s.shares {
		share.err, share.answered = err, err == nil
	}
	for i := 0; i+1 < len(answer); i += 2 {
		n, _ := answer[i].(int64)
		text, _ := answer[i+1].(string)
		if n < 0 {
			s.shares[-n-1].givenUp = true
			continue
		}
		place, share := int(n-1), 0
		for place >= len(s.shares[share].keys) {
			place -= len(s.shares[share].keys)
			share++
		}
		s.shares[share].refuse(t.conn, place, answerError(text))
	}
}

// answerError is the error of one command in a script.
type answerError string

func (e answerError) Error() string { return string(e) }

// RedisError implements goredis.Error.
func (answerError) RedisError() {}

// refuse is told that an effect did not take place.
func (s *share) refuse(c *Connection, place int, err error) {
	if !isRefusal(err) {
		s.err, s.answered = err, false
		return
	}
	i := s.effects[place]
	if s.call.verdicts == nil {
		s.call.verdicts = make([]error, len(s.call.keys))
	}
	s.call.verdicts[i] = c.refused(batch.CodeSaveFailed, operationNames[s.letters[place]|capital], s.call.keys[i], err)
}

var operationNames = map[byte]string{
	letterSet: "HSET", letterAdd: "HINCRBY", letterAddDecimal: "HINCRBYFLOAT", letterAppend: "RPUSH", letterDelete: "DEL",
}

// refused is the verdict on one command that Redis understood but did not carry out.
func (c *Connection) refused(code batch.Code, name, key string, err error) error {
	advice := "a number can only be added to a number"
	var answer goredis.Error
	if errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "WRONGTYPE ") {
		advice = "the key holds another type: give the connector's document another key prefix, or delete the key"
	}
	return batch.Errorf(code, "connector %s: %s %q: %w; %s", c.name, name, key, err, advice)
}
