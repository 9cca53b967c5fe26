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
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func deadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead list|show|edit|redrive|drop",
		Short: "Look at rows that could not be done, and run them again",
		Long: `A row that dies, because a function returned an error on every try, because it does not decode, or because a key it waits
for was never saved, is kept as a dead letter where the coordinators have a store (--dead-letters): the row as it entered the
function in which it died, and why it did.

  kisgrid dead list                             what there is, and whether a flow's store is full
  kisgrid dead show ID                          all about one letter, with its row
  kisgrid dead edit ID -f row.json              mend the row
  kisgrid dead redrive --flow F --function G    after G was mended: run its letters again, from G on
  kisgrid dead drop --flow F --since 1h         forget letters

A redrive begins at the function in which the row died, on the flow's active revision, with what that function was given then:
what the functions before it have saved is not saved again. Letters whose row ends are no more, those that die again stay. What
the flow passes on for them is thrown away, unless redrive --results has it printed.`,
	}
	cmd.AddCommand(deadListCommand(), deadShowCommand(), deadEditCommand(), deadRedriveCommand(), deadDropCommand())
	return cmd
}

// deadFilter selects letters.
type deadFilter struct {
	flow, function, code, since string
}

func (f *deadFilter) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.flow, "flow", "", "only letters of this `flow`")
	fs.StringVar(&f.function, "function", "", "only those that died in this `function`")
	fs.StringVar(&f.code, "code", "", "only those with this `code`, such as FUNCTION_ERROR")
	fs.StringVar(&f.since, "since", "", "only those kept since then: a `time` as 2026-11-22T08:00:00Z, or how long ago, as 2h")
}

func (f *deadFilter) message(ids []string, now time.Time) (*pb.DeadFilter, error) {
	m := &pb.DeadFilter{Flow: f.flow, Function: f.function, Ids: ids}
	if f.code != "" {
		n, ok := pb.Code_value["CODE_"+strings.ToUpper(f.code)]
		if !ok || n == 0 {
			return nil, fmt.Errorf("--code: there is no code %q: docs/outcomes.md lists them", f.code)
		}
		m.Code = pb.Code(n)
	}
	if f.since != "" {
		since, err := time.Parse(time.RFC3339, f.since)
		if err != nil {
			ago, err := time.ParseDuration(f.since)
			if err != nil || ago < 0 {
				return nil, fmt.Errorf("--since: %q is neither a time as 2026-11-22T08:00:00Z nor how long ago, as 2h", f.since)
			}
			since = now.Add(-ago)
		}
		m.SinceUnixMilliseconds = since.UnixMilli()
	}
	return m, nil
}

// chosen is the filter of a verb that changes the letters which it selects. Where nothing says which, all must have been asked for.
func (f *deadFilter) chosen(cmd *cobra.Command, ids []string, all bool) (*pb.DeadFilter, error) {
	for _, name := range []string{"flow", "function", "code", "since"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return nil, fmt.Errorf("--%s is empty, and would select everything: give it a value, or leave it out", name)
		}
	}
	if !all && len(ids) == 0 && *f == (deadFilter{}) {
		return nil, errors.New("name letters, or say which with --flow, --function, --code or --since; --all is for all letters of all flows")
	}
	return f.message(ids, time.Now())
}

func deadListCommand() *cobra.Command {
	var s server
	var o output
	var f deadFilter
	var limit uint32
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, and how the store of each flow stands",
		Long: `list shows the letters in the order in which they were kept, which is the order in which a redrive runs those of one shard key,
and behind each flow's how its store stands. With -o json it prints one object a line: {letter: …} or {store: …}.`,
		Example: "  kisgrid dead list --flow CalStuAvgScore12 --since 1h\n  kisgrid dead list --code LOAD_TIMEOUT -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.message(nil, time.Now())
			if err != nil {
				return err
			}
			return s.admin(func(a pb.AdminClient) error {
				return listDead(cmd.Context(), a, &pb.ListDeadRequest{Filter: filter, Limit: limit, NoRows: o.format != "json"}, o.format, cmd.OutOrStdout())
			})
		},
	}
	f.bind(cmd)
	cmd.Flags().Uint32Var(&limit, "limit", 0, "at most so many `letters`; 0: all")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

func listDead(ctx context.Context, a pb.AdminClient, in *pb.ListDeadRequest, format string, out io.Writer) error {
	events, err := a.ListDead(ctx, in)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	stores, letters := []*pb.DeadStore{}, 0
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if l := e.GetLetter(); l != nil {
			if letters++; letters == 1 && format != "json" {
				fmt.Fprintln(w, "ID\tKEPT\tFLOW\tFUNCTION\tCODE\tREDRIVES\tREASON")
			}
			if format == "json" {
				err = printJSON(out, map[string]any{"letter": letterView(l)})
			} else {
				_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", l.GetId(), time.UnixMilli(l.GetKeptUnixMilliseconds()).UTC().Format(time.RFC3339),
					l.GetFlow(), or(l.GetFunction(), "-"), batch.Code(l.GetCode()), l.GetRedrives(), firstLine(l.GetReason()))
			}
		} else if format == "json" {
			err = printJSON(out, map[string]any{"store": storeView(e.GetStore())})
		} else {
			stores = append(stores, e.GetStore())
		}
		if err != nil {
			return err
		}
	}
	if format == "json" {
		return nil
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if letters == 0 {
		fmt.Fprintln(out, "there are no such dead letters")
	}
	for _, s := range stores {
		fmt.Fprintln(out, storeLine(s))
	}
	return nil
}

// storeLine says how a flow's store stands.
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

func firstLine(text string) string {
	line, _, cut := strings.Cut(text, "\n")
	if cut || len(line) > 100 {
		line = strings.ToValidUTF8(line[:min(len(line), 100)], "") + " …"
	}
	return line
}

// deadLetter is a letter in JSON.
type deadLetter struct {
	ID       string    `json:"id"`
	Flow     string    `json:"flow"`
	Function string    `json:"function"`
	Revision int64     `json:"revision"`
	Code     string    `json:"code"`
	Reason   string    `json:"reason"`
	Attempts uint32    `json:"attempts"`
	Redrives uint32    `json:"redrives"`
	Kept     time.Time `json:"kept"`
	Edited   bool      `json:"edited"`
	Batch    string    `json:"batch"`
	Place    uint32    `json:"row_in_batch"`
	Encoding string    `json:"encoding"`
	// Row is the row itself where it is JSON, else a string, or RowBytes where it is no text.
	Row      any    `json:"row,omitempty"`
	RowBytes []byte `json:"row_base64,omitempty"`
}

func letterView(l *pb.DeadLetter) deadLetter {
	v := deadLetter{
		ID: l.GetId(), Flow: l.GetFlow(), Function: l.GetFunction(), Revision: l.GetRevision(), Code: batch.Code(l.GetCode()).String(), Reason: l.GetReason(),
		Attempts: l.GetAttempts(), Redrives: l.GetRedrives(), Kept: time.UnixMilli(l.GetKeptUnixMilliseconds()).UTC(), Edited: l.GetEdited(),
		Batch: fmt.Sprintf("%x-%d", l.GetBatch().GetStream(), l.GetBatch().GetSequence()), Place: l.GetPlace(),
		Encoding: or(l.GetEncoding(), batch.JSON),
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

func storeView(s *pb.DeadStore) map[string]any {
	return map[string]any{
		"flow": s.GetFlow(), "letters": s.GetLetters(), "limit": s.GetLimit(), "full": s.GetLetters() >= s.GetLimit(),
		"age_limit_seconds": s.GetAgeLimitSeconds(), "refused": s.GetRefused(), "expired": s.GetExpired(),
	}
}

func printJSON(out io.Writer, v any) error { return json.NewEncoder(out).Encode(v) }

func deadShowCommand() *cobra.Command {
	var s server
	var o output
	var raw bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Tell all about a dead letter",
		Long:    "show tells why and where a row died, and the row as it was then. With --row it prints the row alone, byte for byte, to be edited.",
		Example: "  kisgrid dead show ID\n  kisgrid dead show ID --row > row.json && $EDITOR row.json && kisgrid dead edit ID -f row.json",
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
	cmd.Flags().BoolVar(&raw, "row", false, "print the row alone")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

func findLetter(ctx context.Context, a pb.AdminClient, id string) (*pb.DeadLetter, error) {
	events, err := a.ListDead(ctx, &pb.ListDeadRequest{Filter: &pb.DeadFilter{Ids: []string{id}}})
	if err != nil {
		return nil, err
	}
	var found *pb.DeadLetter
	for {
		e, err := events.Recv()
		switch {
		case errors.Is(err, io.EOF) && found == nil:
			return nil, batch.Errorf(batch.CodeNotFound, "there is no dead letter %s: it may have been redriven or dropped; kisgrid dead list shows those there are", id)
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, err
		case e.GetLetter() != nil:
			found = e.GetLetter()
		}
	}
}

func showLetter(out io.Writer, l *pb.DeadLetter, format string, raw bool) error {
	if raw {
		_, err := out.Write(l.GetRow())
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
		{"encoding", v.Encoding},
		{"row", row},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], strings.ReplaceAll(line[1], "\n", "\n\t"))
	}
	return w.Flush()
}

func deadEditCommand() *cobra.Command {
	var s server
	var file, row string
	cmd := &cobra.Command{
		Use:   "edit ID -f FILE|-",
		Short: "Replace a dead letter's row, before it is redriven",
		Long: `edit replaces the row, in the encoding that it has: JSON must be JSON. What is edited is what the function in which the row
died is given. One line break at the end of the file is not part of the row.`,
		Example: "  kisgrid dead edit ID -f row.json\n  kisgrid dead edit ID --row '{\"stu_id\": 101, \"score_1\": 100, \"score_2\": 90}'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := []byte(row)
			switch {
			case (file == "") == (row == ""):
				return errors.New("give the row either with -f or with --row")
			case file != "":
				var err error
				if text, err = readRow(file, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			return s.admin(func(a pb.AdminClient) error {
				l, err := a.EditDead(cmd.Context(), &pb.EditDeadRequest{Id: args[0], Row: text})
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "letter %s of flow %s is edited: kisgrid dead redrive %s runs it\n", l.GetId(), l.GetFlow(), l.GetId())
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` with the row; - for standard input")
	cmd.Flags().StringVar(&row, "row", "", "the `row` itself")
	s.bind(cmd)
	return cmd
}

func readRow(file string, in io.Reader) (row []byte, err error) {
	if file == "-" {
		row, err = io.ReadAll(in)
	} else {
		row, err = os.ReadFile(file)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(row), "\n"), "\r")), err
}

func deadDropCommand() *cobra.Command {
	var s server
	var f deadFilter
	var dry, all bool
	cmd := &cobra.Command{
		Use:     "drop [ID...]",
		Short:   "Forget dead letters",
		Long:    "drop forgets the letters named, or those that every flag says yes to; all letters of all flows only with --all. They can't be had back; --dry-run counts them first.",
		Example: "  kisgrid dead drop ID\n  kisgrid dead drop --flow CalStuAvgScore12 --code LOAD_TIMEOUT --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.chosen(cmd, args, all || dry)
			if err != nil {
				return err
			}
			return s.admin(func(a pb.AdminClient) error {
				r, err := a.DropDead(cmd.Context(), &pb.DropDeadRequest{Filter: filter, DryRun: dry})
				if err != nil {
					return err
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
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only count them")
	cmd.Flags().BoolVar(&all, "all", false, "all letters of all flows")
	s.bind(cmd)
	return cmd
}

// progressJSON writes progress as one line of JSON, with a script's names.
var progressJSON = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}
