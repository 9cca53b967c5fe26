package rowfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// DefaultMaxRow is the limit for a row, in bytes, where the options name none.
const DefaultMaxRow = 4 << 20

// Options say how rows are read. The zero Options read NDJSON or a JSON array.
type Options struct {
	// Format is the format of the input.
	Format Format
	// MaxRow is the limit for a row, in bytes, in the input and as JSON. 0 means DefaultMaxRow.
	MaxRow int
	// From is the number of the first line (in an array: of the first row) that is returned. Rows before it are skipped and not checked. 0
	// means all.
	From int
	// Types returns the types of the fields, for CSV. It is called once, behind the header, and may block, for instance to ask a coordinator.
	// nil, or a nil result, means that the types are not known: then a cell that is a JSON number or a truth value is one, and
	// every other cell is a string.
	Types func() (Types, error)
	// Comma separates the cells of CSV. 0 means that the header tells: a comma, else a tab or a semicolon.
	Comma byte
}

// source gives the rows of one format.
type source interface {
	// next returns the next row as JSON, or nil for a line without a row, such as an empty one. number is the number of the row's line, also
	// beside an error. The row is valid until the next call. io.EOF means that there is no more.
	next() (row []byte, number int, err error)
	// text returns the last row as it stands in the input, without its line end.
	text() []byte
}

// Reader reads rows from an input. It belongs to one goroutine.
type Reader struct {
	in     io.Reader
	opts   Options
	source source // nil until the first Next
	format Format
	number int
	header []byte
	err    error // not nil: Next returns it from now on
}

// NewReader returns a Reader of the rows of an input. It reads nothing before the first Next.
func NewReader(in io.Reader, o Options) *Reader {
	if o.MaxRow <= 0 {
		o.MaxRow = DefaultMaxRow
	}
	return &Reader{in: in, opts: o, format: o.Format}
}

// Next returns the next row as JSON without line breaks. The row is valid until the next call. The error is io.EOF behind the last row, a
// *BadRow for a row that can't be read, and a *NotRows for input that has no rows. After a *BadRow, Next goes on with the next row; every
// other error stays. Next blocks while its input does.
func (r *Reader) Next() ([]byte, error) {
	for r.err == nil {
		if r.source == nil {
			if r.err = r.begin(); r.err != nil {
				break
			}
		}
		row, number, err := r.source.next()
		if err == nil || number > 0 {
			r.number = number
		}
		if bad, ok := errors.AsType[*BadRow](err); ok {
			if r.number < r.opts.From {
				continue
			}
			bad.Number, bad.Unit = r.number, r.Unit()
			return nil, bad
		}
		switch wrong, ok := errors.AsType[*NotRows](err); {
		case ok:
			wrong.Number, wrong.Unit = max(r.number, 1), r.Unit()
			r.err = wrong
		case errors.Is(err, io.EOF):
			r.err = io.EOF
		case err != nil:
			r.err = fmt.Errorf("read rows after %s %d: %w", r.Unit(), r.number, err)
		case row != nil && r.number >= r.opts.From:
			if len(row) > r.opts.MaxRow {
				return nil, &BadRow{Number: r.number, Unit: r.Unit(), Code: batch.CodeRowTooLarge, Reason: tooLong(r.opts.MaxRow)}
			}
			return row, nil
		}
	}
	return nil, r.err
}

// Number returns the number of the line where the last row began that Next returned, or for which it returned a BadRow. In a JSON array it
// is the number of the row. It counts from 1.
func (r *Reader) Number() int { return r.number }

// Unit says what Number counts: "line" or "row".
func (r *Reader) Unit() string {
	if r.format == Array {
		return "row"
	}
	return "line"
}

// Format returns the format of the input. It is Detect until the first Next has found it out.
func (r *Reader) Format() Format { return r.format }

// Text returns the row that Next returned last, as it stands in the input: for CSV it is the record. It is valid until the next call of Next.
func (r *Reader) Text() []byte { return r.source.text() }

// Header returns the header of CSV as it stands in the input, without its line end. It is nil for other formats, and before the first Next.
func (r *Reader) Header() []byte { return r.header }

// begin opens the input, finds out its format, and makes the source for that.
func (r *Reader) begin() error {
	in, err := open(r.in)
	if err != nil {
		return err
	}
	first, skipped, err := firstCharacter(in)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read rows: %w", err)
	}
	if r.format == Detect {
		r.format = NDJSON
		if first == '[' {
			r.format = Array
		}
	}
	l := &lines{in: in, limit: r.opts.MaxRow, read: skipped}
	switch r.format {
	case Array:
		if first != '[' {
			return &NotRows{Number: skipped + 1, Unit: "line", Reason: "a JSON array begins with [ : leave the format out, and it is found out"}
		}
		r.source = &array{in: in, limit: r.opts.MaxRow}
	case CSV:
		if first == '{' || first == '[' {
			return &NotRows{Number: skipped + 1, Unit: "line", Is: "JSON", Reason: "the input is JSON, not CSV: leave the format out, or give it as ndjson or array"}
		}
		c, err := newRecords(l, r.opts)
		if err != nil {
			return err
		}
		r.source, r.header = c, bytes.Clone(c.raw)
	default:
		r.source = &ndjson{lines: l}
	}
	return nil
}

// ndjson gives one row for each line.
type ndjson struct {
	lines *lines
	row   []byte
	begun bool // a line with text was read
}

// next implements source. A first line that is no JSON may tell that the whole input is of another kind.
func (n *ndjson) next() ([]byte, int, error) {
	line, over, err := n.lines.next()
	if err != nil {
		return nil, n.lines.read, err
	}
	number := n.lines.read
	n.row = bytes.TrimSpace(line)
	if len(n.row) == 0 && !over {
		return nil, number, nil
	}
	first := !n.begun
	n.begun = true
	if over {
		return nil, number, &BadRow{Code: batch.CodeRowTooLarge, Reason: tooLong(n.lines.limit)}
	}
	if jsonrule.Valid(n.row) {
		return n.row, number, nil
	}
	if first {
		if wrong := recognize(n.row, n.lines.in); wrong != nil {
			return nil, number, wrong
		}
	}
	return nil, number, &BadRow{Code: batch.CodeRowUndecodable, Reason: mistake(n.row), Text: n.row}
}

// text implements source.
func (n *ndjson) text() []byte { return n.row }

// tooLong is the reason of a row that is over the limit.
func tooLong(limit int) string { return fmt.Sprintf("the row is over %d bytes", limit) }

// mistake says where a line that should be JSON is not.
func mistake(line []byte) string {
	var value any
	err := json.Unmarshal(line, &value)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		if int(syntax.Offset) >= len(line) && !bytes.HasSuffix(line, []byte("}")) {
			return "the line is not one JSON value: it ends too early"
		}
		return fmt.Sprintf("the line is not one JSON value: %v, at byte %d", syntax, syntax.Offset)
	}
	return "the line is not one JSON value"
}

// peekLine returns the beginning of the next line, as far as the input has it at hand, without taking it.
func peekLine(in *bufio.Reader) []byte {
	next, err := in.Peek(in.Buffered())
	if err != nil {
		return nil
	}
	next, _, _ = bytes.Cut(next, []byte("\n"))
	return bytes.TrimSpace(next)
}
