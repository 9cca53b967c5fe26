package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// blockRows is how many rows of a batch share one field of a record: each has one bit of the field's value.
const blockRows = 1 << 10

// effectBits collects the bits of a record that stand for the effects of one script part. The effects of a function mostly use
// the same few fields, row after row, so that a few fields hold the bits of many effects.
//
// A record is the hash in Redis that remembers the effects of a function for a stream. The Save script (save.lua) sets a bit
// before it tries the effect:
//
//	         the script sets it       the effect is done
//	not set --------------------> set ------------------> done: a later Save leaves the effect out
//	   ^                           |                        |
//	   | the effect is refused:    |                        | the floor rises above the
//	   | the script clears it      |                        | batch: its fields are dropped
//	   +---------------------------+                        v
//	                                                      forgotten: the batch is refused from now on
//
// For rows that stand in a log, the block is that of their positions, the field's name begins with it, and the floor is a position: bits
// below it count as set. The field "term" is the highest term of the log that was seen.
//
// The record itself expires when it has not been used for the once-window and a quarter of it, or that of a log for connector.LogKeep.
type effectBits struct {
	fields []fieldName       // in the order in which effects came to need them
	bits   [][]byte          // of each field, as they are to be set
	refs   []byte            // six bytes for each effect: its field, counted from 1, in four, and the number of its bit in two
	recent [8]int            // the field of the last effect, by its command; counted from 1, 0 means none
	places map[fieldName]int // where a field stands in fields, counted from 1
}

// fieldName is the name of a record's field, without the batch's sequence. Effects whose rows are in one block, and whose
// other numbers are the same, share a field.
type fieldName struct {
	block          uint64
	command, visit uint32
	output         uint64
}

// add adds the bit that stands for an effect, and the field in which the bit lies if that is new.
func (b *effectBits) add(e *connector.Effect) {
	name, bit := fieldName{uint64(e.Row / blockRows), e.Command, e.Visit, e.Output}, e.Row%blockRows
	recent := &b.recent[e.Command%uint32(len(b.recent))]
	place := *recent
	if place == 0 || b.fields[place-1] != name {
		place = b.place(name)
		*recent = place
	}
	b.set(place, bit)
}

// addAt is add for an effect of a row that stands in a log: rows positions share a field.
func (b *effectBits) addAt(e *connector.Effect, rows uint64) {
	b.mark(fieldName{e.Position / rows, e.Command, e.Visit, e.Output}, uint32(e.Position%rows))
}

// mark adds the bit that stands for an effect, given by the field and the number of the bit in the field.
func (b *effectBits) mark(name fieldName, bit uint32) { b.set(b.place(name), bit) }

// set sets a bit in the field with this place in fields, counted from 1, and adds the reference to the bit.
func (b *effectBits) set(place int, bit uint32) {
	bits := b.bits[place-1]
	for int(bit/8) >= len(bits) {
		bits = append(bits, 0)
	}
	bits[bit/8] |= 1 << (bit % 8)
	b.bits[place-1] = bits
	b.refs = binary.LittleEndian.AppendUint32(b.refs, uint32(place))
	b.refs = binary.LittleEndian.AppendUint16(b.refs, uint16(bit))
}

// place returns where a field stands in b.fields, counted from 1. If the field is not there yet, place adds it.
func (b *effectBits) place(name fieldName) int {
	place := b.places[name]
	if place == 0 {
		if b.places == nil {
			b.places = make(map[fieldName]int)
		}
		b.fields, b.bits = append(b.fields, name), append(b.bits, make([]byte, 0, blockRows/8))
		place = len(b.fields)
		b.places[name] = place
	}
	return place
}

// text returns the whole name of a field in Redis: the batch's sequence, and the other numbers as far as they are not 0.
func (f fieldName) text(sequence string) string {
	if f == (fieldName{}) {
		return sequence
	}
	text := sequence + "." + strconv.FormatUint(f.block, 10)
	if f.command|f.visit != 0 || f.output != 0 {
		text += "." + strconv.FormatUint(uint64(f.command), 10) + "." + strconv.FormatUint(uint64(f.visit), 10)
	}
	if f.output != 0 {
		text += "." + strconv.FormatUint(f.output, 16)
	}
	return text
}

// positionText returns the whole name of a field in the record of a log: the block, and the other numbers as far as they are not 0.
func (f fieldName) positionText() string {
	text := digits(f.block)
	if f.command|f.visit != 0 || f.output != 0 {
		text += "." + strconv.FormatUint(uint64(f.command), 10) + "." + strconv.FormatUint(uint64(f.visit), 10)
	}
	if f.output != 0 {
		text += "." + strconv.FormatUint(f.output, 16)
	}
	return text
}

// positionRows is how many positions of a log share a field of a record. On a Cluster each slot that the log's rows touch has a record with
// few of them, so that fields are short there.
func (c *Connection) positionRows() uint64 {
	if c.cluster != nil {
		return 1 << 6
	}
	return blockRows
}

// digits writes a number with 20 digits, so that these texts sort as the numbers do.
func digits(n uint64) string { return fmt.Sprintf("%020d", n) }

// record returns the key of the record that remembers the effects of a function for a stream or a log. On a Cluster, tag puts it into a
// slot. The length of the flow's name is part of the key, so that names with colons can't be taken for each other.
func record(cause *connector.Cause, tag string) string {
	var key strings.Builder
	key.WriteString("kisgrid:once:")
	if tag != "" {
		key.WriteString("{" + tag + "}:")
	}
	if cause.Log != nil {
		key.WriteString("log-" + cause.Log.ID.String())
	} else {
		key.WriteString(cause.Batch.Stream.String())
	}
	key.WriteString(":" + strconv.Itoa(len(cause.Flow)) + ":" + cause.Flow + ":" + cause.Function)
	return key.String()
}
