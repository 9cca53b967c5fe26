package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Save carries out effects in order, each once. Saves of other callers may go in the same script, each in its own order.
func (c *Connection) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	return c.guard.Save(effects, func(effects []connector.Effect) ([]error, error) { return c.save(ctx, cause, effects) })
}

func (c *Connection) save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	if len(effects) == 0 {
		return nil, nil
	}
	if err := c.admit(ctx, &cause, c.now()); err != nil {
		return nil, err
	}
	call, err := c.encode(&cause, effects)
	if err != nil {
		return nil, err
	}
	if len(call.shares) == 0 {
		return call.verdicts, nil
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
	sequence, floor string // of the batch, as the script wants them

	slot     int
	turn     int   // it is sent when those of its slot before it are answered: no effect overtakes another one on its key
	answered bool  // each of its effects took place, or was refused
	givenUp  bool  // the batch lies below its stream's floor
	err      error // why it was not answered the last time
	alone    bool  // it is sent in a script of its own, to see whose fault that is
	tried    bool  // err is what came of that
	first    bool  // err is that of its first effect, behind which Redis tried none
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
		if err := c.checkLength(call.keys[i], e.Field, e.Value); err != nil {
			call.refuse(i, batch.Errorf(batch.CodeSaveFailed, "connector %s: %w", c.name, err))
			continue
		}
		if e.Op == connector.Incr {
			if err := connector.CheckAddend(e.Value); err != nil {
				call.refuse(i, c.refused(batch.CodeSaveFailed, "incr", call.keys[i], err))
				continue
			}
		}
		slot := 0
		if c.cluster != nil {
			slot = slotOf(call.keys[i])
		}
		s := bySlot[slot]
		if s == nil || len(s.keys) == maxShare {
			turn := 0
			if s != nil {
				turn = s.turn + 1
			}
			s = c.newShare(call, cause, slot, min(n-i, maxShare))
			s.turn, call.turns = turn, max(call.turns, turn)
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
		s.head()
	}
	return call, nil
}

// checkLength refuses what is longer than Redis takes in one piece: it would cut the connection, and everything that goes along.
func (c *Connection) checkLength(texts ...string) error {
	longest := c.longest.Load()
	if longest == 0 {
		return nil
	}
	for _, text := range texts {
		if int64(len(text)) > longest {
			return fmt.Errorf("a key, field or value has %d bytes, and Redis takes %d in one piece: give the row a shorter one, or raise proto-max-bulk-len in Redis",
				len(text), longest)
		}
	}
	return nil
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
	s.record, s.slot, s.sequence, s.floor = record(cause, tag), slot, digits(cause.Batch.Sequence), digits(cause.Floor)
	call.shares = append(call.shares, s)
	return s
}

// head puts what the script must know of the share before its arguments.
func (s *share) head() {
	args := make([]any, 0, headArgs+2*len(s.fields)+len(s.args))
	args = append(args, s.sequence, s.floor, len(s.fields), len(s.keys), s.letters, s.refs)
	for i, f := range s.fields {
		args = append(args, f.text(s.sequence), s.bits[i])
	}
	s.args = append(args, s.args...)
}

// headArgs is how many arguments a share's head has beside its fields and their bits.
const headArgs = 6

// take takes some effects out of the share: a share of the same call that has only these.
func (s *share) take(places []int) *share {
	t := &share{call: s.call, record: s.record, sequence: s.sequence, floor: s.floor, slot: s.slot, turn: s.turn}
	remembered := len(s.fields) > 0
	at := headArgs + 2*len(s.fields)
	var field any // of the effect
	for i := range s.keys {
		letter := s.letters[i] | capital
		count := arguments(letter)
		if count == 2 && s.letters[i] == letter {
			field = s.args[at]
			at++
		}
		if len(places) > 0 && places[0] == i {
			places = places[1:]
			t.effects, t.keys, t.letters = append(t.effects, s.effects[i]), append(t.keys, s.keys[i]), append(t.letters, letter)
			if count == 2 {
				t.args = append(t.args, field)
			}
			if count > 0 {
				t.args = append(t.args, s.args[at])
			}
			if remembered {
				ref := s.refs[6*i:]
				t.mark(s.fields[binary.LittleEndian.Uint32(ref)-1], uint32(binary.LittleEndian.Uint16(ref[4:])))
			}
		}
		at += min(count, 1)
	}
	t.head()
	return t
}

// arguments is how many an operation has beside its key: a field and a value, a value alone, or none.
func arguments(letter byte) int {
	switch letter {
	case letterAppend:
		return 1
	case letterDelete:
		return 0
	}
	return 2
}

// refuse notes that effects failed by a fault of their own; those that are left are another share.
func (s *share) refuse(c *Connection, place int, why error) {
	i := s.effects[place]
	s.call.refuse(i, c.refused(batch.CodeSaveFailed, operationNames[s.letters[place]|capital], s.call.keys[i], why))
}

var operationNames = map[byte]string{
	letterSet: "HSET", letterAdd: "HINCRBY", letterAddDecimal: "HINCRBYFLOAT", letterAppend: "RPUSH", letterDelete: "DEL",
}

// refused is the verdict on one command whose own fault it is that it was not carried out.
func (c *Connection) refused(code batch.Code, name, key string, err error) error {
	advice := "give the row another key or value"
	switch text := said(err); {
	case faultOf(err) == keyFault, faultOf(err) == commandFault:
		advice = "give the user the rights to this key, or the row another one"
	case strings.HasPrefix(text, "WRONGTYPE"):
		advice = "the key holds another type: give the connector's document another key prefix, or delete the key"
	case strings.HasPrefix(text, "ERR hash value"), strings.HasPrefix(text, "ERR value is not"), strings.HasPrefix(text, "ERR value is NaN"):
		advice = "a number can only be added to a number"
	case strings.HasPrefix(text, "ERR increment"):
		advice = "the sum is too large: set the field anew"
	}
	return batch.Errorf(code, "connector %s: %s %q: %w; %s", c.name, name, key, err, advice)
}
