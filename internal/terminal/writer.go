package terminal

import (
	"io"
	"os"
	"unicode/utf8"
)

// Writer shows control characters that are written to it, as Text does, and passes everything else on. Programs print text for people to it.
// It belongs to one goroutine at a time.
type Writer struct {
	out  io.Writer
	held []byte // the beginning of a character whose end has not been written
}

// NewWriter returns a Writer that writes to out.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Write implements io.Writer. The end of a character that is written in pieces is written with its last piece.
func (w *Writer) Write(p []byte) (int, error) {
	text := append(w.held, p...)
	whole := len(text)
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if c := text[len(text)-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(text[len(text)-back:]) {
				whole = len(text) - back
			}
			break
		}
	}
	w.held = append([]byte(nil), text[whole:]...)
	if _, err := io.WriteString(w.out, Text(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Unwrap returns the stream below a Writer, or the stream itself: for rows and other data, which go to pipes byte for byte, and for text that
// has colours.
func Unwrap(stream io.Writer) io.Writer {
	if w, ok := stream.(*Writer); ok {
		return w.out
	}
	return stream
}

// Data returns the stream for data such as rows: a terminal gets control characters shown, and a pipe or a file gets every byte as it is.
func Data(stream io.Writer) io.Writer {
	if below := Unwrap(stream); !Is(below) {
		return below
	}
	return stream
}

// file returns the file below a stream.
func file(stream any) (*os.File, bool) {
	if w, ok := stream.(*Writer); ok {
		stream = w.out
	}
	f, ok := stream.(*os.File)
	return f, ok
}

// Color is how a text stands out on a terminal.
type Color string

// The colours, as terminals know them.
const (
	Plain  Color = ""
	Bold   Color = "1"
	Red    Color = "31"
	Green  Color = "32"
	Yellow Color = "33"
	Dim    Color = "2"
)

// Paint returns a text with the sequences that colour it.
func (c Color) Paint(text string) string {
	if c == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}
