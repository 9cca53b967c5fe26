package submission

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxListed is the limit for the rows of a file that are printed one by one because they are not done.
const maxListed = 10

// summary counts how the rows of a file ended. Its JSON is the output of -o json.
type summary struct {
	Flow      string         `json:"flow"`
	Rows      int            `json:"rows"`
	Batches   int            `json:"batches"`
	Counts    map[string]int `json:"outcomes"`
	Revisions []int64        `json:"revisions"`
	Seconds   float64        `json:"seconds"`
	Unread    int            `json:"unreadable"`          // rows that could not be read and were not sent; they count as dead, too
	Unknown   []lineRange    `json:"unknown,omitempty"`   // lines that were sent and have no answer
	Next      int            `json:"next_line,omitempty"` // the first line that was not sent; 0 if all were

	listed int // the number of rows that are not done, with those that were not printed
}

// empty reports whether no row has an outcome.
func (s *summary) empty() bool { return s.Rows == 0 }

// add counts the rows of one chunk. It prints rows that are not done to log, but at most maxListed in all chunks together.
func (s *summary) add(r *batch.Result, c *chunk, log io.Writer) {
	s.Rows += r.Rows + len(c.bad)
	s.Unread += len(c.bad)
	s.Counts[batch.Dead.String()] += len(c.bad)
	for _, b := range c.bad {
		if s.listed++; s.listed <= maxListed {
			fmt.Fprintf(log, "%s %d: %s: %s: %s\n", c.unit, b.line, batch.Dead, b.code, terminal.Text(b.reason))
		}
	}
	if r.Rows == 0 {
		return
	}
	s.Batches++
	counts := r.Counts()
	for o := batch.Done; o <= batch.Failed; o++ {
		s.Counts[o.String()] += int(counts[o])
	}
	if n := len(s.Revisions); n == 0 || s.Revisions[n-1] != r.Revision {
		s.Revisions = append(s.Revisions, r.Revision)
	}
	for _, o := range r.NotDone {
		if s.listed++; s.listed > maxListed {
			continue
		}
		where := ""
		if o.Function != "" {
			where = " in " + o.Function
		}
		fmt.Fprintf(log, "%s %d: %s%s: %s: %s\n", c.unit, c.lines[o.Row], o.Outcome, terminal.Text(where), o.Code, terminal.Text(o.Reason))
	}
}

// tell prints the summary to a writer, as one line of JSON if asJSON is true, else as a line of text, before which another one may say
// how many rows were not listed. took is the time that the rows took.
func (s *summary) tell(to io.Writer, took time.Duration, asJSON bool) error {
	s.Seconds = took.Seconds()
	if asJSON {
		return json.NewEncoder(to).Encode(s)
	}
	if s.listed > maxListed {
		fmt.Fprintf(to, "… and %d more rows that are not done\n", s.listed-maxListed)
	}
	fmt.Fprintf(to, "%s: %d rows in %d batches, %.1f s:", s.Flow, s.Rows, s.Batches, s.Seconds)
	for o := batch.Done; o <= batch.Failed; o++ {
		fmt.Fprintf(to, " %d %s", s.Counts[o.String()], o)
	}
	if s.Unread > 0 {
		fmt.Fprintf(to, " (%d of the dead could not be read, and were not sent)", s.Unread)
	}
	_, err := fmt.Fprintln(to)
	return err
}
