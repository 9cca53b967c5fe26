package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// blockRows is how many rows of a batch have their bits in one field of a record.
const blockRows = 1 << 10

// effectBits finds the bits that a record has for the effects of one part of a script. Row after row, the effects of a
// function mostly have the same few fields.
type effectBits struct {
	fields []fieldName
	bits   [][]byte
	refs   []byte // of each effect: its field, in four bytes, counted from 1, and its bit, in two
	recent [8]int // the field of the last effect, by its command; counted from 1
	places map[fieldName]int
}

// fieldName is a field of a record, but for the sequence.
type fieldName struct {
	block, command, visit uint32
	output                uint64
}

func (b *effectBits) add(e *connector.Effect) {
	name, bit := fieldName{e.Row / blockRows, e.Command, e.Visit, e.Output}, e.Row%blockRows
	recent := &b.recent[e.Command%uint32(len(b.recent))]
	place := *recent
	if place == 0 || b.fields[place-1] != name {
		place = b.place(name)
		*recent = place
	}
	b.set(place, bit)
}

// mark adds the bit of an effect by its name.
func (b *effectBits) mark(name fieldName, bit uint32) { b.set(b.place(name), bit) }

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

// place finds or makes a field.
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

// text is the field's whole name: the sequence, and what else is not 0.
func (f fieldName) text(sequence string) string {
	if f == (fieldName{}) {
		return sequence
	}
	text := sequence + "." + strconv.FormatUint(uint64(f.block), 10)
	if f.command|f.visit != 0 || f.output != 0 {
		text += "." + strconv.FormatUint(uint64(f.command), 10) + "." + strconv.FormatUint(uint64(f.visit), 10)
	}
	if f.output != 0 {
		text += "." + strconv.FormatUint(f.output, 16)
	}
	return text
}

// digits is a number such that texts compare as numbers do.
func digits(n uint64) string { return fmt.Sprintf("%020d", n) }

// record is the key of what is remembered of a function's effects for a stream; on a Cluster one of a slot. A length in it
// keeps names apart that have colons.
func record(cause *connector.Cause, tag string) string {
	var key strings.Builder
	key.WriteString("kisgrid:once:")
	if tag != "" {
		key.WriteString("{" + tag + "}:")
	}
	key.WriteString(cause.Batch.Stream.String())
	key.WriteString(":" + strconv.Itoa(len(cause.Flow)) + ":" + cause.Flow + ":" + cause.Function)
	return key.String()
}

// slots is how many a Cluster has.
const slots = 1 << 14

// slotOf is the slot of a key on a Cluster: of what is between its first braces, if there is something.
func slotOf(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if tag, _, ok := strings.Cut(key[open+1:], "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16 // XMODEM's
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if carry := crc&0x8000 != 0; carry {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % slots)
}

// slotTags have a text in each slot.
var slotTags = sync.OnceValue(func() *[slots]string {
	var tags [slots]string
	for n, left := 0, slots; left > 0; n++ {
		text := strconv.FormatInt(int64(n), 36)
		if tag := &tags[slotOf(text)]; *tag == "" {
			*tag = text
			left--
		}
	}
	return &tags
})
