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

// A character that is written in pieces stays whole, and no control character passes.
func TestWriter(t *testing.T) {
	var b bytes.Buffer
	w := terminal.NewWriter(&b)
	for _, c := range []byte("學\x1b[2J\n\u009b") {
		if _, err := w.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
	}
	if want := `學\x1b[2J` + "\n" + `\u009b`; b.String() != want {
		t.Errorf("%q was written, want %q", &b, want)
	}
	if terminal.Unwrap(w) != &b || terminal.Data(w) != &b {
		t.Error("the stream below a writer is another one")
	}
}

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\": 1}\n":            "{\"a\": 1}\n",
		"{\"a\": \"\u009b\x7f\"}": `{"a": "\u009b\u007f"}`,
	} {
		if got := string(terminal.JSON([]byte(text))); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// Columns line up whatever characters they have; nothing is cut where there is no terminal.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	long := strings.Repeat("x", 300)
	table := terminal.Table{Heading: []string{"NAME", "WHY"}, Rows: [][]string{{"學生", "a\x1b"}, {"longer", long}}}
	if err := table.Write(terminal.NewWriter(&b)); err != nil {
		t.Fatal(err)
	}
	if want := "NAME    WHY\n學生    a\\x1b\nlonger  " + long + "\n"; b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", &b, want)
	}
	if got := terminal.Red.Paint("no"); got != "\x1b[31mno\x1b[0m" || terminal.Plain.Paint("no") != "no" {
		t.Errorf("red is %q", got)
	}
}

// A stream that is no terminal has no width, and no colours.
func TestNoTerminal(t *testing.T) {
	var b bytes.Buffer
	if terminal.Is(&b) || terminal.Width(&b) != 0 || terminal.Colored(&b) {
		t.Error("a buffer counts as a terminal")
	}
}
