package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/command"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// serverWait is the default of --timeout of the command version. A coordinator that runs answers at once.
const serverWait = 3 * time.Second

// versionCommand makes the command kisgrid version, which prints the versions of this program and of a coordinator.
func versionCommand() *cobra.Command {
	var s server
	var o output
	var client bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of a coordinator",
		Long: `version prints the release and the commit of this program, and those of the coordinator that answers. When no coordinator answers it
prints only the first, and the exit code is 1.

Other coordinators and the workers may have other versions: kisgrid get coordinators and kisgrid get workers list them.`,
		Example: "  kisgrid version\n  kisgrid version --client\n  kisgrid version -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.format != "" && o.format != "json" {
				return fmt.Errorf("--output %q: give json", o.format)
			}
			if timeout <= 0 {
				return fmt.Errorf("--timeout %s: give a time above 0, such as 3s", timeout)
			}
			v := versions{Client: ownBuild()}
			answered := true
			if !client {
				v.Server, answered = askBuild(cmd.Context(), &s, timeout)
			}
			if err := v.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), o.format); err != nil {
				return err
			}
			if !answered {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&client, "client", false, "print only the version of this program, and ask no coordinator")
	cmd.Flags().DurationVar(&timeout, "timeout", serverWait, "how long to wait for the coordinator")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// versions is the output of the command version.
type versions struct {
	Client build        `json:"client"`
	Server *serverBuild `json:"server,omitempty"` // nil means that no coordinator was asked
}

// build describes a build of a program: its version, commit, Go version and platform. A field that is not known is empty.
type build struct {
	Version  string `json:"version,omitempty"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go,omitempty"`
	Platform string `json:"platform,omitempty"`
}

// serverBuild says which build a coordinator is, or why that is not known.
type serverBuild struct {
	Address string `json:"address"` // the value of --server
	ID      string `json:"id,omitempty"`
	build
	Reason string `json:"reason,omitempty"` // why the build is not known; empty means that it is known
}

// ownBuild returns the version, the commit, the Go version and the platform of this program.
func ownBuild() build {
	b := command.ReadBuild()
	return build{Version: b.Version, Commit: b.Commit, Go: b.Go, Platform: b.Platform}
}

// askBuild asks a coordinator for its build. answered is false if no coordinator answered within timeout, or the call failed; then
// out.Reason says why. A coordinator that is too old for the question counts as an answer, with a Reason too.
func askBuild(ctx context.Context, s *server, timeout time.Duration) (out *serverBuild, answered bool) {
	out = &serverBuild{Address: s.address}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	older := false
	err := s.admin(func(a pb.AdminClient) error {
		r, err := a.Version(ctx, &pb.VersionRequest{})
		if status.Code(err) == codes.Unimplemented { // the call is newer than the coordinator
			older = true
			return nil
		}
		out.ID = r.GetId()
		out.build = build{Version: r.GetVersion(), Commit: r.GetCommit(), Go: r.GetGo(), Platform: r.GetPlatform()}
		return err
	})
	switch {
	case err != nil && ctx.Err() != nil:
		out.Reason = fmt.Sprintf("no answer within %s; raise --timeout, or name another coordinator with --server: %v", timeout, err)
	case err != nil:
		out.Reason = err.Error()
	case older:
		out.Reason = "the coordinator's build is too old for this question; kisgrid get coordinators may list its build"
	}
	return out, err == nil
}

// print writes the versions to out as a table, or as JSON where the format is "json". Where the build of the coordinator is not
// known, a table is followed by a line on log that gives the reason.
func (v versions) print(out, log io.Writer, format string) error {
	if format == "json" {
		return printIndented(out, v)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PROGRAM\tVERSION\tCOMMIT\tGO\tPLATFORM\tADDRESS")
	line := func(program string, b build, address string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", program, or(b.Version, "-"), or(b.Commit, "-"), or(b.Go, "-"), or(b.Platform, "-"), address)
	}
	line("kisgrid", v.Client, "-")
	if v.Server != nil && v.Server.Reason == "" {
		line(v.Server.ID, v.Server.build, v.Server.Address)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if v.Server != nil && v.Server.Reason != "" {
		fmt.Fprintln(log, "the coordinator's version is not known: "+v.Server.Reason)
	}
	return nil
}
