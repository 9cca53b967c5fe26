package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// explainCommand makes the command kisgrid explain, which shows where the rows of one shard key go, and where the unfinished ones
// are.
func explainCommand() *cobra.Command {
	var s server
	var o output
	var limit uint32
	cmd := &cobra.Command{
		Use:   "explain FLOW KEY",
		Short: "Show where rows with a shard key go, and where the unfinished ones are",
		Long: `explain shows to which worker and lane a row with the shard key KEY would go now, and on which revision it would run; or why it would
go nowhere. KEY is the value of the shard key as it stands in the row's JSON.

Then explain lists the rows of the key that have no outcome yet: where each row is, for how long, and which event it waits for. Rows
that others wait for come first. The list includes rows that other coordinators have sent to the worker. --limit bounds the list; the
counts above it are of all rows.

For a flow with expressions, explain ends with its functions: the fields that each reads, the rows that it gives, and the types of its
expressions.

Rows that were given up: when a client cancels a batch, or its deadline passes, rows that no worker has yet are not sent any more. A
row that a worker has already runs to its end, because it may have saved something: until its function returns or times out, or its
retries or its wait for a key run out. Later rows of the key wait for it, as for any other row, since they must not overtake it.`,
		Example: "  kisgrid explain CalStuAvgScore12 101\n  kisgrid explain Orders '\"customer-7\"' -o json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.format != "" && o.format != "json" {
				return fmt.Errorf("--output %q: give json", o.format)
			}
			return s.admin(func(a pb.AdminClient) error {
				r, err := a.Explain(cmd.Context(), &pb.ExplainRequest{Flow: args[0], Key: args[1], Rows: true, Most: limit})
				if err != nil {
					return err
				}
				steps, computes := typesIn(documentsOfFlows(cmd.Context(), a, args[:1]), args[0])
				if !computes {
					steps = nil // nothing but names
				}
				return printExplanation(cmd.OutOrStdout(), args[0], args[1], r, steps, o.format)
			})
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 20, "list at most so many `rows`, up to 1000")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// explainedRow is one row without an outcome, as -o json prints it. Empty fields are left out. docs/cli.md describes the fields.
type explainedRow struct {
	Batch       string  `json:"batch"` // the batch's id, as batchName writes it
	Row         uint32  `json:"row"`   // index in its batch
	Where       string  `json:"where"` // the place, such as "running" or "held_back"
	Worker      string  `json:"worker,omitempty"`
	Lane        *uint32 `json:"lane,omitempty"` // nil where the row is in no lane
	From        string  `json:"from,omitempty"` // for a row that is held back: the old owner of its slot
	Function    string  `json:"function,omitempty"`
	WaitsFor    string  `json:"waits_for,omitempty"`        // the kind of event, such as "retry" or "key"
	Connector   string  `json:"connector,omitempty"`        // the connector of that event
	Key         string  `json:"key,omitempty"`              // the key that the row waits for, in the connector's store
	Attempt     uint32  `json:"attempt,omitempty"`          // the next attempt of the function
	Behind      string  `json:"behind,omitempty"`           // the row of the key before this one
	Seconds     float64 `json:"seconds"`                    // how long the row has been there
	Until       float64 `json:"until_seconds,omitempty"`    // how long it waits at most from now on
	RunRows     uint32  `json:"run_rows,omitempty"`         // rows of the run that it is in
	GivenUp     string  `json:"given_up,omitempty"`         // why its client does not wait for it any more
	Coordinator string  `json:"coordinator,omitempty"`      // another coordinator, whose row it is
	Broken      bool    `json:"coordinator_away,omitempty"` // that coordinator has no session with the worker
}

// explainedCount is the number of rows of the key in one place, as -o json prints it. The field Others says that the rows are those
// of other coordinators.
type explainedCount struct {
	Where  string `json:"where"`
	Worker string `json:"worker,omitempty"`
	Rows   uint64 `json:"rows"`
	Others bool   `json:"of_other_coordinators,omitempty"`
}

// behind names the row of the same key that stands directly before the row at index i in a lane of the same worker. It returns ""
// if there is no such row, and for a row that runs.
func behind(rows []*pb.RowPlace, i int) string {
	if i == 0 || !inLane(rows[i]) || !inLane(rows[i-1]) || rows[i].GetWorker() != rows[i-1].GetWorker() || rows[i].GetWhere() == "running" {
		return ""
	}
	return fmt.Sprintf("row %d of batch %s", rows[i-1].GetRow(), batchName(rows[i-1]))
}

// batchName returns the id of the batch of a row as text: the stream in hexadecimal, a dash, and the sequence.
func batchName(r *pb.RowPlace) string {
	return fmt.Sprintf("%x-%d", r.GetBatch().GetStream(), r.GetBatch().GetSequence())
}

// rowView converts a row of an explanation into the form that -o json prints.
func rowView(r *pb.RowPlace) explainedRow {
	v := explainedRow{
		Batch: batchName(r), Row: r.GetRow(), Where: r.GetWhere(), Worker: r.GetWorker(),
		From: r.GetFrom(), Function: r.GetFunction(), WaitsFor: r.GetWait(), Connector: r.GetConnector(), Key: r.GetKey(), Attempt: r.GetAttempt(),
		Seconds: float64(r.GetForMilliseconds()) / 1000, Until: float64(r.GetDueMilliseconds()) / 1000, RunRows: r.GetRunRows(), GivenUp: r.GetGivenUp(),
		Coordinator: r.GetCoordinator(), Broken: r.GetBroken(),
	}
	if inLane(r) {
		v.Lane = &r.Lane
	}
	return v
}

// inLane reports whether a row is in a lane of a worker. If so, the message has the number of the lane.
func inLane(r *pb.RowPlace) bool {
	switch r.GetWhere() {
	case "running", "entering", "parked", "lane":
		return true
	}
	return false
}

// printExplanation prints the answer of explain: as JSON where the format asks for it, else for people. steps are the flow's functions with
// their row types, if one of them has an expression.
func printExplanation(out io.Writer, flow, key string, r *pb.ExplainResponse, steps []definition.StepTypes, format string) error {
	if format == "json" {
		rows, counts := []explainedRow{}, []explainedCount{}
		for i, row := range r.GetRows() {
			v := rowView(row)
			v.Behind = behind(r.GetRows(), i)
			rows = append(rows, v)
		}
		for _, c := range r.GetCounts() {
			counts = append(counts, explainedCount{c.GetWhere(), c.GetWorker(), c.GetRows(), c.GetOthers()})
		}
		view := map[string]any{
			"flow": flow, "key": key, "revision": r.GetRevision(), "slot": r.GetSlot(), "worker": r.GetWorker(), "lane": r.GetLane(), "lanes": r.GetLanes(),
			"reason": r.GetReason(), "rows": map[string]uint64{"sent": r.GetSent(), "queued": r.GetQueued(), "held": r.GetHeld()},
			"key_rows": rows, "key_counts": counts, "given_up": r.GetGivenUp(), "looked": r.GetLooked(), "unknown": append([]string{}, r.GetUnknown()...),
		}
		if steps != nil {
			view["functions"] = steps
		}
		return printIndented(out, view)
	}
	worker := or(r.GetWorker(), "nowhere")
	if r.GetWorker() != "" {
		worker += fmt.Sprintf(", lane %d of %d", r.GetLane(), r.GetLanes())
	}
	fmt.Fprintf(out, "slot %d goes to %s: %s\nrevision %d\nrows of the slot without an outcome: %d with a worker (begun, queued or parked there), %d waiting for credit or a session, %d held back\n",
		r.GetSlot(), worker, r.GetReason(), r.GetRevision(), r.GetSent(), r.GetQueued(), r.GetHeld())
	switch {
	case r.GetLooked():
		if err := printRows(out, r); err != nil {
			return err
		}
	case r.GetLanes() > 0: // the flow has a shard key
		fmt.Fprintln(out, "the coordinator's build is too old to tell where the rows of the key are: name another coordinator with --server")
	}
	if steps == nil {
		return nil
	}
	fmt.Fprintln(out, "functions of the flow, by its newest documents:")
	return definition.WriteTypes(out, steps)
}

// printRows prints the counts of the key's rows by place, then a table of single rows.
func printRows(out io.Writer, r *pb.ExplainResponse) error {
	all, others := uint64(0), uint64(0)
	var counts []string
	for _, c := range r.GetCounts() {
		all += c.GetRows()
		line := fmt.Sprintf("%d %s", c.GetRows(), where(c.GetWhere(), c.GetWorker()))
		if c.GetOthers() {
			others += c.GetRows()
			line += " (of other coordinators)"
		}
		counts = append(counts, line)
	}
	fmt.Fprintf(out, "rows of the key that have not ended: %d", all)
	if others > 0 {
		fmt.Fprintf(out, ", %d of them of other coordinators", others)
	}
	if n := r.GetGivenUp(); n > 0 {
		fmt.Fprintf(out, ", %d given up by their clients or past their deadline", n)
	}
	fmt.Fprintln(out)
	for _, line := range counts {
		fmt.Fprintln(out, "  "+line)
	}
	if len(r.GetRows()) > 0 {
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "BATCH\tROW\tFOR\tWHERE\tWAITS FOR")
		for i, row := range r.GetRows() {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", batchName(row), row.GetRow(), ago(row.GetForMilliseconds()), rowWhere(row), waitsFor(row, behind(r.GetRows(), i)))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if listed := uint64(len(r.GetRows())); listed < all {
		fmt.Fprintf(out, "%d more rows are counted above; --limit tells of more\n", all-listed)
	}
	for _, line := range r.GetUnknown() {
		fmt.Fprintln(out, "not known: "+line)
	}
	if r.GetGivenUp() > 0 {
		fmt.Fprintln(out, "Rows that were given up end by themselves, as what has begun may have saved something; until then their key waits for them.")
	}
	return nil
}

// ago formats a number of milliseconds as a duration, such as 1.5s.
func ago(milliseconds uint64) string {
	return (time.Duration(milliseconds) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// where describes a place of rows in words. The argument place is a value of the JSON field "where", such as "parked"; worker is the
// worker of that place. A place that this build does not know is printed as it is.
func where(place, worker string) string {
	switch place {
	case "running":
		return "running in worker " + worker
	case "entering":
		return "about to run in worker " + worker
	case "parked":
		return "parked in worker " + worker
	case "lane":
		return "queued in worker " + worker
	case "travelling":
		return "on the way to worker " + worker + " or back"
	case "at_worker":
		return "in worker " + worker + ", which does not say more"
	case "set_aside":
		return "set aside here, for worker " + worker
	case "queued":
		return "queued here, for worker " + worker
	case "held_back":
		return "held back here"
	case "no_worker":
		return "waiting here without a worker"
	}
	return strings.TrimSpace(place + " " + worker)
}

// rowWhere describes the place of one row in words: the worker, the lane, the function, to which coordinator the row belongs if to
// another one, and whether it was given up.
func rowWhere(r *pb.RowPlace) string {
	text := where(r.GetWhere(), r.GetWorker())
	if inLane(r) {
		text += fmt.Sprintf(", lane %d", r.GetLane())
	}
	if f := r.GetFunction(); f != "" {
		text += ", function " + f
	}
	switch c := r.GetCoordinator(); {
	case c != "" && r.GetBroken():
		text += "; of coordinator " + c + ", which has no session with the worker"
	case c != "":
		text += "; of coordinator " + c
	}
	switch r.GetGivenUp() {
	case "":
	case "cancelled":
		text += "; given up by its client"
	default:
		text += "; its deadline passed, or it ended elsewhere"
	}
	return text
}

// waitsFor describes in words the event for which a row waits, such as the Save of a key. The argument before names the row of the
// same key directly before it; it may be empty.
func waitsFor(r *pb.RowPlace, before string) (text string) {
	switch r.GetWhere() {
	case "running":
		return fmt.Sprintf("the end of its run, of %d rows", r.GetRunRows())
	case "entering":
		return "leave to run: room for what functions pass on, or the end of what must not run beside it"
	case "lane":
		if before != "" {
			return "its lane, behind " + before
		}
		return "its lane"
	case "travelling", "at_worker":
		return "its worker's answer"
	case "set_aside":
		return "rows of its key at the worker: one key has a quarter of what the worker may be sent"
	case "queued":
		return "room at the worker, or a session with it"
	case "held_back":
		return "the slot's old owner, " + r.GetFrom() + ", to be done with its rows"
	case "no_worker":
		return "a worker that is ready for the flow"
	}
	switch r.GetWait() {
	case "order":
		if before != "" {
			return "order: behind " + before
		}
		return "order: behind rows of its key"
	case "retry":
		text = fmt.Sprintf("its function's attempt %d", r.GetAttempt())
	case "key":
		text = fmt.Sprintf("key %q of connector %s", r.GetKey(), r.GetConnector())
	case "save":
		text = "a Save through connector " + r.GetConnector()
	case "store":
		text = "connector " + r.GetConnector() + " to answer, or to be back"
	case "turn":
		return "its lane: what it waited for has happened"
	default:
		text = r.GetWait()
	}
	if due := r.GetDueMilliseconds(); due > 0 {
		text += ", for another " + ago(due) + " at the most"
	}
	return text
}
