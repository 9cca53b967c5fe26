package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	f, ok := file(stream)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width returns how many characters a line of the terminal has. 0 means that the stream is no terminal: nothing is to be cut.
func Width(stream io.Writer) int {
	if f, ok := file(stream); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// Colored reports whether to use colours on a stream: on a terminal that is not dumb, unless NO_COLOR is set (https://no-color.org).
func Colored(stream io.Writer) bool {
	return Is(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Text returns a text in which each control character is shown as an escape, such as \x1b, so that a terminal does not obey it. These are the
// characters of ASCII (C0) and of Latin-1 (C1), marks that change the direction of text, and bytes that are not UTF-8. Tabs and line ends stay.
func Text(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !hidden(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// Line returns a text as Text does, on one line: tabs and line ends are escaped, too.
func Line(text string) string {
	return lineEnds.Replace(Text(text))
}

// lineEnds escapes the control characters that Text leaves.
var lineEnds = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// hidden reports whether a character is one that Text escapes.
func hidden(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029, r == 0x200e, r == 0x200f:
		return true
	}
	return unicode.IsControl(r)
}
