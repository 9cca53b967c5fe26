package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// lines reads rows, one in each line. Empty lines are left out.
type lines struct {
	in    *bufio.Reader
	limit int // of a line, in bytes
	read  int // the number of lines that were read
}

// newLines makes the reader of the lines of r.
func newLines(r io.Reader, limit int) *lines {
	return &lines{in: bufio.NewReaderSize(r, limit+1), limit: limit}
}

// Next implements rowReader.
func (l *lines) Next() ([]byte, error) {
	for {
		l.read++
		line, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, batch.Errorf(batch.CodeRowTooLarge, "line %d has over %d bytes", l.read, l.limit)
		}
		if err != nil && (err != io.EOF || len(line) == 0) { //nolint:errorlint // io.EOF as it is means the end
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}
