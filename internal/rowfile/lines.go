package rowfile

import (
	"bufio"
	"errors"
	"io"
)

// lines reads lines, and holds no more than one of them, up to a limit.
type lines struct {
	in    *bufio.Reader
	limit int // in bytes, without the line end
	buf   []byte
	read  int // the number of lines that were read
}

// next returns the next line without its line end (LF or CRLF). The line is valid until the next call. tooLong says that the line is over
// the limit; text is its beginning then, and its rest has been skipped. The error is io.EOF behind the last line. A last line without a
// line end counts as a line.
func (l *lines) next() (text []byte, tooLong bool, err error) {
	l.buf = l.buf[:0]
	any := false
	for {
		piece, err := l.in.ReadSlice('\n')
		any = any || len(piece) > 0
		if room := l.limit + 2 - len(l.buf); len(piece) > room { // two bytes for the line end
			tooLong = true
			piece = piece[:room]
		}
		l.buf = append(l.buf, piece...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (!errors.Is(err, io.EOF) || !any) {
			return nil, false, err
		}
		break
	}
	l.read++
	text = l.buf
	if n := len(text); !tooLong && n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
		if n := len(text); n > 0 && text[n-1] == '\r' {
			text = text[:n-1]
		}
	}
	if len(text) > l.limit {
		text, tooLong = text[:l.limit], true
	}
	return text, tooLong, nil
}
