package terminal_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/terminal"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"plain, Zürich, 學生\t1\n":    "plain, Zürich, 學生\t1\n",
		"\x1b[2Jgone":               `\x1b[2Jgone`,
		"a\rb\x00\x7f":              `a\x0db\x00\x7f`,
		"C1: \u009b31m\u0085":       `C1: \u009b31m\u0085`,
		"\x9b31m":                   `\x9b31m`,
		"right \u202eto left\u2066": `right \u202eto left\u2066`,
		"\ufffd stays":              "\ufffd stays",
	} {
		if got := terminal.Text(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got := terminal.Line("a\n\tb\x1b"); got != `a\n\tb\x1b` {
		t.Errorf("a line is shown as %q", got)
	}
}

// Whatever a text is, no control character of it reaches a terminal.
func TestNothingHidden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		if got := terminal.Line(text); strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q is shown as %q", text, got)
		}
	})
}

// A stream that is no terminal has no width, and no colours.
func TestNoTerminal(t *testing.T) {
	var b bytes.Buffer
	if terminal.Is(&b) || terminal.Width(&b) != 0 || terminal.Colored(&b) {
		t.Error("a buffer counts as a terminal")
	}
}
