package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deadCommand makes the command kisgrid dead, and its subcommands for dead letters.
func deadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead list|show|edit|redrive|drop",
		Short: "Look at rows that could not be done, and run them again",
		Long: `A row dies when a function returns an error on every attempt, when the row can't be decoded, or when a key that it waits for is never
saved. Coordinators that have a store for it (--dead-letters) keep each dead row as a dead letter: the row as it entered the function
in which it died, and the reason.

  kisgrid dead list                             list the letters, and whether the store of a flow is full
  kisgrid dead list --field stu_id=101          find letters by what their rows have
  kisgrid dead show ID                          show one letter with its row
  kisgrid dead edit ID -f row.json              replace the row of a letter
  kisgrid dead redrive --flow F --function G    after G was corrected: run its letters again, from G on
  kisgrid dead drop --flow F --since 1h         delete letters

A redrive runs a row on the active revision of its flow. It begins at the function in which the row died, with the row that this
function got then, so that the functions before it save nothing twice. A letter is deleted when its row ends, and stays when the row
dies again. The output of the flow is thrown away, unless redrive --results prints it.

An ID may be cut after 6 digits or more, where no other letter's id begins so. Fields that an access file hides from you are null
for --field, --key and --text, too.`,
	}
	cmd.AddCommand(deadListCommand(), deadShowCommand(), deadEditCommand(), deadRedriveCommand(), deadDropCommand())
	return cmd
}

// deadListCommand makes the command kisgrid dead list, which lists dead letters, and how full the store of each flow is.
func deadListCommand() *cobra.Command {
	var s server
	var o output
	var f deadFilter
	var limit uint32
	var after string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, and how full the store of each flow is",
		Long: `list shows the dead letters, the oldest first. A redrive runs the letters of one shard key in the same order. After the letters comes
one line for each flow: how many letters its store has, and how many dead rows were not kept because the store was full. With -o json
it prints one object on each line: {letter: …} or {store: …}.`,
		Example: "  kisgrid dead list --flow CalStuAvgScore12 --since 1h\n  kisgrid dead list --code LOAD_TIMEOUT -o json\n  kisgrid dead list -o csv > letters.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.message(nil, time.Now())
			if err != nil {
				return err
			}
			return s.admin(func(a pb.AdminClient) error {
				if !cmd.Flags().Changed("limit") && o.data() {
					limit = 0
				}
				in := &pb.ListDeadRequest{Filter: filter, Limit: limit, NoRows: !o.data() || o.format == "name" || o.format == "csv"}
				if after != "" {
					behind, err := letterOf(cmd.Context(), a, &pb.ListDeadRequest{Filter: &pb.DeadFilter{Flow: f.flow, Ids: []string{after}}, NoRows: true})
					if err != nil {
						return err
					}
					in.After = behind.GetPosition()
				}
				return tooOld(listDead(cmd.Context(), a, in, &o, cmd.OutOrStdout()))
			})
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&after, "after", "", "list only letters that come after the one with this `id`")
	cmd.Flags().Uint32Var(&limit, "limit", 500, "list at most so many `letters`; 0 means all, as data for programs always has unless this flag is given")
	o.bind(cmd, listFormats...)
	s.bind(cmd)
	return cmd
}

// listDead implements kisgrid dead list: it prints the letters that the request selects, and then one line for the store of each
// flow. Formats for programs have no such line, except for JSON.
func listDead(ctx context.Context, a pb.AdminClient, in *pb.ListDeadRequest, o *output, out io.Writer) error {
	events, err := a.ListDead(ctx, in)
	if err != nil {
		return err
	}
	stores := []*pb.DeadStore{}
	var views []deadLetter
	l := &list{heading: []string{"ID", "KEPT", "FLOW", "FUNCTION", "CODE", "REDRIVES", "REASON", "ATTEMPTS", "REVISION", "BATCH", "ROW", "SOURCE"}, narrow: 7, none: "there are no such dead letters"}
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch letter := e.GetLetter(); {
		case o.format == "json" && letter != nil: // one object a line, since there may be many
			err = printJSON(out, map[string]any{"letter": letterView(letter)})
		case o.format == "json":
			err = printJSON(out, map[string]any{"store": storeView(e.GetStore())})
		case letter != nil:
			v := letterView(letter)
			views, l.names = append(views, v), append(l.names, v.ID)
			l.rows = append(l.rows, []string{v.ID, v.Kept.Format(time.RFC3339), v.Flow, or(v.Function, "-"), v.Code, strconv.FormatUint(uint64(v.Redrives), 10),
				firstLine(v.Reason), strconv.FormatUint(uint64(v.Attempts), 10), strconv.FormatInt(v.Revision, 10), v.Batch, strconv.FormatUint(uint64(v.Place), 10), v.from()})
		default:
			stores = append(stores, e.GetStore())
		}
		if err != nil {
			return err
		}
	}
	if o.format == "json" {
		return nil
	}
	l.value = views
	if err := o.print(out, l); err != nil {
		return err
	}
	if o.data() {
		return nil
	}
	if n := len(l.rows); in.GetLimit() > 0 && n == int(in.GetLimit()) {
		fmt.Fprintf(out, "there may be more than these %d letters: --after %s goes on, --limit 0 lists all\n", n, l.names[n-1])
	}
	for _, s := range stores {
		fmt.Fprintln(out, storeLine(s))
	}
	return nil
}

// storeLine returns a line of text that says how many letters the store of a flow has, and how many dead rows and letters it has
// lost.
func storeLine(s *pb.DeadStore) string {
	line := fmt.Sprintf("%s: %d of at most %d letters", s.GetFlow(), s.GetLetters(), s.GetLimit())
	if s.GetLetters() >= s.GetLimit() {
		line += " - FULL: further dead rows are not kept"
	}
	if n := s.GetRefused(); n > 0 {
		line += fmt.Sprintf("; %d dead rows were not kept because it was full", n)
	}
	if n := s.GetExpired(); n > 0 {
		line += fmt.Sprintf("; %d letters were forgotten after %s", n, time.Duration(s.GetAgeLimitSeconds())*time.Second)
	}
	return line
}

// deadLetter is a dead letter as -o json prints it. docs/cli.md describes the fields.
type deadLetter struct {
	ID       string    `json:"id"`
	Flow     string    `json:"flow"`
	Function string    `json:"function"` // the function in which the row died; empty means before the first function
	Revision int64     `json:"revision"` // the revision of the flow on which the row ran
	Code     string    `json:"code"`
	Reason   string    `json:"reason"`
	Attempts uint32    `json:"attempts"` // how often that function was tried
	Redrives uint32    `json:"redrives"` // how often the letter was redriven
	Kept     time.Time `json:"kept"`     // when the letter was kept
	Edited   bool      `json:"edited"`   // the row was replaced by dead edit
	Batch    string    `json:"batch"`    // stream in hexadecimal, a dash, and the sequence
	Place    uint32    `json:"row_in_batch"`
	Source   string    `json:"source,omitempty"` // the file or source that the row came from; empty means that the client did not say
	Line     uint64    `json:"line,omitempty"`   // the line in it; 0 means that the client did not say
	Masked   []string  `json:"masked,omitempty"` // fields that are hidden from the caller
	Encoding string    `json:"encoding"`         // the encoding of the row, such as json
	// Row is the row as JSON where it is JSON, and as a string where it is other text. RowBytes is used where it is not text.
	Row      any    `json:"row,omitempty"`
	RowBytes []byte `json:"row_base64,omitempty"`
}

// from returns the source and the line of the letter's row, as text; "-" means that they are not known.
func (v *deadLetter) from() string {
	switch {
	case v.Line == 0:
		return or(v.Source, "-")
	case v.Source == "":
		return fmt.Sprintf("line %d", v.Line)
	}
	return fmt.Sprintf("%s:%d", v.Source, v.Line)
}

// letterView converts a dead letter into the form that -o json prints.
func letterView(l *pb.DeadLetter) deadLetter {
	v := deadLetter{
		ID: l.GetId(), Flow: l.GetFlow(), Function: l.GetFunction(), Revision: l.GetRevision(), Code: batch.Code(l.GetCode()).String(), Reason: l.GetReason(),
		Attempts: l.GetAttempts(), Redrives: l.GetRedrives(), Kept: time.UnixMilli(l.GetKeptUnixMilliseconds()).UTC(), Edited: l.GetEdited(),
		Batch: fmt.Sprintf("%x-%d", l.GetBatch().GetStream(), l.GetBatch().GetSequence()), Place: l.GetPlace(),
		Source: l.GetSource(), Line: l.GetLine(), Masked: l.GetMasked(), Encoding: or(l.GetEncoding(), batch.JSON),
	}
	switch {
	case v.Encoding == batch.JSON && json.Valid(l.GetRow()):
		v.Row = json.RawMessage(l.GetRow())
	case utf8.Valid(l.GetRow()):
		v.Row = string(l.GetRow())
	default:
		v.RowBytes = l.GetRow()
	}
	return v
}

// storeView converts the state of a flow's store of dead letters into a value for JSON.
func storeView(s *pb.DeadStore) map[string]any {
	return map[string]any{
		"flow": s.GetFlow(), "letters": s.GetLetters(), "limit": s.GetLimit(), "full": s.GetLetters() >= s.GetLimit(),
		"age_limit_seconds": s.GetAgeLimitSeconds(), "refused": s.GetRefused(), "expired": s.GetExpired(),
	}
}

// deadShowCommand makes the command kisgrid dead show, which prints one dead letter with its row.
func deadShowCommand() *cobra.Command {
	var s server
	var o output
	var raw bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show everything about one dead letter",
		Long:    "show prints in which function and why a row died, and the row as that function got it. With --row it prints only the row, byte for byte, for editing.",
		Example: "  kisgrid dead show $(kisgrid dead list -o name --limit 1)\n  kisgrid dead show ID --row > row.json && $EDITOR row.json && kisgrid dead edit ID -f row.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.admin(func(a pb.AdminClient) error {
				l, err := findLetter(cmd.Context(), a, args[0])
				if err != nil {
					return err
				}
				return showLetter(cmd.OutOrStdout(), l, o.format, raw)
			})
		},
	}
	cmd.Flags().BoolVar(&raw, "row", false, "print only the row")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// findLetter gets the dead letter with this id from a coordinator. If there is none, the error has the code NOT_FOUND.
func findLetter(ctx context.Context, a pb.AdminClient, id string) (*pb.DeadLetter, error) {
	return letterOf(ctx, a, &pb.ListDeadRequest{Filter: &pb.DeadFilter{Ids: []string{id}}})
}

// letterOf gets the one letter that a request with one id selects. If there is none, the error has the code NOT_FOUND.
func letterOf(ctx context.Context, a pb.AdminClient, in *pb.ListDeadRequest) (*pb.DeadLetter, error) {
	id := in.GetFilter().GetIds()[0]
	events, err := a.ListDead(ctx, in)
	if err != nil {
		return nil, err
	}
	var found *pb.DeadLetter
	for {
		e, err := events.Recv()
		switch {
		case errors.Is(err, io.EOF) && found == nil:
			return nil, batch.Errorf(batch.CodeNotFound, "there is no dead letter %s: it may have been redriven or dropped; kisgrid dead list shows the letters that are left", id)
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, err
		case e.GetLetter() != nil:
			found = e.GetLetter()
		}
	}
}

// showLetter prints a dead letter: only its row if raw is true, as JSON if format is "json", and otherwise as text for people.
func showLetter(out io.Writer, l *pb.DeadLetter, format string, raw bool) error {
	if raw {
		_, err := terminal.Data(out).Write(l.GetRow())
		return err
	}
	v := letterView(l)
	if format == "json" {
		return printJSON(out, v)
	}
	row := string(l.GetRow())
	if v.RowBytes != nil {
		row = fmt.Sprintf("%d bytes of %s: --row prints them", len(l.GetRow()), v.Encoding)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, line := range [][2]string{
		{"id", v.ID},
		{"flow", v.Flow},
		{"function", or(v.Function, "- (the row is as it was submitted)")},
		{"code", v.Code},
		{"reason", v.Reason},
		{"attempts", strconv.FormatUint(uint64(v.Attempts), 10)},
		{"redrives", strconv.FormatUint(uint64(v.Redrives), 10)},
		{"revision", strconv.FormatInt(v.Revision, 10)},
		{"kept", v.Kept.Format(time.RFC3339)},
		{"edited", strconv.FormatBool(v.Edited)},
		{"origin", fmt.Sprintf("row %d of batch %s", v.Place, v.Batch)},
		{"source", v.from()},
		{"encoding", v.Encoding},
		{"row", row},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], strings.ReplaceAll(line[1], "\n", "\n\t"))
	}
	return w.Flush()
}

// deadEditCommand makes the command kisgrid dead edit, which replaces the row of a dead letter.
func deadEditCommand() *cobra.Command {
	var s server
	var o output
	var file, row string
	var dry bool
	cmd := &cobra.Command{
		Use:   "edit ID -f FILE|-",
		Short: "Replace the row of a dead letter, before a redrive",
		Long: `edit replaces the row of a dead letter. A redrive gives the new row to the function in which the old one died. The new row must have
the encoding of the old one: for a letter in JSON it must be JSON. One line break at the end of the file is not part of the row.`,
		Example: "  kisgrid dead edit $(kisgrid dead list -o name --limit 1) -f row.json\n  kisgrid dead edit ID --row '{\"stu_id\": 101, \"score_1\": 100, \"score_2\": 90}'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := []byte(row)
			switch {
			case (file == "") == (row == ""):
				return errors.New("give the new row either with -f or with --row")
			case file != "":
				var err error
				if text, err = readRow(file, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			return s.admin(func(a pb.AdminClient) error {
				if dry {
					return checkEdit(cmd.Context(), a, args[0], text, &o, cmd.OutOrStdout())
				}
				l, err := a.EditDead(cmd.Context(), &pb.EditDeadRequest{Id: args[0], Row: text})
				if err == nil && o.format == "json" {
					return printJSON(cmd.OutOrStdout(), letterView(l))
				}
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "letter %s of flow %s is edited: kisgrid dead redrive %s runs it\n", l.GetId(), l.GetFlow(), l.GetId())
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` with the row; - for standard input")
	cmd.Flags().StringVar(&row, "row", "", "the `row` itself")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only check the new row, and show the old one")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// checkEdit prints which row an edit would replace. It returns an error if the letter is not there, or is of JSON and the new row is not.
func checkEdit(ctx context.Context, a pb.AdminClient, id string, row []byte, o *output, out io.Writer) error {
	l, err := findLetter(ctx, a, id)
	if err != nil {
		return err
	}
	v := letterView(l)
	if v.Encoding == batch.JSON && !json.Valid(row) {
		var nothing any
		return batch.Errorf(batch.CodeRowUndecodable, "the row is no valid JSON, but the row of letter %s is: %w", v.ID, json.Unmarshal(row, &nothing))
	}
	if o.format == "json" {
		return printJSON(out, v)
	}
	_, err = fmt.Fprintf(out, "the row of letter %s of flow %s would be replaced: %s\n", v.ID, v.Flow, firstLine(string(l.GetRow())))
	return err
}

// readRow reads a row from a file, or from in where the file is "-", without one line break at its end.
func readRow(file string, in io.Reader) (row []byte, err error) {
	if file == "-" {
		row, err = io.ReadAll(in)
	} else {
		row, err = os.ReadFile(file)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(row), "\n"), "\r")), err
}

// deadDropCommand makes the command kisgrid dead drop, which deletes dead letters.
func deadDropCommand() *cobra.Command {
	var s server
	var o output
	var f deadFilter
	var dry, all bool
	cmd := &cobra.Command{
		Use:   "drop [ID...]",
		Short: "Delete dead letters",
		Long: `drop deletes dead letters: those with the given IDs, or those that fit every flag. To delete all letters of all flows, give --all.
Deleted letters can't be restored: count them first with --dry-run.`,
		Example: "  kisgrid dead drop --flow CalStuAvgScore12 --code LOAD_TIMEOUT --dry-run\n  kisgrid dead drop ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.chosen(cmd, args, all || dry)
			if err != nil {
				return err
			}
			return s.admin(func(a pb.AdminClient) error {
				r, err := a.DropDead(cmd.Context(), &pb.DropDeadRequest{Filter: filter, DryRun: dry})
				if err != nil {
					return tooOld(err)
				}
				if o.format == "json" {
					return printJSON(cmd.OutOrStdout(), map[string]any{"letters": r.GetLetters(), "dry_run": dry})
				}
				did := "dropped"
				if dry {
					did = "would be dropped"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d letters %s\n", r.GetLetters(), did)
				return err
			})
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only count the letters, and delete none")
	cmd.Flags().BoolVar(&all, "all", false, "delete all letters of all flows")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}
