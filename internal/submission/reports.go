package submission

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// RowReport is the outcome of one row, as a line of --outcomes has it.
type RowReport struct {
	Line     int             `json:"line"`
	Key      json.RawMessage `json:"key,omitempty"` // the value of the shard key, as the row has it
	Outcome  string          `json:"outcome"`       // done, filtered, aborted, dead, failed; unknown where there is no answer, refused where nothing ran
	Function string          `json:"function,omitempty"`
	Code     string          `json:"code,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Attempts uint32          `json:"attempts,omitempty"`
	Kept     *bool           `json:"kept,omitempty"` // of a dead row only
	NotKept  string          `json:"not_kept,omitempty"`
	Letter   string          `json:"letter,omitempty"` // the id of the dead letter that keeps the row
}

// notSent is why a dead row is not kept that could not be sent.
const notSent = "not_sent"

// reports writes the files of --outcomes and --rejects. Either may be missing. It belongs to one goroutine at a time.
type reports struct {
	key     string // the shard key; "" means none
	files   []*os.File
	lines   *json.Encoder // nil unless outcomes are written as JSON
	csv     *csv.Writer   // nil unless outcomes are written as CSV
	rejects *bufio.Writer // nil unless --rejects is given
	buffers []*bufio.Writer
	header  bool  // the rejects have their header, or need none
	failed  error // the first line that could not be written; close returns it
}

// openReports makes the files anew. An empty path means that the file is not wanted.
func openReports(outcomes, rejects string) (r *reports, err error) {
	r = &reports{}
	create := func(path string) *bufio.Writer {
		f, failed := os.Create(path)
		if failed != nil {
			err = errors.Join(err, failed)
			return nil
		}
		b := bufio.NewWriter(f)
		r.files, r.buffers = append(r.files, f), append(r.buffers, b)
		return b
	}
	if outcomes != "" {
		switch b := create(outcomes); {
		case b == nil:
		case strings.HasSuffix(strings.ToLower(outcomes), ".csv"):
			r.csv = csv.NewWriter(b)
			_ = r.csv.Write([]string{"line", "key", "outcome", "function", "code", "reason", "attempts", "kept", "not_kept", "letter"}) // close returns the error
		default:
			r.lines = json.NewEncoder(b)
			r.lines.SetEscapeHTML(false)
		}
	}
	if rejects != "" {
		r.rejects = create(rejects)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// wanted reports whether there is a file at all.
func (r *reports) wanted() bool { return len(r.files) > 0 }

// close writes everything that is left. The error says that a file is not whole.
func (r *reports) close() (err error) {
	err = r.failed
	if r.csv != nil {
		r.csv.Flush()
		err = r.csv.Error()
	}
	for i, f := range r.files {
		err = errors.Join(err, r.buffers[i].Flush(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("write the outcomes of rows: %w", err)
	}
	return nil
}

// note writes the outcomes of a chunk. result is nil if the chunk has no answer; then without says how its rows ended, and why.
func (r *reports) note(c *sentChunk, result *batch.Result, outcome string, why error) {
	if !r.wanted() {
		return
	}
	notDone := map[int]*batch.RowOutcome{}
	if result != nil {
		for i := range result.NotDone {
			notDone[int(result.NotDone[i].Row)] = &result.NotDone[i]
		}
	}
	bad := c.bad
	for i, line := range c.lines {
		for ; len(bad) > 0 && bad[0].line < line; bad = bad[1:] {
			r.noteBad(&bad[0], c.header)
		}
		row := c.columns.Row(i)
		report := RowReport{Line: line, Key: r.keyOf(row), Outcome: outcome}
		if result == nil {
			report.Code, report.Reason = batch.CodeOf(why).String(), why.Error()
		} else if report.Outcome = batch.Done.String(); notDone[i] != nil {
			o := notDone[i]
			report.Outcome, report.Function, report.Code, report.Reason, report.Attempts = o.Outcome.String(), o.Function, o.Code.String(), o.Reason, o.Attempts
			if o.Outcome == batch.Dead {
				kept := o.Kept
				report.Kept, report.NotKept = &kept, o.NotKept.Name()
				if o.Letter != (batch.StreamID{}) {
					report.Letter = o.Letter.String()
				}
			}
			if o.Outcome >= batch.Dead {
				if c.texts != nil {
					row = c.texts[i]
				}
				r.reject(row, c.header)
			}
		}
		r.write(&report)
	}
	for i := range bad {
		r.noteBad(&bad[i], c.header)
	}
}

// noteBad writes the outcome of a row that could not be sent.
func (r *reports) noteBad(b *badRow, header []byte) {
	kept := false
	r.write(&RowReport{Line: b.line, Outcome: batch.Dead.String(), Code: b.code.String(), Reason: b.reason, Kept: &kept, NotKept: notSent})
	if b.text != nil {
		r.reject(b.text, header)
	}
}

// reject writes a row to the file of --rejects, and before the first row the header of CSV.
func (r *reports) reject(text, header []byte) {
	if r.rejects == nil {
		return
	}
	if !r.header && header != nil {
		_, _ = r.rejects.Write(header) // close returns the errors of these writes
		_ = r.rejects.WriteByte('\n')
	}
	r.header = true
	_, _ = r.rejects.Write(text)
	_ = r.rejects.WriteByte('\n')
}

// write writes one line of --outcomes.
func (r *reports) write(o *RowReport) {
	switch {
	case r.lines != nil:
		if err := r.lines.Encode(o); err != nil {
			r.failed = cmp.Or(r.failed, err)
		}
	case r.csv != nil:
		kept := ""
		if o.Kept != nil {
			kept = strconv.FormatBool(*o.Kept)
		}
		key := string(o.Key)
		var text string
		if json.Unmarshal(o.Key, &text) == nil {
			key = text
		}
		_ = r.csv.Write([]string{strconv.Itoa(o.Line), key, o.Outcome, o.Function, o.Code, o.Reason, strconv.Itoa(int(o.Attempts)), kept, o.NotKept, o.Letter})
	}
}

// keyOf returns the value of the shard key in a row. nil means that the row has none, or that nobody asks.
func (r *reports) keyOf(row []byte) json.RawMessage {
	var fields map[string]json.RawMessage
	if r.key == "" || json.Unmarshal(row, &fields) != nil {
		return nil
	}
	return fields[r.key]
}
