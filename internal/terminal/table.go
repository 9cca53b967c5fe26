package terminal

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is lines of cells under a heading, as text for people. Control characters in cells are shown, not sent.
type Table struct {
	// Heading has the names of the columns.
	Heading []string
	// Rows are the lines. Each has as many cells as the heading.
	Rows [][]string
	// Color returns the colour of a cell. nil means that no cell has one. Colours show only on terminals.
	Color func(row, column int, cell string) Color
}

// Write prints the table. Columns are two spaces apart. On a terminal, a last cell that is too long for the line is cut; in pipes and files,
// nothing is.
func (t *Table) Write(out io.Writer) error {
	colored, width := Colored(out), Width(out)
	lines := append([][]string{t.Heading}, t.Rows...)
	if t.Heading == nil {
		lines = lines[1:]
	}
	var widths []int
	for i, line := range lines {
		cells := make([]string, len(line))
		for j, cell := range line {
			cells[j] = Line(cell)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], columnsOf(cells[j]))
		}
		lines[i] = cells
	}
	var b strings.Builder
	for i, line := range lines {
		used := 0
		for j, cell := range line {
			last := j == len(line)-1
			if last && width > 0 {
				cell = cut(cell, width-used)
			}
			shown := cell
			if row := i - (len(lines) - len(t.Rows)); colored && row < 0 {
				shown = Bold.Paint(cell)
			} else if colored && t.Color != nil {
				shown = t.Color(row, j, cell).Paint(cell)
			}
			b.WriteString(shown)
			if !last {
				b.WriteString(strings.Repeat(" ", widths[j]-columnsOf(cell)+2))
				used += widths[j] + 2
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(Unwrap(out), b.String())
	return err
}

// cut shortens a text to a number of columns. An ellipsis shows that something was left out. A text is never cut to fewer than eight columns.
func cut(text string, columns int) string {
	columns = max(columns, 8)
	if columnsOf(text) <= columns {
		return text
	}
	n := 0
	for i, r := range text {
		if n += columnOf(r); n > columns-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// columnsOf returns how many columns of a terminal a text takes.
func columnsOf(text string) (n int) {
	if len(text) == utf8.RuneCountInString(text) {
		return len(text)
	}
	for _, r := range text {
		n += columnOf(r)
	}
	return n
}

// columnOf returns how many columns of a terminal a character takes: two for the wide ones of East Asia and for pictures, none for marks on
// the character before.
func columnOf(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r) || r == 0x200d || r >= 0xfe00 && r <= 0xfe0f:
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}
