package rowjson

import (
	"strconv"
	"unsafe"
)

// Dynamic is a field whose type is not known before its row is read: a whole number, a float, a truth value or a text as such, so that nobody has to
// write it as JSON for the next function, or else the JSON of the field. The zero Dynamic means that the row does not have the field.
//
// Its JSON is fixed when it is made: for each Dynamic there is one text that AppendJSON writes, however it is kept.
type Dynamic struct {
	kind DynamicKind
	bits uint64 // of a DynamicInt, a DynamicFloat or a DynamicBool
	text string // a DynamicText; the JSON of a DynamicJSON; the JSON of a DynamicFloat, unless it is easy to write
}

// DynamicKind says how a Dynamic keeps its value.
type DynamicKind uint8

const (
	// DynamicAbsent is the kind of a field that the row does not have.
	DynamicAbsent DynamicKind = iota
	// DynamicJSON is the kind of values that are kept as JSON: null, lists, objects, and all values as the first function of a flow finds them, except
	// for whole numbers.
	DynamicJSON
	// DynamicInt is the kind of whole numbers within 64 bits with a sign. DynamicFloat, DynamicBool and DynamicText are those of other values.
	DynamicInt
	DynamicFloat
	DynamicBool
	DynamicText
)

// JSONField returns the Dynamic of a field's JSON, with which it shares its memory. The text may not be changed.
func JSONField(text []byte) Dynamic {
	return Dynamic{kind: DynamicJSON, text: unsafe.String(unsafe.SliceData(text), len(text))}
}

// IntField returns the Dynamic of a whole number.
func IntField(n int64) Dynamic { return Dynamic{kind: DynamicInt, bits: uint64(n)} }

// FloatField returns the Dynamic of a finite float, given as its bits. text is its JSON, with which the Dynamic shares its memory; it may be empty for a
// multiple of 1/4 between -2^48 and 2^48, but for -0.
func FloatField(bits uint64, text []byte) Dynamic {
	return Dynamic{kind: DynamicFloat, bits: bits, text: unsafe.String(unsafe.SliceData(text), len(text))}
}

// BoolField returns the Dynamic of a truth value.
func BoolField(b bool) Dynamic {
	if b {
		return Dynamic{kind: DynamicBool, bits: 1}
	}
	return Dynamic{kind: DynamicBool}
}

// TextField returns the Dynamic of a text that has only printable ASCII, without double quotes and backslashes.
func TextField(text string) Dynamic { return Dynamic{kind: DynamicText, text: text} }

// Kind returns how the value is kept.
func (d *Dynamic) Kind() DynamicKind { return d.kind }

// Bits returns a whole number, the bits of a float, or 1 for true.
func (d *Dynamic) Bits() uint64 { return d.bits }

// Text returns the text of a DynamicText, or the JSON of a DynamicJSON.
func (d *Dynamic) Text() string { return d.text }

// AppendJSON appends the value as JSON. An absent one is null.
func (d *Dynamic) AppendJSON(dst []byte) []byte {
	switch d.kind {
	case DynamicJSON:
		return append(dst, d.text...)
	case DynamicInt:
		return strconv.AppendInt(dst, int64(d.bits), 10)
	case DynamicFloat:
		if d.text != "" {
			return append(dst, d.text...)
		}
		dst, _ = appendFloat(dst, *(*float64)(unsafe.Pointer(&d.bits)), 64)
		return dst
	case DynamicBool:
		return strconv.AppendBool(dst, d.bits != 0)
	case DynamicText:
		return append(append(append(dst, '"'), d.text...), '"')
	}
	return append(dst, "null"...)
}

// MarshalJSON implements json.Marshaler.
func (d Dynamic) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler. It copies the text.
func (d *Dynamic) UnmarshalJSON(text []byte) error {
	if end := d.scan(text, 0); end != len(text) {
		*d = Dynamic{kind: DynamicJSON, text: string(text)}
	} else if d.kind == DynamicJSON {
		d.text = string(text)
	}
	return nil
}

// scan sets the Dynamic to the JSON value that begins at row[i], and returns the place behind it; -1 if it can't be sure of the value. The Dynamic
// shares the memory of the row. Only a whole number that is written in the way of AppendJSON is kept as a number.
func (d *Dynamic) scan(row []byte, i int) (end int) {
	if i < len(row) && (row[i] == '-' || row[i]-'0' <= 9) {
		if n, end, ok := scanInt(row, i); ok && (n != 0 || row[i] == '0') {
			*d = IntField(n)
			return end
		}
	}
	end, ok := skipValue(row, i, 0)
	if !ok {
		return -1
	}
	*d = JSONField(row[i:end])
	return end
}

// absent reports whether the row did not have the field, or had null there.
func (d *Dynamic) absent() bool {
	return d.kind == DynamicAbsent || d.kind == DynamicJSON && (d.text == "" || d.text[0] == 'n')
}

// dynamicConverter converts a field to another one, of which at least one is Dynamic. A plain field can't be made of an absent one.
func dynamicConverter(from, to *field) convertFunc {
	switch {
	case from.kind == to.kind:
		return func(to, from unsafe.Pointer) bool {
			*(*Dynamic)(to) = *(*Dynamic)(from)
			return true
		}
	case from.kind == kindDynamic && to.kind.plain():
		whole := &move{from: &field{kind: kindInt64}, to: to}
		return func(into, from unsafe.Pointer) bool {
			d := (*Dynamic)(from)
			switch {
			case d.absent():
				return !to.needed
			case d.kind == DynamicInt:
				return whole.copyInteger(into, unsafe.Pointer(&d.bits))
			}
			var room [64]byte
			text := d.AppendJSON(room[:0])
			end, ok := to.decode(text, 0, into)
			return ok && end == len(text)
		}
	case from.kind == kindInt64:
		return func(to, from unsafe.Pointer) bool {
			*(*Dynamic)(to) = IntField(*(*int64)(from))
			return true
		}
	case from.kind == kindInt:
		return func(to, from unsafe.Pointer) bool {
			*(*Dynamic)(to) = IntField(int64(*(*int)(from)))
			return true
		}
	case from.kind.plain():
		return func(to, p unsafe.Pointer) bool {
			text, ok := from.encode(nil, p)
			*(*Dynamic)(to) = JSONField(text)
			return ok
		}
	}
	return throughJSON(typePair{from.typ, to.typ})
}
