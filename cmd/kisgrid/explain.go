package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func explainCommand() *cobra.Command {
	var s server
	var o output
	var limit uint32
	cmd := &cobra.Command{
		Use:   "explain FLOW KEY",
		Short: "Say where a row with this shard key goes, and where those are that have not ended",
		Long: `explain says which worker, and which lane of it, a row would go to now, and on which revision, or why nowhere. KEY is the shard key's
value as it stands in the row's JSON.

Then it tells of each row of the key that has no outcome where it is, for how long, and what it waits for: those first that others
wait for. Rows of other coordinators that have come to the worker are among them. --limit bounds how many are told one by one, the
counts are of all.

A row that its client gave up, or whose deadline passed, is not sent to a worker any more. One that a worker has already goes on to
its end there, since it may have saved something: its function returns or times out, its retries or the wait for its key run out.
Rows of the same key wait for that as for any other row, since they must not overtake it.`,
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
				return printExplanation(cmd.OutOrStdout(), args[0], args[1], r, o.format)
			})
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 20, "tell of at most so many `rows` one by one; at most 1000")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// explainedRow is a row without an outcome, in JSON. Fields that say nothing are left out.
type explainedRow struct {
	Batch       string  `json:"batch"`
	Row         uint32  `json:"row"`
	Where       string  `json:"where"`
	Worker      string  `json:"worker,omitempty"`
	Lane        *uint32 `json:"lane,omitempty"`
	From        string  `json:"from,omitempty"`
	Function    string  `json:"function,omitempty"`
	WaitsFor    string  `json:"waits_for,omitempty"`
	Connector   string  `json:"connector,omitempty"`
	Key         string  `json:"key,omitempty"`
	Attempt     uint32  `json:"attempt,omitempty"`
	Behind      string  `json:"behind,omitempty"`
	Seconds     float64 `json:"seconds"`
	Until       float64 `json:"until_seconds,omitempty"`
	RunRows     uint32  `json:"run_rows,omitempty"`
	GivenUp     string  `json:"given_up,omitempty"`
	Coordinator string  `json:"coordinator,omitempty"`
	Broken      bool    `json:"coordinator_away,omitempty"`
}

// explainedCount is how many rows of the key are in one place, in JSON.
type explainedCount struct {
	Where  string `json:"where"`
	Worker string `json:"worker,omitempty"`
	Rows   uint64 `json:"rows"`
	Others bool   `json:"of_other_coordinators,omitempty"`
}

// behind is the row of the key that stands before one at the same worker; empty: none does, or none is told of.
func behind(rows []*pb.RowPlace, i int) string {
	if i == 0 || !inLane(rows[i]) || !inLane(rows[i-1]) || rows[i].GetWorker() != rows[i-1].GetWorker() || rows[i].GetWhere() == "running" {
		return ""
	}
	return fmt.Sprintf("row %d of batch %s", rows[i-1].GetRow(), batchName(rows[i-1]))
}

func batchName(r *pb.RowPlace) string {
	return fmt.Sprintf("%x-%d", r.GetBatch().GetStream(), r.GetBatch().GetSequence())
}

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

// inLane reports whether the worker has said where the row is.
func inLane(r *pb.RowPlace) bool {
	switch r.GetWhere() {
	case "running", "entering", "parked", "lane":
		return true
	}
	return false
}

// printExplanation tells where rows go, and where they are.
func printExplanation(out io.Writer, flow, key string, r *pb.ExplainResponse, format string) error {
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
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{
			"flow": flow, "key": key, "revision": r.GetRevision(), "slot": r.GetSlot(), "worker": r.GetWorker(), "lane": r.GetLane(), "lanes": r.GetLanes(),
			"reason": r.GetReason(), "rows": map[string]uint64{"sent": r.GetSent(), "queued": r.GetQueued(), "held": r.GetHeld()},
			"key_rows": rows, "key_counts": counts, "given_up": r.GetGivenUp(), "looked": r.GetLooked(), "unknown": append([]string{}, r.GetUnknown()...),
		})
	}
	worker := or(r.GetWorker(), "nowhere")
	if r.GetWorker() != "" {
		worker += fmt.Sprintf(", lane %d of %d", r.GetLane(), r.GetLanes())
	}
	fmt.Fprintf(out, "slot %d goes to %s: %s\nrevision %d\nrows of the slot without an outcome: %d with a worker (begun, queued or parked there), %d waiting for credit or a session, %d held back\n",
		r.GetSlot(), worker, r.GetReason(), r.GetRevision(), r.GetSent(), r.GetQueued(), r.GetHeld())
	switch {
	case r.GetLooked():
		return printRows(out, r)
	case r.GetLanes() > 0: // it has a shard key
		fmt.Fprintln(out, "the coordinator is of an earlier build, and does not say where the rows of the key are: name another one with --server")
	}
	return nil
}

// printRows tells where the rows of the key are.
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

func ago(milliseconds uint64) string {
	return (time.Duration(milliseconds) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// where says where rows are.
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

// rowWhere says where one row is.
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

// waitsFor says what a row waits for; before is the row before it.
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
