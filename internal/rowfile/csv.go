package rowfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// records gives the records of CSV as rows. A record may go over several lines, where a cell in quotation marks has line breaks. A mark that
// is never closed costs the line where it stands: the lines behind it are read again, each as a record of its own.
type records struct {
	lines  *lines
	comma  byte
	fields []field
	again  []physicalLine // lines that were read as part of a broken record
	raw    []byte         // the record as it stands in the input
	cells  []cell
	row    []byte
}

// physicalLine is a line of the input, with its number. text is nil if the line is over the limit.
type physicalLine struct {
	text   []byte
	number int
}

// cell is one cell of a record.
type cell struct {
	text   []byte
	quoted bool // it stands in quotation marks
}

// newRecords reads the header, and asks for the types of the fields.
func newRecords(l *lines, o Options) (*records, error) {
	c := &records{lines: l, comma: o.Comma}
	for { // empty lines before the header
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		if line.text != nil && len(bytes.TrimSpace(line.text)) == 0 {
			continue
		}
		c.again = append(c.again, line)
		if c.comma == 0 {
			if c.comma = separator(line.text); c.comma == 0 {
				c.comma = ','
			}
		}
		break
	}
	number := c.again[0].number
	wrong := func(format string, args ...any) error {
		return &NotRows{Number: number, Unit: "line", Reason: fmt.Sprintf(format, args...)}
	}
	if text := c.again[0].text; looksLikeUTF16(text) {
		return nil, &NotRows{Number: number, Unit: "line", Is: "UTF-16", Reason: "the input is UTF-16: " + utf16Advice}
	}
	if _, err := c.record(); err != nil {
		if bad, ok := errors.AsType[*BadRow](err); ok {
			return nil, wrong("the header can't be read: %s", bad.Reason)
		}
		return nil, err
	}
	seen := make(map[string]bool, len(c.cells)) // a header of somebody who means no good may have very many columns
	for i, cell := range c.cells {
		name := strings.TrimSpace(string(cell.text))
		if name != "" && seen[name] {
			return nil, wrong("the header has the column %s twice", quoted(name))
		}
		seen[name] = true
		c.fields = append(c.fields, field{name: name, key: appendString(nil, []byte(name)), column: i + 1})
	}
	if err := c.giveTypes(o, wrong); err != nil {
		return nil, err
	}
	return c, nil
}

// giveTypes sets the types of the columns. It fails if no column is a field of the rows, since then the first line is no header.
func (c *records) giveTypes(o Options, wrong func(string, ...any) error) error {
	if o.Types == nil {
		return nil
	}
	types, err := o.Types()
	if err != nil || len(types) == 0 {
		return err
	}
	known := false
	for i := range c.fields {
		f := &c.fields[i]
		f.kind, f.optional = types[f.name].Kind, types[f.name].Optional
		_, ok := types[f.name]
		known = known || ok
	}
	if !known {
		var names []string
		for name := range types {
			names = append(names, name)
		}
		slices.Sort(names)
		return wrong("the first line of CSV has to name the columns, and none of its cells is a field of the flow's rows, which are: %s", strings.Join(names, ", "))
	}
	return nil
}

// text implements source.
func (c *records) text() []byte { return c.raw }

// next implements source.
func (c *records) next() ([]byte, int, error) {
	number, err := c.record()
	if err != nil {
		return nil, number, err
	}
	if len(bytes.TrimSpace(c.raw)) == 0 {
		return nil, number, nil
	}
	row, reason := c.toJSON()
	if reason != "" {
		return nil, number, &BadRow{Code: batch.CodeRowUndecodable, Reason: reason, Text: c.raw}
	}
	return row, number, nil
}

// line returns the next line: one that has to be read again, or one of the input. It stays valid.
func (c *records) line() (physicalLine, error) {
	if len(c.again) > 0 {
		line := c.again[0]
		c.again = c.again[1:]
		return line, nil
	}
	text, over, err := c.lines.next()
	if err != nil || over {
		return physicalLine{nil, c.lines.read}, err
	}
	return physicalLine{append([]byte{}, text...), c.lines.read}, nil
}

// record reads the next record into raw and cells, and returns the number of its first line.
func (c *records) record() (number int, err error) {
	first, err := c.line()
	if err != nil {
		return c.lines.read, err
	}
	if first.text == nil {
		return first.number, &BadRow{Code: batch.CodeRowTooLarge, Reason: tooLong(c.lines.limit)}
	}
	c.raw, c.cells = first.text, c.cells[:0]
	split := splitter{comma: c.comma}
	var more []physicalLine
	for line := first; ; {
		if reason := split.add(line.text); reason != "" {
			c.again, c.raw = append(more, c.again...), first.text
			return first.number, &BadRow{Code: batch.CodeRowUndecodable, Reason: reason, Text: first.text}
		}
		if !split.within {
			break
		}
		if line, err = c.line(); err != nil && !errors.Is(err, io.EOF) {
			return first.number, err
		}
		if err == nil {
			more = append(more, line)
		}
		if errors.Is(err, io.EOF) || line.text == nil || len(c.raw)+1+len(line.text) > c.lines.limit {
			c.again, c.raw = append(more, c.again...), first.text
			return first.number, &BadRow{Code: batch.CodeRowUndecodable, Reason: "a quotation mark is opened and never closed", Text: first.text}
		}
		c.raw = append(append(c.raw, '\n'), line.text...)
	}
	c.cells = split.cells
	if !utf8.Valid(c.raw) {
		return first.number, &BadRow{Code: batch.CodeRowUndecodable, Reason: "the line is not UTF-8: convert the file, such as with iconv -f LATIN1 -t UTF-8", Text: c.raw}
	}
	return first.number, nil
}

// splitter cuts a record into cells.
type splitter struct {
	comma  byte
	cells  []cell
	within bool // the last cell stands in quotation marks that are open
}

// add takes one line of the record. A reason says why the line is not CSV.
func (s *splitter) add(line []byte) (reason string) {
	i := 0
	if s.within {
		s.last().text = append(s.last().text, '\n')
		if i = s.inQuotes(line, 0); s.within {
			return ""
		}
		if i, reason = s.behindQuotes(line, i); reason != "" || i > len(line) {
			return reason
		}
	}
	for {
		if i < len(line) && line[i] == '"' {
			s.cells = append(s.cells, cell{quoted: true})
			if i = s.inQuotes(line, i+1); s.within {
				return ""
			}
			if i, reason = s.behindQuotes(line, i); reason != "" || i > len(line) {
				return reason
			}
			continue
		}
		end := bytes.IndexByte(line[i:], s.comma)
		if end < 0 {
			s.cells = append(s.cells, cell{text: line[i:]})
			return ""
		}
		s.cells = append(s.cells, cell{text: line[i : i+end]})
		i += end + 1
	}
}

// last returns the last cell.
func (s *splitter) last() *cell { return &s.cells[len(s.cells)-1] }

// inQuotes reads the text of the last cell from i on, up to behind the mark that closes it. within stays set if the line has no such mark.
func (s *splitter) inQuotes(line []byte, i int) int {
	s.within = true
	for {
		end := bytes.IndexByte(line[i:], '"')
		if end < 0 {
			s.last().text = append(s.last().text, line[i:]...)
			return len(line)
		}
		s.last().text = append(s.last().text, line[i:i+end]...)
		i += end + 1
		if i < len(line) && line[i] == '"' { // two marks are one in the text
			s.last().text = append(s.last().text, '"')
			i++
			continue
		}
		s.within = false
		return i
	}
}

// behindQuotes steps over the comma behind a closing mark. The result is beyond the line if the record ends there.
func (s *splitter) behindQuotes(line []byte, i int) (next int, reason string) {
	if rest := bytes.TrimLeft(line[i:], " "); len(rest) == 0 {
		return len(line) + 1, ""
	} else if rest[0] == s.comma {
		return len(line) - len(rest) + 1, ""
	}
	return i, fmt.Sprintf("text follows the closing quotation mark of column %d", len(s.cells))
}
