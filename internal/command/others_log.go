package command

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"
)

// TakeOver makes the loggers of the libraries in this process, and Go's own, write to l where the log is JSON, so that every line of it is JSON.
// Where the log is text, they stay as they are. Call it once, before anything is logged.
func (l *Logging) TakeOver(to hclog.Logger) {
	if l.Format != "json" {
		return
	}
	log.SetFlags(0)
	log.SetOutput(to.Named("go").StandardWriter(&hclog.StandardLoggerOptions{InferLevels: true}))
	redis.SetLogger(redisLog{to.Named("redis")})
	grpc := to.Named("grpc")
	errors := grpc.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Error})
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, errors)) // as without this call, where grpc's own settings ask for no more
}

// redisLog takes the log of go-redis.
type redisLog struct{ to hclog.Logger }

// Printf implements the interface of go-redis for loggers.
func (l redisLog) Printf(_ context.Context, format string, values ...any) {
	l.to.Warn(strings.TrimSpace(fmt.Sprintf(format, values...)))
}

// Report prints the error with which a program of this name ends: as a line of its log where cmd has --log-format json, and else as text. cmd is
// the command that has run.
func Report(out io.Writer, name string, cmd *cobra.Command, err error) {
	if f := cmd.Flags().Lookup("log-format"); f != nil && f.Value.String() == "json" {
		l := Logging{Level: "error", Format: "json"}
		if log, failed := l.Logger(name, out); failed == nil {
			log.Error("the program ends", "error", err)
			return
		}
	}
	fmt.Fprintf(out, "%s: %v\n", name, err)
}
