package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// demoCommand makes the command kisgrid demo, which runs a cluster in this process and submits rows to the students' flows.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Run a whole cluster in this process, and two flows that share data",
		Long: `demo starts an etcd, a Redis, a coordinator and two workers in this process, applies the students' example, and submits rows to both
of its flows at the same time, over gRPC. The flow CalStuAvgScore3 waits for the averages that the flow CalStuAvgScore12 saves.

It prints its steps on standard error, and the output of the flows on standard output.`,
		Example: "  kisgrid demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return demo(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// demo runs the cluster and both flows. It prints the output of the flows to out, and each step, with the time since the start, to steps.
func demo(ctx context.Context, out, steps io.Writer) (err error) {
	if err := enoughFiles(); err != nil {
		return err
	}
	began := time.Now()
	step := func(format string, args ...any) {
		fmt.Fprintf(steps, "%6d ms  %s\n", time.Since(began).Milliseconds(), fmt.Sprintf(format, args...))
	}
	cluster, err := devcluster.Start(ctx, devcluster.Config{Workers: 2, Build: command.Build(), Register: students.Register, Announce: func(what, where string) {
		step("%s is up: %s", what, where)
	}})
	if err != nil {
		return err
	}
	defer func() {
		if closed := cluster.Close(); err == nil {
			err = closed
		}
	}()
	docs, err := documents(students.Conf)
	if err != nil {
		return err
	}
	if err := applyAll(ctx, cluster.Coordinator(), docs); err != nil {
		return err
	}
	step("%d documents applied and taken by both workers", len(docs))

	rows12 := client.Rows(students.Scores12{ID: 101, Score1: 100, Score2: 90}, students.Scores12{ID: 102, Score1: 100, Score2: 80})
	rows3 := client.Rows(students.Scores3{ID: 101, Score3: 80}, students.Scores3{ID: 102, Score3: 70})
	c, err := client.Dial(cluster.Coordinator())
	if err != nil {
		return err
	}
	defer c.Close()
	// Both flows are submitted at once. The rows of CalStuAvgScore3 wait in the worker until CalStuAvgScore12 has saved their keys.
	var results [2]*client.Result
	g, gctx := errgroup.WithContext(ctx)
	for i, b := range []*client.Batch{rows3, rows12} {
		flow := []string{"CalStuAvgScore3", "CalStuAvgScore12"}[i]
		g.Go(func() (err error) {
			results[i], err = c.Submit(gctx, flow, b)
			return err
		})
	}
	step("both flows submitted at the same time; CalStuAvgScore3 waits for what CalStuAvgScore12 saves")
	if err := g.Wait(); err != nil {
		return err
	}
	step("every row has its outcome")
	return printAverages(out, map[string]*client.Result{"CalStuAvgScore3": results[0], "CalStuAvgScore12": results[1]})
}

// printAverages prints the output of both flows as one table. A row that is not done is an error.
func printAverages(out io.Writer, results map[string]*client.Result) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "flow\tstu_id\tavg_score")
	for _, flow := range []string{"CalStuAvgScore12", "CalStuAvgScore3"} {
		for _, o := range results[flow].NotDone {
			return fmt.Errorf("%s: row %d is %s: %s: %s", flow, o.Row, o.Outcome, o.Code, o.Reason)
		}
		averages, err := client.Output[students.Avg](results[flow])
		if err != nil {
			return err
		}
		slices.SortFunc(averages, func(a, b students.Avg) int { return a.ID - b.ID })
		for _, a := range averages {
			fmt.Fprintf(w, "%s\t%d\t%s\n", flow, a.ID, strconv.FormatFloat(a.Avg, 'g', -1, 64))
		}
	}
	return w.Flush()
}

// applyAll applies documents as kisgrid apply does, at the coordinator with this address. It prints nothing: if it fails, its error
// has the output of apply.
func applyAll(ctx context.Context, coordinator string, docs []definition.Document) error {
	conn, err := transport.Dial(coordinator, transport.Config{})
	if err != nil {
		return err
	}
	defer conn.Close()
	var told strings.Builder
	if err := apply(ctx, pb.NewAdminClient(conn), docs, applyOptions{}, &told); err != nil {
		return fmt.Errorf("apply the documents: %w\n%s", wire.FromStatus(err), told.String())
	}
	return nil
}
