package rowfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// array gives the elements of one JSON array. It finds their ends by brackets and quotation marks, so an element that is no JSON costs that
// element only.
type array struct {
	in    *bufio.Reader
	limit int // for an element, in bytes
	rows  int // the number of elements that began
	raw   []byte
	row   bytes.Buffer
	open  bool // the array's [ was read
	ended bool // the array's ] was read
}

// text implements source.
func (a *array) text() []byte { return a.row.Bytes() }

// next implements source.
func (a *array) next() ([]byte, int, error) {
	if !a.open {
		if _, err := a.token(); err != nil { // the [, which begin saw
			return nil, 0, err
		}
		a.open = true
	}
	if a.ended {
		return nil, a.rows, a.behind()
	}
	over, err := a.element()
	if err != nil {
		return nil, a.rows, err
	}
	text := bytes.TrimSpace(a.raw)
	if len(text) == 0 && a.ended && !over { // the array is empty, or has a comma behind its last element
		return nil, a.rows, a.behind()
	}
	a.rows++
	a.row.Reset()
	switch {
	case over:
		return nil, a.rows, &BadRow{Code: batch.CodeRowTooLarge, Reason: tooLong(a.limit)}
	case len(text) == 0:
		return nil, a.rows, &BadRow{Code: batch.CodeRowUndecodable, Reason: "there is no value between two commas", Text: text}
	case json.Compact(&a.row, text) != nil:
		return nil, a.rows, &BadRow{Code: batch.CodeRowUndecodable, Reason: mistake(text), Text: text}
	}
	return a.row.Bytes(), a.rows, nil
}

// element reads up to the comma or the ] behind the next element, and leaves the element in raw. over says that the element is over the
// limit; raw has its beginning then.
func (a *array) element() (over bool, err error) {
	a.raw = a.raw[:0]
	depth, inString, escaped := 0, false, false
	for {
		c, err := a.in.ReadByte()
		if errors.Is(err, io.EOF) {
			return false, &NotRows{Reason: fmt.Sprintf("the input ends within the JSON array, behind row %d: its ] is missing", a.rows)}
		}
		if err != nil {
			return false, err
		}
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			a.ended = c == ']'
			return over, nil
		}
		switch {
		case len(a.raw) < a.limit:
			a.raw = append(a.raw, c)
		case len(bytes.TrimSpace(a.raw)) == 0: // white space before the element
			a.raw = append(a.raw[:0], c)
		case !isSpace(c):
			over = true
		}
	}
}

// token returns the next byte that is no white space.
func (a *array) token() (byte, error) {
	for {
		c, err := a.in.ReadByte()
		if err != nil || !isSpace(c) {
			return c, err
		}
	}
}

// behind returns io.EOF, or an error if anything follows the array.
func (a *array) behind() error {
	c, err := a.token()
	if err == nil {
		return &NotRows{Reason: fmt.Sprintf("%s follows the end of the JSON array: where each line is a row, give the format as ndjson", quoted([]byte{c}))}
	}
	return err
}

// isSpace reports whether a byte is white space of JSON.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
