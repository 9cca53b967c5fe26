package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func deadRedriveCommand() *cobra.Command {
	var s server
	var o output
	var f deadFilter
	var dry, all, results bool
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "Run dead letters again, from the function in which they died",
		Long: `redrive runs the letters named, or those that every flag says yes to, on the flow's active revision, each from the function in
which it died. All letters of all flows are run only with --all. Letters of one shard key run one after the other, in the order in
which they were kept. A letter whose row ends is no more; one that dies again stays, with the new reason; so does one whose
function is not in the flow any more.

What the flow passes on for a row is thrown away, unless --results has it printed on standard output, one row a line; progress and
summary then go to standard error. A letter whose output can't be told stays. When the redrive is cut off and goes on, output of
letters that ended at that moment may be printed twice.

It may be cut off at any time, and so may the coordinator: a letter that was under way then is run again under the same id by
the next redrive, and what it has saved already is not saved again, within the hour for which that is known. When its coordinator
goes away, redrive goes on with another one.

It exits with 1 when a letter died again or could not be run. With -o json it prints one line of progress after the other, the last
one with the outcome.`,
		Example: "  kisgrid dead redrive --flow CalStuAvgScore12 --function SaveScoreAvg12 --dry-run\n  kisgrid dead redrive --flow CalStuAvgScore12\n  kisgrid dead redrive --flow CalStuAvgScore12 --results > averages.ndjson",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.chosen(cmd, args, all || dry)
			if err != nil {
				return err
			}
			r := redriving{in: &pb.RedriveDeadRequest{Filter: filter, DryRun: dry}, patience: patience, format: o.format, out: cmd.OutOrStdout(), progress: cmd.ErrOrStderr()}
			if results {
				r.results, r.out = r.out, r.progress
			}
			return s.admin(func(a pb.AdminClient) error { return r.run(cmd.Context(), a) })
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say how many would be run, and which could not be")
	cmd.Flags().BoolVar(&all, "all", false, "all letters of all flows")
	cmd.Flags().BoolVar(&results, "results", false, "print what the flow passes on, one row a line")
	cmd.Flags().DurationVar(&patience, "retry-for", 30*time.Second, "how long to look for another coordinator when one goes away")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// redriving is a redrive as the command line sees it: one call after the other, as long as coordinators go away.
type redriving struct {
	in       *pb.RedriveDeadRequest
	patience time.Duration
	format   string
	out      io.Writer
	progress io.Writer
	results  io.Writer // takes what the flow passes on; nil: nobody asked for it
	bar      *progressbar.ProgressBar

	// ended is what earlier calls ended: their letters are no more, so later calls don't select them.
	ended, last *pb.DeadProgress
}

func (r *redriving) run(ctx context.Context, a pb.AdminClient) error {
	r.ended = &pb.DeadProgress{}
	since := time.Now()
	for {
		before := gone(r.ended)
		err := wire.FromStatus(r.call(ctx, a))
		if err == nil {
			break
		}
		if code := batch.CodeOf(err); ctx.Err() != nil || !code.Retryable() && code != batch.CodeConflict && code != batch.CodeShutdown {
			return err
		}
		if gone(r.ended) > before {
			since = time.Now()
		}
		if time.Since(since) > r.patience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return r.tell()
}

// gone is how many letters are no more.
func gone(p *pb.DeadProgress) uint64 { return p.GetDone() + p.GetFiltered() + p.GetAborted() }

// call is one call to one coordinator.
func (r *redriving) call(ctx context.Context, a pb.AdminClient) error {
	next, err := r.begin(ctx, a)
	if err != nil {
		return err
	}
	var p *pb.DeadProgress
	for {
		e, err := next()
		switch {
		case errors.Is(err, io.EOF):
			r.last = p
			return nil
		case err == nil && e.GetResults() != nil:
			err = r.print(e.GetResults())
		case err == nil:
			p = e.GetProgress()
			err = r.show(p)
		}
		if err != nil {
			r.ended.Done += p.GetDone()
			r.ended.Filtered += p.GetFiltered()
			r.ended.Aborted += p.GetAborted()
			return err
		}
	}
}

// begin makes the call. next gives what comes of it, and io.EOF at the end.
func (r *redriving) begin(ctx context.Context, a pb.AdminClient) (next func() (*pb.RedriveEvent, error), err error) {
	if r.results == nil {
		events, err := a.RedriveDead(ctx, r.in)
		return func() (*pb.RedriveEvent, error) {
			p, err := events.Recv()
			return &pb.RedriveEvent{Kind: &pb.RedriveEvent_Progress{Progress: p}}, err
		}, err
	}
	events, err := a.RedriveDeadWithResults(ctx, &pb.RedriveDeadWithResultsRequest{Filter: r.in.GetFilter(), DryRun: r.in.GetDryRun()})
	return func() (*pb.RedriveEvent, error) {
		e, err := events.Recv()
		if status.Code(err) == codes.Unimplemented {
			err = batch.Errorf(batch.CodeProtocolMismatch, "the coordinator is of an earlier build, which can't tell what the flow passes on, and nothing was run: "+
				"name another coordinator with --server, or leave out --results, and what is passed on is thrown away")
		}
		return e, err
	}, err
}

// print prints what the flow passed on. It is printed at once: the letters are about to be no more.
func (r *redriving) print(c *pb.Columns) error {
	rows := wire.ToColumns(c)
	if err := rows.Check(batch.Limits{BatchBytes: takesBytes, BatchRows: takesBytes}); err != nil {
		return err
	}
	text := make([]byte, 0, len(rows.Data)+rows.Len())
	for i := range rows.Len() {
		text = append(append(text, rows.Row(i)...), '\n')
	}
	if _, err := r.results.Write(text); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// sum is what this call and those before have come to.
func (r *redriving) sum(p *pb.DeadProgress) *pb.DeadProgress {
	return &pb.DeadProgress{
		Selected: p.GetSelected() + gone(r.ended), Done: p.GetDone() + r.ended.GetDone(), Filtered: p.GetFiltered() + r.ended.GetFiltered(),
		Aborted: p.GetAborted() + r.ended.GetAborted(), Dead: p.GetDead(), Left: p.GetLeft(), Reasons: p.GetReasons(),
	}
}

// show shows progress: a line of JSON, or a bar.
func (r *redriving) show(p *pb.DeadProgress) error {
	p = r.sum(p)
	if r.format == "json" {
		text, err := progressJSON.Marshal(p)
		if err == nil {
			_, err = fmt.Fprintf(r.out, "%s\n", text)
		}
		return err
	}
	if r.in.GetDryRun() || r.results != nil || p.GetSelected() == 0 { // rows and a bar on one terminal would write over each other
		return nil
	}
	if r.bar == nil {
		r.bar = progressbar.NewOptions64(int64(p.GetSelected()), progressbar.OptionSetWriter(r.progress), progressbar.OptionSetDescription("redriving"),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	r.bar.ChangeMax64(int64(p.GetSelected()))
	return r.bar.Set64(int64(gone(p) + p.GetDead() + p.GetLeft()))
}

// tell says what came of it.
func (r *redriving) tell() error {
	p := r.sum(r.last)
	if r.format != "json" {
		if r.bar != nil {
			_ = r.bar.Finish() // what it can't draw does no harm
		}
		if r.in.GetDryRun() {
			fmt.Fprintf(r.out, "%d letters would be redriven, %d could not be\n", p.GetSelected()-p.GetLeft(), p.GetLeft())
		} else {
			fmt.Fprintf(r.out, "%d letters: %d done, %d filtered, %d aborted; %d died again and stay, %d could not be run and stay\n",
				p.GetSelected(), p.GetDone(), p.GetFiltered(), p.GetAborted(), p.GetDead(), p.GetLeft())
		}
		for _, reason := range p.GetReasons() {
			fmt.Fprintf(r.out, "%d in %s of %s: %s: %s\n", reason.GetLetters(), or(reason.GetFunction(), "no function"), reason.GetFlow(),
				batch.Code(reason.GetCode()), firstLine(reason.GetReason()))
		}
	}
	if p.GetDead()+p.GetLeft() > 0 {
		return errTold
	}
	return nil
}
