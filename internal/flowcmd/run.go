package flowcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/submission"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Run makes the command "run", which runs a file of rows through a flow in this process, without a cluster. register registers the Go functions
// of the program; nil means that it has none.
func Run(register func(*kis.Registry)) *cobra.Command {
	examples := "  worker run ./conf Grades -f rows.ndjson\n  worker run ./conf Grades -f rows.ndjson --results=false --metrics"
	if register == nil {
		examples = "  kisgrid run examples/students/conf-expressions CalStuAvgScore12 -f rows.ndjson\n  echo '{\"student\": \"ada\", \"points\": 71}' | kisgrid run ./conf Grades -f -"
	}
	r := localRun{rows: submission.Submitter{Results: true}, logging: command.Logging{Level: "warn"}}
	cmd := &cobra.Command{
		Use:   "run CONF FLOW [-f rows.ndjson]",
		Short: "Run a flow in this process, without a cluster",
		Long: `run reads rows and runs them through the flow FLOW of the documents in the folder CONF. Everything happens in this process, without etcd,
Redis or a coordinator: each connector is a store in memory, which is empty at first. Outcomes, codes, limits and metrics are the same as
in a cluster.

Rows are one JSON object in each line, or the elements of a JSON array, or records of CSV, with the types that the flow's functions read. Any of
these may be compressed with gzip.

The output of the flow's last function goes to standard output, one row in each line, unless --results=false is given. Rows that are
not done, and a summary, go to standard error. With -o json the summary is one line of JSON; it goes to standard output when no
results go there. --metrics adds the metrics, and --http serves them while rows run.

Ctrl-C, or an error, stops reading; rows under way have --grace to end. The exit status is 1 when a row is dead or failed, 2 for a mistake in
the command line, and 130 when Ctrl-C ended the run too early.`,
		Example: examples,
		Args:    ExactArgs("a folder of documents", "the name of a flow"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := command.Interruptible(cmd.Context())
			defer stop()
			r.rows.Flow, r.documents = args[1], r.access.Access(cmd.Flags())
			err := r.run(ctx, args[0], register, cmd.InOrStdin(), terminal.Data(cmd.OutOrStdout()), cmd.ErrOrStderr())
			if errors.Is(err, submission.ErrNotDone) {
				return ErrReported
			}
			return PrintMistakes(cmd.ErrOrStderr(), err)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	r.rows.BindFlags(fs)
	fs.BoolVar(&r.metrics, "metrics", false, "print the metrics at the end, in Prometheus's format, to standard error")
	fs.StringVar(&r.http, "http", "", "`address` for /metrics while rows run (default: none)")
	r.access.BindFlags(fs)
	r.logging.BindFlags(fs)
	command.StrictUsage(cmd)
	return cmd
}

// localRun has the flags and arguments of one "run" command.
type localRun struct {
	rows    submission.Submitter // reads, sends and reports the rows
	metrics bool                 // print the metrics at the end
	http    string               // address for metrics; empty means none
	logging command.Logging

	access    command.DocumentAccess // flags for what documents may read
	documents definition.Access      // the rules that the flags of access give
}

// run compiles the documents in the folder conf, runs the rows through the flow, and prints how they ended.
func (r *localRun) run(ctx context.Context, conf string, register func(*kis.Registry), in io.Reader, out, errs io.Writer) error {
	log, err := r.logging.Logger("run", errs)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	options := []flowexec.LocalOption{flowexec.WithLogger(log), flowexec.WithMetrics(metrics), flowexec.WithDocuments(r.documents)}
	var local *flowexec.Local
	if register == nil {
		local, err = localWithoutGo(conf, r.rows.Flow, options)
	} else {
		local, err = flowexec.NewLocal(conf, register, options...)
	}
	if err != nil {
		return err
	}
	if r.http != "" {
		stop, err := r.serve(ctx, metrics, log)
		if err != nil {
			return errors.Join(err, local.Close())
		}
		defer stop()
	}
	open := func(ctx context.Context) (submission.Stream, error) {
		stream, err := local.Stream(ctx, r.rows.Flow)
		return inProcess{stream}, err
	}
	r.describeRows(conf, register)
	err = r.rows.Run(ctx, open, in, out, errs)
	if closed := local.Close(); closed != nil {
		err = errors.Join(err, fmt.Errorf("close the connectors: %w", closed))
	}
	if r.metrics {
		err = errors.Join(err, writeMetrics(errs, metrics))
	}
	return err
}

// serve starts an HTTP server for the metrics. stop ends the server and waits for it.
func (r *localRun) serve(ctx context.Context, metrics *prometheus.Registry, log hclog.Logger) (stop func(), err error) {
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server, err := serve.NewHTTPServer(serve.HTTPConfig{Metrics: metrics})
	if err != nil {
		return nil, err
	}
	listener, err := serve.Listen(ctx, nil, r.http)
	if err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the server of metrics has failed", "error", err)
		}
	}()
	return func() {
		_ = server.Close() // the command ends: an error of the listener changes nothing
		<-served
	}, nil
}

// writeMetrics writes all metrics in Prometheus's text format.
func writeMetrics(out io.Writer, metrics prometheus.Gatherer) error {
	families, err := metrics.Gather()
	if err != nil {
		return fmt.Errorf("gather the metrics: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(out, f); err != nil {
			return fmt.Errorf("write the metrics: %w", err)
		}
	}
	return nil
}

// inProcess makes a stream of flowexec.Local usable as the stream of package submission.
type inProcess struct{ *flowexec.Stream }

// Send implements submission.Stream: it sends one batch into the flow.
func (p inProcess) Send(ctx context.Context, b *batch.Batch, o submission.SendOptions) (submission.Answer, error) {
	var options []flowexec.SubmitOption // dead rows are never kept in this process
	if !o.Output {
		options = append(options, flowexec.NoOutput())
	}
	if o.Timeout > 0 {
		options = append(options, flowexec.Timeout(o.Timeout))
	}
	return p.Stream.Send(ctx, b, options...)
}
