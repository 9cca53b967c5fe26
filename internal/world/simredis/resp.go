package simredis

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// readCommand reads a command as clients send it: an array of strings.
func readCommand(r *bufio.Reader) ([]string, error) {
	n, err := readLength(r, '*')
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, fmt.Errorf("a command of %d words", n)
	}
	args := make([]string, n)
	for i := range args {
		size, err := readLength(r, '$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}

// readLength reads a line with a sign and a number.
func readLength(r *bufio.Reader, sign byte) (int, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 4 || line[0] != sign {
		return 0, fmt.Errorf("a line of a command is %q", line)
	}
	return strconv.Atoi(string(line[1 : len(line)-2]))
}

// appendBulk appends a text to an answer.
func appendBulk(b []byte, text string) []byte {
	b = strconv.AppendInt(append(b, '$'), int64(len(text)), 10)
	b = append(append(b, "\r\n"...), text...)
	return append(b, "\r\n"...)
}

// appendLength appends the first line of an array, which has the sign '*', or of a number, which has the sign ':'.
func appendLength(b []byte, sign byte, n int) []byte {
	b = strconv.AppendInt(append(b, sign), int64(n), 10)
	return append(b, "\r\n"...)
}

// appendError appends an error. The text has no line breaks.
func appendError(b []byte, text string) []byte {
	return append(append(append(b, '-'), text...), "\r\n"...)
}

// ok is the answer to a command that did what it was asked.
const ok = "+OK\r\n"
