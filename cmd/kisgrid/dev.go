package main

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func devCommand() *cobra.Command {
	config := devcluster.Config{
		Register: students.Register,
		Etcd:     "127.0.0.1:2379", Redis: "", EmbeddedRedis: "127.0.0.1:6379", Listen: "127.0.0.1:7700", HTTP: "127.0.0.1:7702",
	}
	var conf string
	logging := command.Logging{Level: "warn"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in this process, until Ctrl-C",
		Long: `dev starts an etcd, a Redis, a coordinator and workers in this process, with the students' example applied, and stays up
until Ctrl-C. Everything listens on loopback, at the ports that other programs take for their defaults: etcdctl, redis-cli,
kisgrid and go run ./cmd/worker find it without a flag.

With --workers 0 there is no worker: start your own, which joins with its defaults.`,
		Example: "  kisgrid dev\n  kisgrid dev --workers 0 --conf ./conf     and, elsewhere:  go run ./cmd/worker",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			log, err := logging.Logger("kisgrid", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			config.Logger = log
			config.Announce = func(what, where string) { fmt.Fprintf(out, "%-12s %s\n", what, where) }
			docs, err := devDocuments(conf)
			if err != nil {
				return err
			}
			cluster, err := devcluster.Start(ctx, config)
			if err != nil {
				return err
			}
			err = cluster.Put(ctx, docs)
			if err == nil {
				fmt.Fprintf(out, "%-12s %d, of %s\n", "documents", len(docs), or(conf, "the students' example"))
				fmt.Fprintln(out, "\nTry:  kisgrid get flows")
				if conf == "" {
					fmt.Fprintln(out, `      echo '{"stu_id":101,"score_1":100,"score_2":90}' | kisgrid submit CalStuAvgScore12 --results`)
				}
				if config.Workers == 0 {
					fmt.Fprintf(out, "      %s\n", cluster.WorkerCommand())
				}
				fmt.Fprintln(out, "Ctrl-C ends it.")
				err = cluster.Wait(ctx)
			}
			if closed := cluster.Close(); err == nil {
				err = closed
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.IntVar(&config.Workers, "workers", 2, "how many workers to run, with the students' functions")
	fl.StringVar(&conf, "conf", "", "`folder` of documents to apply (default: the students' example)")
	fl.StringVar(&config.DataDir, "data-dir", "", "`folder` where etcd keeps its data from one start to the next (default: nothing is kept)")
	fl.StringVar(&config.Redis, "redis", "", "`address` of a Redis to use instead of an embedded one")
	fl.StringVar(&config.Listen, "listen", config.Listen, "coordinator's `address`")
	fl.StringVar(&config.HTTP, "http", config.HTTP, "`address` of the coordinator's metrics; empty for none")
	fl.StringVar(&config.Etcd, "etcd-listen", config.Etcd, "etcd's `address`")
	logging.BindFlags(fl)
	return cmd
}

func devDocuments(conf string) ([]definition.Document, error) {
	if conf == "" {
		return documents(students.Conf)
	}
	_, docs, err := definition.Load(conf)
	return docs, err
}

// documents reads the documents of an embedded folder.
func documents(files fs.FS) ([]definition.Document, error) {
	dir, err := os.MkdirTemp("", "kisgrid-conf-")
	if err != nil {
		return nil, fmt.Errorf("unpack the example's documents: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, files); err != nil {
		return nil, fmt.Errorf("unpack the example's documents: %w", err)
	}
	_, docs, err := definition.Load(dir)
	return docs, err
}
