package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func devCommand() *cobra.Command {
	config := devcluster.Config{
		Register: students.Register,
		Etcd:     "127.0.0.1:2379", Redis: "", EmbeddedRedis: "127.0.0.1:6379", Listen: "127.0.0.1:7700", HTTP: "127.0.0.1:7702",
	}
	var conf string
	var secure bool
	var access command.DocumentAccess
	logging := command.Logging{Level: "warn"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in this process, until Ctrl-C",
		Long: `dev starts an etcd, a Redis, a coordinator and workers in this process, with the students' example applied, and stays up
until Ctrl-C. Everything listens on loopback, at the ports that other programs take for their defaults: etcdctl, redis-cli,
kisgrid and go run ./cmd/worker find it without a flag.

With --workers 0 there is no worker: start your own, which joins with its defaults.

With --tls coordinator, workers and etcd speak mutual TLS, with certificates of an authority that is thrown away at the end;
what dev prints has other programs use them.`,
		Example: "  kisgrid dev\n  kisgrid dev --tls\n  kisgrid dev --workers 0 --conf ./conf     and, elsewhere:  go run ./cmd/worker",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			log, err := logging.Logger("kisgrid", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			config.Logger, config.Documents = log, access.Access(cmd.Flags())
			config.Announce = func(what, where string) { fmt.Fprintf(out, "%-12s %s\n", what, where) }
			docs, err := devDocuments(conf)
			if err != nil {
				return err
			}
			if secure {
				files, err := throwAway()
				if err != nil {
					return err
				}
				defer os.RemoveAll(filepath.Dir(files.CA))
				config.TLS = transport.Config{
					TLSCert: files.Cert, TLSKey: files.Key, TLSCA: files.CA, RequireClientCert: true, Logger: log.Named("transport"),
				}
			}
			cluster, err := devcluster.Start(ctx, config)
			if err != nil {
				return err
			}
			err = cluster.Put(ctx, docs)
			if err == nil {
				fmt.Fprintf(out, "%-12s %d, of %s\n", "documents", len(docs), or(conf, "the students' example"))
				if secure {
					explainTLS(out, cluster.Coordinator(), &config.TLS)
				}
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
	fl.BoolVar(&secure, "tls", false, "speak mutual TLS, with certificates of a throw-away authority; Redis stays plain")
	access.BindFlags(fl)
	logging.BindFlags(fl)
	return cmd
}

// throwAway makes an authority, and a certificate for this machine, in a folder of their own.
func throwAway() (authority.Files, error) {
	a, err := authority.New("kisgrid dev", 30*24*time.Hour)
	if err != nil {
		return authority.Files{}, err
	}
	dir, err := os.MkdirTemp("", "kisgrid-tls-")
	if err != nil {
		return authority.Files{}, fmt.Errorf("make a folder for the certificates: %w", err)
	}
	return a.Write(dir, authority.Leaf{Hosts: []string{"localhost", "127.0.0.1", "::1"}})
}

// explainTLS tells how other programs join.
func explainTLS(out io.Writer, address string, c *transport.Config) {
	fmt.Fprintf(out, "%-12s mutual, with the files in %s, which are gone at the end\n\nIn other shells, for kisgrid and workers:\n", "tls", filepath.Dir(c.TLSCA))
	for _, prefix := range []string{"", "ETCD_"} {
		fmt.Fprintf(out, "      export KISGRID_%[1]sTLS_CERT=%[2]s KISGRID_%[1]sTLS_KEY=%[3]s KISGRID_%[1]sTLS_CA=%[4]s\n", prefix, c.TLSCert, c.TLSKey, c.TLSCA)
	}
	fmt.Fprintln(out, "      export KISGRID_TLS_REQUIRE_CLIENT_CERT=true")
	fmt.Fprintf(out, "In Go:\n      client.Dial(%q, client.WithTLSFiles(%q, %q, %q))\n", address, c.TLSCA, c.TLSCert, c.TLSKey)
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
