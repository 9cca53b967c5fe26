package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deadRedriveCommand makes the command kisgrid dead redrive, which runs dead letters again from the function in which they died.
func deadRedriveCommand() *cobra.Command {
	var s server
	var o output
	var f deadFilter
	var dry, all, results bool
	var patience time.Duration
	var perSecond uint32
	cmd := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "Run dead letters again, from the function in which they died",
		Long: `redrive runs dead letters again: those with the given IDs, or those that fit every flag. To run all letters of all flows, give --all.
Each row runs on the active revision of its flow, from the function in which it died. Letters of one shard key run one after the
other, the oldest first. A letter is deleted when its row ends. It stays when its row dies again, with the new reason, and when its
function is no longer in the flow.

The output of the flow is thrown away. With --results it is printed on standard output, one row on each line, and progress and
summary go to standard error. A letter whose output can't be sent stays. When a redrive is interrupted and continues, the output of
letters that ended at that moment may be printed twice.

A redrive may be interrupted at any time, and so may its coordinator. The next redrive runs a letter that was under way again, under
the same id, so that nothing is saved twice; this holds for one hour (the once-window). When the coordinator goes away, redrive
continues with another one. With --rate a long redrive leaves the workers time for other rows.

The exit code is 1 when a row died again or a letter could not be run. With -o json it prints its progress, one object on each line;
the last one has the result.`,
		Example: "  kisgrid dead redrive --flow CalStuAvgScore12 --function SaveScoreAvg12 --dry-run\n  kisgrid dead redrive --flow CalStuAvgScore12\n  kisgrid dead redrive --flow CalStuAvgScore12 --results > averages.ndjson",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.chosen(cmd, args, all || dry)
			if err != nil {
				return err
			}
			if perSecond > 0 && !slices.Contains(filter.GetIds(), onlyNewBuilds) {
				filter.Ids = append([]string{onlyNewBuilds}, filter.GetIds()...)
			}
			r := redriver{in: &pb.RedriveDeadRequest{Filter: filter, DryRun: dry, LettersPerSecond: perSecond}, patience: patience, format: o.format, out: cmd.OutOrStdout(), progress: cmd.ErrOrStderr()}
			if results {
				r.results, r.out = terminal.Data(r.out), r.progress
			}
			return s.admin(func(a pb.AdminClient) error { return tooOld(r.run(cmd.Context(), a)) })
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only count the letters that would run, and those that could not")
	cmd.Flags().BoolVar(&all, "all", false, "run all letters of all flows")
	cmd.Flags().Uint32Var(&perSecond, "rate", 0, "run at most so many `letters` a second; 0 means as many as the cluster can")
	cmd.Flags().BoolVar(&results, "results", false, "print the output of the flow, one row on each line")
	cmd.Flags().DurationVar(&patience, "retry-for", 30*time.Second, "how long to look for another coordinator when the one in use goes away")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// redriveProgress is the progress of a redrive as -o json prints it. docs/cli.md describes the fields.
type redriveProgress struct {
	Selected uint64          `json:"selected"`
	Done     uint64          `json:"done"`
	Filtered uint64          `json:"filtered"`
	Aborted  uint64          `json:"aborted"`
	Dead     uint64          `json:"dead"`
	Left     uint64          `json:"left"`
	Reasons  []redriveReason `json:"reasons"`
}

// redriveReason is why letters died again, or could not be run.
type redriveReason struct {
	Flow     string `json:"flow"`
	Function string `json:"function"`
	Code     string `json:"code"`
	Reason   string `json:"reason"`
	Letters  uint64 `json:"letters"`
}

// progressView converts progress into the form that -o json prints.
func progressView(p *pb.DeadProgress) redriveProgress {
	v := redriveProgress{p.GetSelected(), p.GetDone(), p.GetFiltered(), p.GetAborted(), p.GetDead(), p.GetLeft(), []redriveReason{}}
	for _, r := range p.GetReasons() {
		v.Reasons = append(v.Reasons, redriveReason{r.GetFlow(), r.GetFunction(), batch.Code(r.GetCode()).String(), r.GetReason(), uint64(r.GetLetters())})
	}
	return v
}

// redriver runs one redrive: it calls a coordinator, and calls again when that coordinator goes away before the end.
type redriver struct {
	in       *pb.RedriveDeadRequest
	patience time.Duration            // how long to go on without progress after a failed call
	format   string                   // "json", or empty for people
	out      io.Writer                // takes the summary, and the progress as JSON
	progress io.Writer                // takes the progress bar
	results  io.Writer                // takes the output of the flow; nil means that nobody asked for it
	bar      *progressbar.ProgressBar // nil until there is progress to show

	ended *pb.DeadProgress // letters that ended in earlier calls; they are deleted, so later calls don't select them
	last  *pb.DeadProgress // the last progress of the call that succeeded
}

// run runs the redrive to its end, over several calls where coordinators go away, and prints the summary. It gives up when calls fail
// and no letter has ended for the time of r.patience.
func (r *redriver) run(ctx context.Context, a pb.AdminClient) error {
	r.ended = &pb.DeadProgress{}
	since := time.Now()
	for {
		before := gone(r.ended)
		err := wire.FromStatus(r.call(ctx, a))
		if err == nil {
			break
		}
		// CONFLICT means that another redrive of the flow runs, maybe the one that this command began at a coordinator that has just died.
		if ctx.Err() != nil {
			r.tellStopped()
			return err
		}
		if code := batch.CodeOf(err); !code.Retryable() && code != batch.CodeConflict && code != batch.CodeShutdown {
			return err
		}
		if gone(r.ended) > before { // the call has made progress before it failed
			since = time.Now()
		}
		if time.Since(since) > r.patience {
			return err
		}
		if f := r.in.GetFilter(); f != nil {
			f.Gone = true // letters that ended in an earlier call are not there any more
		}
		select {
		case <-ctx.Done():
			r.tellStopped()
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return r.tell()
}

// tellStopped says how far a redrive has come that somebody interrupts, and how to go on.
func (r *redriver) tellStopped() {
	if r.bar != nil {
		_ = r.bar.Clear() // a bar that can't be drawn does no harm
	}
	fmt.Fprintf(r.progress, "stopped after %d letters; the others stay, and the same command goes on with them\n", gone(r.ended))
}

// gone returns how many letters of a redrive have ended, with any outcome but dead. Ended letters are deleted from the store.
func gone(p *pb.DeadProgress) uint64 { return p.GetDone() + p.GetFiltered() + p.GetAborted() }

// call makes one call to a coordinator, and prints progress and output as they come. When the call fails, it adds the letters that
// have ended to r.ended, since the next call does not count them.
func (r *redriver) call(ctx context.Context, a pb.AdminClient) error {
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

// begin starts a call to a coordinator, with or without output. The returned function next returns one event of the call at a time,
// and io.EOF after the last one.
func (r *redriver) begin(ctx context.Context, a pb.AdminClient) (next func() (*pb.RedriveEvent, error), err error) {
	if r.results == nil {
		events, err := a.RedriveDead(ctx, r.in)
		return func() (*pb.RedriveEvent, error) {
			p, err := events.Recv()
			return &pb.RedriveEvent{Kind: &pb.RedriveEvent_Progress{Progress: p}}, err
		}, err
	}
	events, err := a.RedriveDeadWithResults(ctx, &pb.RedriveDeadWithResultsRequest{Filter: r.in.GetFilter(), DryRun: r.in.GetDryRun(), LettersPerSecond: r.in.GetLettersPerSecond()})
	return func() (*pb.RedriveEvent, error) {
		e, err := events.Recv()
		if status.Code(err) == codes.Unimplemented {
			err = batch.Errorf(batch.CodeProtocolMismatch, "the coordinator's build is too old for --results, and nothing was run: "+
				"name another coordinator with --server, or leave out --results, which throws the output away")
		}
		return e, err
	}, err
}

// print writes output rows of the flow to r.results, one on each line. It does so at once, because the coordinator deletes the
// letters of these rows when it has sent them.
func (r *redriver) print(c *pb.Columns) error {
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

// sum returns the progress of the whole redrive: the progress p of the current call, and the letters that ended in earlier calls.
func (r *redriver) sum(p *pb.DeadProgress) *pb.DeadProgress {
	return &pb.DeadProgress{
		Selected: p.GetSelected() + gone(r.ended), Done: p.GetDone() + r.ended.GetDone(), Filtered: p.GetFiltered() + r.ended.GetFiltered(),
		Aborted: p.GetAborted() + r.ended.GetAborted(), Dead: p.GetDead(), Left: p.GetLeft(), Reasons: p.GetReasons(),
	}
}

// show prints the progress of a redrive: one line of JSON with -o json, else a progress bar. There is no bar with --dry-run or
// --results.
func (r *redriver) show(p *pb.DeadProgress) error {
	p = r.sum(p)
	if r.format == "json" {
		return printJSON(r.out, progressView(p))
	}
	if r.in.GetDryRun() || r.results != nil || p.GetSelected() == 0 || !terminal.Is(r.progress) { // rows and a bar on one terminal would write over each other
		return nil
	}
	if r.bar == nil {
		r.bar = progressbar.NewOptions64(int64(p.GetSelected()), progressbar.OptionSetWriter(terminal.Unwrap(r.progress)), progressbar.OptionSetDescription("redriving"),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	r.bar.ChangeMax64(int64(p.GetSelected()))
	return r.bar.Set64(int64(gone(p) + p.GetDead() + p.GetLeft()))
}

// tell prints the summary of a redrive, unless the output is JSON. It returns errReported, which makes the exit code 1, if rows
// died again or letters could not be run.
func (r *redriver) tell() error {
	p := r.sum(r.last)
	if r.format != "json" {
		if r.bar != nil {
			_ = r.bar.Finish() // a bar that can't be drawn does no harm
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
		return errReported
	}
	return nil
}
