package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// scriptPart is the part of a script that carries out effects of one Save. It has all effects of the Save, or the next maxPart of
// them; on a Cluster it has those in one slot. It belongs to the goroutine that owns its request.
type scriptPart struct {
	req     *request
	effects []int  // their places in the request
	record  string // key of the record that remembers them
	keys    []any  // of the effects, each a *string
	letters []byte // their operations
	field   string // of the last effect, while the part is encoded
	args    []any  // the part's arguments of the script
	effectBits
	// sequence and floor are those of the batch and its stream, with 20 digits, so that they compare as texts. For rows that stand in a log
	// (byPosition) they are "t" and the term, and the block and place in it of the log's floor.
	sequence, floor string
	byPosition      bool

	slot     int   // on a Cluster; else 0
	turn     int   // a part is sent when the earlier turns of its slot are answered, so that effects on a key keep their order
	answered bool  // each of its effects took place or has its verdict
	givenUp  bool  // the batch lies below the floor of its stream
	over     bool  // a later term of the log has begun
	err      error // why the last attempt did not answer it
	alone    bool  // it is sent in a script of its own, to find out whose fault it is
	tried    bool  // err came from an attempt alone
	first    bool  // err is that of its first effect, and Redis did not try the others
}

// maxPart is the largest number of effects in a part. Redis does nothing else while a script runs.
const maxPart = tripCommands

// The letters by which a script is told operations. A capital letter means: the same operation as the effect before, on the same
// field.
const (
	letterSet        = 's'
	letterAdd        = 'i' // Incr by a whole number
	letterAddDecimal = 'f' // Incr by any other number
	letterAppend     = 'a'
	letterDelete     = 'd'

	capital = 'a' - 'A' // the distance between a capital letter and its small letter: letter|capital is the small one
)

// encode makes the request of a Save. The request copies the texts of effects, so that a caller may give up and use its memory
// again.
func (c *Connection) encode(cause *connector.Cause, effects []connector.Effect) (*request, error) {
	n := len(effects)
	req := &request{keys: make([]string, n)}
	// Arguments point into one slice: a string in an any would be an allocation.
	texts := make([]string, 0, 2*n)
	bySlot := make(map[int]*scriptPart)
	for i := range effects {
		e := &effects[i]
		req.keys[i] = c.prefix + e.Key
		req.bytes += len(req.keys[i]) + len(e.Field) + len(e.Value)
		if err := c.settings.checkLength(req.keys[i], e.Field, e.Value); err != nil {
			req.refuse(i, batch.Errorf(batch.CodeSaveFailed, "connector %s: %w", c.name, err))
			continue
		}
		if e.Op == connector.Incr {
			if err := connector.CheckAddend(e.Value); err != nil {
				req.refuse(i, c.refused(batch.CodeSaveFailed, "incr", req.keys[i], err))
				continue
			}
		}
		slot := 0
		if c.cluster != nil {
			slot = slotOf(req.keys[i])
		}
		s := bySlot[slot]
		if s == nil || len(s.keys) == maxPart {
			turn := 0
			if s != nil {
				turn = s.turn + 1
			}
			s = c.newPart(req, cause, slot, min(n-i, maxPart))
			s.turn, req.lastTurn = turn, max(req.lastTurn, turn)
			bySlot[slot] = s
		}
		s.effects, s.keys = append(s.effects, i), append(s.keys, &req.keys[i])
		if cause.Log != nil {
			s.addAt(e, c.positionRows())
		} else if !cause.Batch.IsZero() {
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
			return nil, batch.Errorf(batch.CodeInternal, "connector %s: function %s made an effect of kind %d, which does not exist; report this", c.name, cause.Function, e.Op)
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
	for _, s := range req.parts {
		s.head()
	}
	return req, nil
}

// addition returns the letter of the operation that adds value: letterAdd for whole numbers, which Redis adds in half the time,
// and letterAddDecimal for others.
func addition(value string) byte {
	if _, err := strconv.ParseInt(value, 10, 64); err == nil {
		return letterAdd
	}
	return letterAddDecimal
}

// newPart adds an empty part for a slot to a request, with memory for most effects.
func (c *Connection) newPart(req *request, cause *connector.Cause, slot, most int) *scriptPart {
	s := &scriptPart{req: req, effects: make([]int, 0, most), keys: make([]any, 0, most), letters: make([]byte, 0, most), args: make([]any, 0, 2*most)}
	s.refs = make([]byte, 0, 6*most)
	tag := ""
	if c.cluster != nil {
		tag = slotTags()[slot]
	}
	s.record, s.slot, s.sequence, s.floor = record(cause, tag), slot, digits(cause.Batch.Sequence), digits(cause.Floor)
	if log := cause.Log; log != nil {
		rows := c.positionRows()
		s.byPosition, s.sequence, s.floor = true, "t"+digits(log.Term), fmt.Sprintf("%s.%04d", digits(log.Floor/rows), log.Floor%rows)
	}
	req.parts = append(req.parts, s)
	return s
}

// head completes a part's arguments: before those of the effects it puts the batch's sequence, the floor, the numbers of fields
// and effects, the letters, and the bits of the record.
func (p *scriptPart) head() {
	args := make([]any, 0, headArgs+2*len(p.fields)+len(p.args))
	args = append(args, p.sequence, p.floor, len(p.fields), len(p.keys), p.letters, p.refs)
	for i, f := range p.fields {
		name := ""
		if p.byPosition {
			name = f.positionText()
		} else {
			name = f.text(p.sequence)
		}
		args = append(args, name, p.bits[i])
	}
	p.args = append(args, p.args...)
}

// headArgs is the number of arguments in the head, without the fields of the record.
const headArgs = 6

// take returns a new part of the same request with the effects at some places of this part, which stays as it is. places are in
// order, from 0.
func (p *scriptPart) take(places []int) *scriptPart {
	t := &scriptPart{req: p.req, record: p.record, sequence: p.sequence, floor: p.floor, byPosition: p.byPosition, slot: p.slot, turn: p.turn}
	remembered := len(p.fields) > 0
	at := headArgs + 2*len(p.fields)
	var field any // of the effect
	for i := range p.keys {
		letter := p.letters[i] | capital
		count := arguments(letter)
		if count == 2 && p.letters[i] == letter {
			field = p.args[at]
			at++
		}
		if len(places) > 0 && places[0] == i {
			places = places[1:]
			t.effects, t.keys, t.letters = append(t.effects, p.effects[i]), append(t.keys, p.keys[i]), append(t.letters, letter)
			if count == 2 {
				t.args = append(t.args, field)
			}
			if count > 0 {
				t.args = append(t.args, p.args[at])
			}
			if remembered {
				ref := p.refs[6*i:]
				t.mark(p.fields[binary.LittleEndian.Uint32(ref)-1], uint32(binary.LittleEndian.Uint16(ref[4:])))
			}
		}
		at += min(count, 1)
	}
	t.head()
	return t
}

// arguments returns how many arguments an operation has beside its key: a field and a value, a value alone, or none.
func arguments(letter byte) int {
	switch letter {
	case letterAppend:
		return 1
	case letterDelete:
		return 0
	}
	return 2
}
