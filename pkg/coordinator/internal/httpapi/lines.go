package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"io"
)

type lines struct {
	in   *bufio.Reader
	most int
	n    int
}

func newLines(r io.Reader, most int) *lines {
	return &lines{in: bufio.NewReaderSize(r, most+1), most: most}
}
func (l *lines) Next() ([]byte, error) {
	for {
		l.n++
		b, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, batch.Errorf(batch.CodeRowTooLarge, "line %d has over %d bytes", l.n, l.most)
		}
		if err != nil && (err != io.EOF || len(b) == 0) {
			return nil, err
		}
		if b = bytes.TrimSpace(b); len(b) > 0 {
			return b, nil
		}
	}
}
