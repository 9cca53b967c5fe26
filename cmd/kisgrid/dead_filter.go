package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deadFilter holds the flags that select dead letters. A letter is selected when it fits each flag that is set.
type deadFilter struct {
	flow, function, code, since string
}

// bind adds the flags that select dead letters to cmd. The flags write into f.
func (f *deadFilter) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.flow, "flow", "", "only letters of this `flow`")
	fs.StringVar(&f.function, "function", "", "only letters of rows that died in this `function`")
	fs.StringVar(&f.code, "code", "", "only letters with this `code`, such as FUNCTION_ERROR")
	fs.StringVar(&f.since, "since", "", "only letters kept since this `time`, such as 2026-11-22T08:00:00Z, or since so long ago, such as 2h")
}

// message converts the flags and the ids of letters into the filter of a request. A letter must fit both. now is the time from
// which a duration in --since counts back.
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
				return nil, fmt.Errorf("--since: %q is neither a time, such as 2026-11-22T08:00:00Z, nor a duration, such as 2h", f.since)
			}
			since = now.Add(-ago)
		}
		m.SinceUnixMilliseconds = since.UnixMilli()
	}
	return m, nil
}

// chosen returns the filter for a command that changes or deletes letters, such as dead drop. If neither ids nor flags select
// letters, it returns an error, so that nobody deletes all letters by accident; all, which is true for --all and --dry-run, allows
// that.
func (f *deadFilter) chosen(cmd *cobra.Command, ids []string, all bool) (*pb.DeadFilter, error) {
	for _, name := range []string{"flow", "function", "code", "since"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return nil, fmt.Errorf("--%s is empty and would select every letter: give it a value, or leave it out", name)
		}
	}
	if !all && len(ids) == 0 && *f == (deadFilter{}) {
		return nil, errors.New("no letters are selected: give their ids, or select them with --flow, --function, --code or --since; --all selects all letters of all flows")
	}
	return f.message(ids, time.Now())
}
