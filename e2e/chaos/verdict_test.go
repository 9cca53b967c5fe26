//go:build linux

package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/client"
)

// TestVerifier gives the verifier the records of clusters that broke a promise, and of one that kept them all.
func TestVerifier(t *testing.T) {
	start := time.Now()
	at := func(ms int) int64 { return start.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	ran := func(sequence uint64, ms int, revision int64) execution {
		return execution{row: row{Client: 1, Key: 2, Sequence: sequence}, at: at(ms), revision: revision}
	}
	for name, test := range map[string]struct {
		executions []execution
		unordered  int // index of a row whose order is free
		unanswered bool
		want       string
	}{
		"kept":                  {executions: []execution{ran(1, 1, 7), ran(2, 2, 7), ran(3, 3, 7)}, unordered: -1},
		"kept, run again":       {executions: []execution{ran(1, 1, 7), ran(2, 2, 7), ran(1, 3, 7), ran(2, 4, 7), ran(3, 5, 7)}, unordered: -1},
		"overtaken":             {executions: []execution{ran(1, 1, 7), ran(3, 2, 7), ran(2, 3, 7), ran(3, 4, 7)}, unordered: -1, want: "row 3 was first executed before row 2"},
		"overtaken when failed": {executions: []execution{ran(1, 1, 7), ran(3, 2, 7), ran(2, 3, 7)}, unordered: 1},
		"skipped":               {executions: []execution{ran(1, 1, 7), ran(3, 2, 7)}, unordered: -1, want: "row 2 is done, and was never executed"},
		"answered too early":    {executions: []execution{ran(1, 1, 7), ran(2, 2, 7), ran(3, 2000, 7)}, unordered: -1, want: "row 3 was answered before it was executed"},
		"two revisions":         {executions: []execution{ran(1, 1, 7), ran(2, 2, 7), ran(3, 3, 8)}, unordered: -1, want: "row 3 ran on revision 8, and its batch on 7"},
		"nobody's":              {executions: []execution{ran(1, 1, 7), ran(2, 2, 7), ran(3, 3, 7), ran(4, 4, 7)}, unordered: -1, want: "which nobody sent"},
		"unanswered":            {executions: []execution{ran(1, 1, 7), ran(2, 2, 7), ran(3, 3, 7)}, unordered: -1, unanswered: true, want: "has no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			rows := []row{{1, 2, 1}, {1, 2, 2}, {1, 2, 3}}
			s := &sent{rows: rows, batch: client.Rows(rows...), at: start, answer: start.Add(time.Second), outOfOrder: map[int]bool{test.unordered: true}}
			if test.unanswered {
				s.answer = time.Time{}
			}
			v := &verifier{workers: []string{"w"}}
			v.load([][]*sent{{s}}, test.executions)
			v.check()
			got := strings.Join(v.breaches, "\n")
			switch {
			case test.want == "" && got != "":
				t.Errorf("a breach was found: %s", got)
			case !strings.Contains(got, test.want):
				t.Errorf("found %q, not %q", got, test.want)
			}
		})
	}
}
