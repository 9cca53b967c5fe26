package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// tapCommand makes the command kisgrid tap, which shows rows as they pass functions of a flow.
func tapCommand() *cobra.Command {
	var s server
	var o output
	var in pb.TapRequest
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "tap FLOW [FUNCTION]",
		Short: "Show rows as they pass the functions of a flow",
		Long: `tap shows rows while they pass FUNCTION, or each function of the flow if none is named: the row as it came to the function, and the rows
that went on from there, or how the row ended. It changes nothing, and slows nothing down: workers copy rows only as far as 1 % of one
processor goes, so on a busy flow tap shows some of the rows, and says of how many. No row waits for it.

--where is an expression over the row as it comes to the function (docs/expressions.md); --key is the value of the shard key as it
stands in the row's JSON. Fields that are hidden from you are null in the rows, and in the expression. tap needs the right rows on the
flow, and the audit log notes it.

It ends after --limit rows or --for, and with Ctrl-C. Where the flow changes, it goes on with the new revision, and says so. Workers
of builds that know no tap are named.`,
		Example: "  kisgrid tap CalStuAvgScore12 --for 5s\n  kisgrid tap CalStuAvgScore12 VerifyStu --where 'score_1 > 90' --limit 5\n  kisgrid tap CalStuAvgScore12 --key 101 -o json",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Flow = args[0]; len(args) > 1 {
				in.Function = args[1]
			}
			if length < time.Millisecond {
				return fmt.Errorf("--for %v: give at least 1ms", length)
			}
			in.Milliseconds = uint64(length.Milliseconds())
			return s.admin(func(a pb.AdminClient) error {
				p := &tapPrinter{out: cmd.OutOrStdout(), log: cmd.ErrOrStderr(), json: o.format == "json"}
				return p.follow(cmd.Context(), a, &in)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&in.Where, "where", "", "only rows for which this `expression` is true, as they come to the function")
	fs.StringVar(&in.Key, "key", "", "only rows with this shard `key`, a JSON value")
	fs.Uint32Var(&in.Limit, "limit", 20, "end after so many `rows`, up to 10000")
	fs.DurationVar(&length, "for", time.Minute, "end after this `duration`, up to 1h")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// tapPrinter prints the events of a tap: rows to out, everything else to log.
type tapPrinter struct {
	out, log io.Writer
	json     bool
	counts   *pb.TapCounts
}

// follow prints a tap until it has ended. The last line tells how many rows were shown, of how many.
func (p *tapPrinter) follow(ctx context.Context, a pb.AdminClient, in *pb.TapRequest) error {
	events, err := a.Tap(ctx, in)
	for err == nil {
		var e *pb.TapEvent
		if e, err = events.Recv(); err == nil {
			err = p.print(e)
		}
	}
	if status.Code(err) == codes.Unimplemented {
		return batch.Errorf(batch.CodeProtocolMismatch, "the coordinator's build is older than taps: name another coordinator with --server")
	}
	if p.counts != nil {
		fmt.Fprintln(p.log, summaryOf(p.counts))
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return wire.FromStatus(err)
}

// print prints one event.
func (p *tapPrinter) print(e *pb.TapEvent) error {
	switch kind := e.GetKind().(type) {
	case *pb.TapEvent_Row:
		if p.json {
			return printJSON(p.out, viewOfTapped(kind.Row))
		}
		_, err := io.WriteString(p.out, textOfTapped(kind.Row))
		return err
	case *pb.TapEvent_Counts:
		p.counts = kind.Counts
	case *pb.TapEvent_Note:
		text := kind.Note.GetText()
		if kind.Note.GetWorker() != "" {
			text = "worker " + kind.Note.GetWorker() + ": " + text
		}
		fmt.Fprintln(p.log, text)
	}
	return nil
}

// summaryOf says how many rows a tap has shown, of how many, and why not the others.
func summaryOf(c *pb.TapCounts) string {
	text := fmt.Sprintf("%d of %d rows shown", c.GetShown(), c.GetPassed())
	var why []string
	if n := c.GetUnmatched() - c.GetFailed(); n > 0 {
		why = append(why, fmt.Sprintf("%d did not match", n))
	}
	if n := c.GetFailed(); n > 0 {
		why = append(why, fmt.Sprintf("the expression failed for %d (%s)", n, c.GetFailure()))
	}
	if n := c.GetLeftOut(); n > 0 {
		why = append(why, fmt.Sprintf("%d were left out", n))
	}
	if len(why) > 0 {
		text += ": " + strings.Join(why, ", ")
	}
	switch c.GetWorkers() {
	case 0:
		return text + "; no worker shows rows"
	case 1:
		return text + "; from 1 worker"
	}
	return fmt.Sprintf("%s; from %d workers", text, c.GetWorkers())
}

// textOfTapped returns a row as text for people.
func textOfTapped(row *pb.TappedRow) string {
	var b strings.Builder
	b.WriteString(row.GetFunction())
	if row.GetUse() > 0 {
		fmt.Fprintf(&b, " (its use %d)", row.GetUse()+1)
	}
	switch became := row.GetBecame(); {
	case became == "jumped":
		b.WriteString("  jumped to " + row.GetTo())
	case row.GetUnchanged():
		b.WriteString("  " + became + " unchanged")
	default:
		b.WriteString("  " + became)
	}
	if row.GetCode() != 0 {
		b.WriteString(" " + batch.Code(row.GetCode()).String())
	}
	if row.GetReason() != "" {
		b.WriteString(": " + terminal.Line(row.GetReason()))
	}
	fmt.Fprintf(&b, "  (batch %s", tappedBatch(row))
	if row.GetRow() != batch.WholeBatch {
		fmt.Fprintf(&b, ", row %d", row.GetRow())
	}
	b.WriteString(")\n  " + textOfText(row.GetBefore()) + "\n")
	for _, after := range row.GetAfter() {
		b.WriteString("  → " + textOfText(after) + "\n")
	}
	if row.GetMore() > 0 {
		fmt.Fprintf(&b, "  → and %d more rows\n", row.GetMore())
	}
	if row.GetOfBatch() {
		b.WriteString("  the function makes its rows of all rows together\n")
	}
	return b.String()
}

// tappedBatch returns the id of the batch of a row as text, as batchName does.
func tappedBatch(row *pb.TappedRow) string {
	return batchName(&pb.RowPlace{Batch: row.GetBatch()})
}

// textOfText returns the text of a row, or says why there is none.
func textOfText(t *pb.TappedText) string {
	switch {
	case t.GetWithheld() != "":
		return "(not shown: " + t.GetWithheld() + ")"
	case t.GetCutFrom() > 0:
		return fmt.Sprintf("%s… (%d bytes in all)", terminal.Line(t.GetText()), t.GetCutFrom())
	}
	return terminal.Line(t.GetText())
}

// tappedView is a row of a tap as -o json prints it.
type tappedView struct {
	Worker    string            `json:"worker"`
	Function  string            `json:"function"`
	Use       uint32            `json:"use"`
	Revision  int64             `json:"revision"`
	Batch     string            `json:"batch"`
	Row       *uint32           `json:"row,omitempty"` // missing: it was made of the whole batch
	Path      string            `json:"path,omitempty"`
	Visit     uint32            `json:"visit,omitempty"`
	At        time.Time         `json:"at"`
	Before    json.RawMessage   `json:"before"`
	Became    string            `json:"became"`
	To        string            `json:"to,omitempty"`
	After     []json.RawMessage `json:"after,omitempty"`
	Unchanged bool              `json:"unchanged,omitempty"`
	More      uint32            `json:"more,omitempty"`
	OfBatch   bool              `json:"of_batch,omitempty"`
	Code      string            `json:"code,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Attempts  uint32            `json:"attempts,omitempty"`
}

// viewOfTapped makes the view of a row.
func viewOfTapped(row *pb.TappedRow) tappedView {
	v := tappedView{
		Worker: row.GetWorker(), Function: row.GetFunction(), Use: row.GetUse(), Revision: row.GetRevision(), Batch: tappedBatch(row),
		Visit: row.GetVisit(), At: time.UnixMicro(row.GetAtUnixMicroseconds()).UTC(), Before: jsonOfText(row.GetBefore()), Became: row.GetBecame(),
		To: row.GetTo(), Unchanged: row.GetUnchanged(), More: row.GetMore(), OfBatch: row.GetOfBatch(), Reason: row.GetReason(), Attempts: row.GetAttempts(),
	}
	if n := row.GetRow(); n != batch.WholeBatch {
		v.Row = &n
	}
	if row.GetPath() != 0 {
		v.Path = fmt.Sprintf("%016x", row.GetPath())
	}
	if row.GetCode() != 0 {
		v.Code = batch.Code(row.GetCode()).String()
	}
	for _, after := range row.GetAfter() {
		v.After = append(v.After, jsonOfText(after))
	}
	return v
}

// jsonOfText returns a row as it is if it is JSON, and otherwise as a JSON string. A row that is withheld is null.
func jsonOfText(t *pb.TappedText) json.RawMessage {
	switch {
	case t.GetWithheld() != "" || t == nil:
		return json.RawMessage("null")
	case json.Valid([]byte(t.GetText())):
		return json.RawMessage(t.GetText())
	}
	text, _ := json.Marshal(t.GetText()) //nolint:errchkjson // a string can be written
	return text
}
