package drive

import (
	"context"
	"fmt"
	"io"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Repeat lives through each of some seeds twice, and prints how many of them had two equal lives. For the others it prints the first lines
// that differ. It returns the number of seeds with equal lives.
func Repeat(ctx context.Context, c Children, first uint64, seeds int, out io.Writer) (int, error) {
	c.Lines = true
	equal := 0
	for i := range seeds {
		s := scenario.Generate(first + uint64(i))
		var two [2]*Outcome
		for j := range two {
			o, err := c.Live(ctx, s)
			if err != nil {
				return equal, err
			}
			two[j] = o
		}
		a, b := two[0], two[1]
		if a.Digest == b.Digest && a.Digest != "" {
			equal++
			continue
		}
		n := 0
		for n < len(a.Lines) && n < len(b.Lines) && a.Lines[n] == b.Lines[n] {
			n++
		}
		fmt.Fprintf(out, "seed %d: the lives differ at line %d of %d and %d:\n  %s\n  %s\n", s.Seed, n+1, len(a.Lines), len(b.Lines), lineAt(a.Lines, n), lineAt(b.Lines, n))
	}
	fmt.Fprintf(out, "world: %d of %d seeds had two equal lives\n", equal, seeds)
	return equal, nil
}

// lineAt returns a line, or a note that there is none.
func lineAt(lines []string, n int) string {
	if n >= len(lines) {
		return "(no more lines)"
	}
	return lines[n]
}
