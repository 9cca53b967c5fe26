package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// devCommand makes the command kisgrid dev, which runs a cluster in this process until Ctrl-C.
func devCommand() *cobra.Command {
	config := devcluster.Config{
		Register: students.Register,
		Etcd:     "127.0.0.1:2379", Redis: "", EmbeddedRedis: "127.0.0.1:6379", Listen: defaultListen, HTTP: "127.0.0.1:7702",
	}
	var conf string
	var secure bool
	var access command.DocumentAccess
	logging := command.Logging{Level: "warn"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in this process, until Ctrl-C",
		Long: `dev starts an etcd, a Redis, a coordinator and workers in this process, applies the students' example, and runs until Ctrl-C. All of
them listen on 127.0.0.1, at the default ports of other programs, so that etcdctl, redis-cli, kisgrid and go run ./cmd/worker find
them without a flag.

With --workers 0 no worker runs. Start your own: it joins without a flag.

With --tls, coordinator, workers and etcd speak mutual TLS. The certificates come from an authority that is deleted at the end. dev
prints the environment variables that let other programs use them.`,
		Example: "  kisgrid dev\n  kisgrid dev --tls\n  kisgrid dev --workers 0 --conf ./conf     and, elsewhere:  go run ./cmd/worker",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			log, err := logging.Logger("kisgrid", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := command.NotNegative(cmd.Flags(), "workers"); err != nil {
				return err
			}
			if err := enoughFiles(); err != nil {
				return err
			}
			config.Logger, config.Documents, config.Build = log, access.Access(cmd.Flags()), command.Build()
			config.Announce = func(what, where string) { fmt.Fprintf(out, "%-12s %s\n", what, where) }
			docs, err := devDocuments(conf)
			if err != nil {
				return err
			}
			if withoutGo(docs) {
				config.Register = func(*kis.Registry) {} // the functions may have the names of the students' functions
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
				return portAdvice(err, &config)
			}
			if config.Redis == "" && cluster.Redis() != config.EmbeddedRedis {
				fmt.Fprintf(out, "%-12s the port of %s is taken, perhaps by a Redis of yours: this one has another port, and yours is not touched;\n%-12s --redis %[2]s uses it\n",
					"", config.EmbeddedRedis, "")
			}
			// Put does not wait until the documents are active: with --workers 0 no worker could make them so.
			err = cluster.Put(ctx, docs)
			if err == nil {
				fmt.Fprintf(out, "%-12s %d, of %s\n", "documents", len(docs), or(conf, "the students' example"))
				if secure {
					explainTLS(out, cluster.Coordinator(), &config.TLS)
				}
				server := "" // the flag that hints need where the coordinator is not at its default address
				if cluster.Coordinator() != defaultListen {
					server = " --server " + cluster.Coordinator()
				}
				fmt.Fprintln(out, "\nTry:  kisgrid get flows"+server)
				if conf == "" {
					fmt.Fprintln(out, `      echo '{"stu_id":101,"score_1":100,"score_2":90}' | kisgrid submit CalStuAvgScore12 --results`+server)
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
	fl.IntVar(&config.Workers, "workers", 2, "how many workers to run: with the students' functions, or generic ones where --conf has no function that needs Go code")
	fl.StringVar(&conf, "conf", "", "`folder` of documents to apply (default: the students' example)")
	fl.StringVar(&config.DataDir, "data-dir", "", "`folder` where etcd keeps its data from one start to the next (default: the data is deleted at the end)")
	fl.StringVar(&config.Redis, "redis", "", "`address` of a Redis to use instead of an embedded one")
	fl.StringVar(&config.Listen, "listen", config.Listen, "`address` where the coordinator takes clients")
	fl.StringVar(&config.HTTP, "http", config.HTTP, "`address` where the coordinator serves its metrics; empty means nowhere")
	fl.StringVar(&config.Etcd, "etcd-listen", config.Etcd, "`address` where etcd takes clients")
	fl.BoolVar(&secure, "tls", false, "speak mutual TLS, with certificates that are deleted at the end; Redis has no TLS")
	access.BindFlags(fl)
	logging.BindFlags(fl)
	return cmd
}

// defaultListen is where the coordinator takes clients if --listen does not say otherwise. Commands look for it there.
const defaultListen = "127.0.0.1:7700"

// portAdvice adds to an error that an address is taken the flag that names another one.
func portAdvice(err error, c *devcluster.Config) error {
	if !errors.Is(err, syscall.EADDRINUSE) && !strings.Contains(err.Error(), "address already in use") {
		return err
	}
	for flag, address := range map[string]string{"--listen": c.Listen, "--http": c.HTTP, "--etcd-listen": c.Etcd} {
		if address != "" && strings.Contains(err.Error(), address) {
			return fmt.Errorf("%w; another kisgrid dev may run: %s 127.0.0.1:0 takes a free port", err, flag)
		}
	}
	return err
}

// throwAway makes a certificate authority, and a certificate of it for this machine, in a new temporary folder. The caller deletes
// the folder; after an error there is none.
func throwAway() (authority.Files, error) {
	a, err := authority.New("kisgrid dev", 30*24*time.Hour)
	if err != nil {
		return authority.Files{}, err
	}
	dir, err := os.MkdirTemp("", "kisgrid-tls-")
	if err != nil {
		return authority.Files{}, fmt.Errorf("make a folder for the certificates: %w", err)
	}
	files, err := a.Write(dir, authority.Leaf{Hosts: []string{"localhost", "127.0.0.1", "::1"}})
	if err != nil {
		_ = os.RemoveAll(dir) // the error that counts is the one before
	}
	return files, err
}

// explainTLS prints how other programs connect to a cluster that speaks TLS.
func explainTLS(out io.Writer, address string, c *transport.Config) {
	fmt.Fprintf(out, "%-12s mutual, with the files in %s, which are gone at the end\n\nIn other shells, for kisgrid and workers:\n", "tls", filepath.Dir(c.TLSCA))
	for _, prefix := range []string{"", "ETCD_"} {
		fmt.Fprintf(out, "      export KISGRID_%[1]sTLS_CERT=%[2]s KISGRID_%[1]sTLS_KEY=%[3]s KISGRID_%[1]sTLS_CA=%[4]s\n", prefix, c.TLSCert, c.TLSKey, c.TLSCA)
	}
	fmt.Fprintln(out, "      export KISGRID_TLS_REQUIRE_CLIENT_CERT=true")
	fmt.Fprintf(out, "In Go:\n      client.Dial(%q, client.WithTLSFiles(%q, %q, %q))\n", address, c.TLSCA, c.TLSCert, c.TLSKey)
}

// devDocuments reads the documents of a folder, or of the students' example where conf is empty.
func devDocuments(conf string) ([]definition.Document, error) {
	if conf == "" {
		return documents(students.Conf)
	}
	_, docs, err := definition.Load(conf)
	return docs, err
}

// withoutGo reports whether all functions of the documents are made of their documents, so that workers need no Go functions for them.
func withoutGo(docs []definition.Document) bool {
	set, _ := definition.NewSet(docs) // with mistakes: the cluster tells them
	for _, f := range set.Functions {
		if !f.Declared() {
			return false
		}
	}
	return len(set.Functions) > 0
}

// documents reads the documents of a folder that is embedded in the program.
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
