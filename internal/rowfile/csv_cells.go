package rowfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// field is one column of CSV.
type field struct {
	name     string
	key      []byte // the name as JSON
	column   int    // counted from 1
	kind     Kind
	optional bool
}

// toJSON returns the cells of the record as a JSON object, in the order of the columns. A reason says why the record is no row.
func (c *records) toJSON() (row []byte, reason string) {
	if len(c.cells) != len(c.fields) {
		return nil, fmt.Sprintf("the record has %d cells, and the header has %d", len(c.cells), len(c.fields))
	}
	c.row = append(c.row[:0], '{')
	for i := range c.fields {
		f, cell := &c.fields[i], c.cells[i]
		if f.name == "" {
			if len(bytes.TrimSpace(cell.text)) > 0 {
				return nil, fmt.Sprintf("column %d has a value, and no name in the header", f.column)
			}
			continue
		}
		before := len(c.row)
		if before > 1 {
			c.row = append(c.row, ',')
		}
		c.row = append(append(c.row, f.key...), ':')
		value, wants := f.append(c.row, cell)
		if wants != "" {
			return nil, fmt.Sprintf("%s must be %s, it is %s", f.name, wants, quoted(cell.text))
		}
		if value == nil { // the field is left out
			value = c.row[:before]
		}
		c.row = value
	}
	c.row = append(c.row, '}')
	return c.row, ""
}

// append appends the value of a cell as JSON. The result is nil if the row does not have the field: that is the meaning of an empty cell
// without quotation marks, unless the field is a string. wants says which value the field takes if the cell has another one.
func (f *field) append(row []byte, c cell) (value []byte, wants string) {
	text := bytes.TrimSpace(c.text)
	if len(text) == 0 && !c.quoted && (f.kind != String || f.optional) {
		return nil, ""
	}
	switch f.kind {
	case Int:
		if number, whole, ok := appendNumber(row, text); ok && whole {
			return number, ""
		}
		return nil, "a whole number"
	case Float:
		if number, _, ok := appendNumber(row, text); ok {
			return number, ""
		}
		return nil, "a number"
	case Bool:
		switch strings.ToLower(string(text)) {
		case "true", "t", "yes", "1":
			return append(row, "true"...), ""
		case "false", "f", "no", "0":
			return append(row, "false"...), ""
		}
		return nil, "true or false"
	case JSON:
		var b bytes.Buffer
		if json.Compact(&b, text) != nil {
			return nil, "JSON"
		}
		return append(row, b.Bytes()...), ""
	case Any:
		if !c.quoted && (json.Valid(text) && (text[0] == '-' || text[0] >= '0' && text[0] <= '9') || string(text) == "true" || string(text) == "false") {
			return append(row, text...), ""
		}
	}
	return appendString(row, c.text), ""
}

// appendNumber appends a number as JSON writes it: without a plus sign and without zeros in front, and with digits on both sides of the point.
// A number whose digits behind the point are all zero is written as a whole number, because spreadsheets and data frames add them to whole
// numbers.
func appendNumber(row, text []byte) (out []byte, whole, ok bool) {
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		if text[0] == '-' {
			row = append(row, '-')
		}
		text = text[1:]
	}
	digits := func() []byte {
		n := 0
		for n < len(text) && text[n] >= '0' && text[n] <= '9' {
			n++
		}
		d := text[:n]
		text = text[n:]
		return d
	}
	before := digits()
	var behind []byte
	if len(text) > 0 && text[0] == '.' {
		text = text[1:]
		behind = digits()
	}
	if len(before)+len(behind) == 0 {
		return nil, false, false
	}
	if before = bytes.TrimLeft(before, "0"); len(before) == 0 {
		before = []byte("0")
	}
	row = append(row, before...)
	whole = len(bytes.Trim(behind, "0")) == 0
	if !whole {
		row = append(append(row, '.'), behind...)
	}
	if len(text) == 0 {
		return row, whole, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return nil, false, false
	}
	if row, text = append(row, 'e'), text[1:]; len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		row = append(row, text[0])
		text = text[1:]
	}
	exponent := digits()
	if len(exponent) == 0 || len(text) > 0 {
		return nil, false, false
	}
	return append(row, exponent...), false, true
}

// appendString appends a text as a JSON string.
func appendString(row, text []byte) []byte {
	row = append(row, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			row = append(row, '\\', c)
		case c == '\n':
			row = append(row, '\\', 'n')
		case c == '\t':
			row = append(row, '\\', 't')
		case c == '\r':
			row = append(row, '\\', 'r')
		case c < 0x20:
			row = fmt.Appendf(row, "\\u%04x", c)
		default:
			row = append(row, c)
		}
	}
	return append(row, '"')
}
