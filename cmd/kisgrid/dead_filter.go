package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deadFilter holds the flags that select dead letters. A letter is selected when it fits each flag that is set.
type deadFilter struct {
	flow, function, code, since, until, key, text, batch string
	fields                                               []string
}

// filterFlags are the names of the flags that select dead letters.
var filterFlags = []string{"flow", "function", "code", "since", "until", "key", "field", "text", "batch"}

// bind adds the flags that select dead letters to cmd. The flags write into f.
func (f *deadFilter) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.flow, "flow", "", "only letters of this `flow`")
	fs.StringVar(&f.function, "function", "", "only letters of rows that died in this `function`")
	fs.StringVar(&f.code, "code", "", "only letters with this `code`, such as FUNCTION_ERROR")
	fs.StringVar(&f.since, "since", "", "only letters kept since this `time`, such as 2026-11-22T08:00:00Z, or since so long ago, such as 2h")
	fs.StringVar(&f.until, "until", "", "only letters kept before this `time`, or longer ago than this, such as 2h")
	fs.StringVar(&f.key, "key", "", "only letters of rows with this `value` of the shard key")
	fs.StringArrayVar(&f.fields, "field", nil, "only letters of rows with this `NAME=VALUE`, such as stu_id=101 or student.name=Ada; several must all fit")
	fs.StringVar(&f.text, "text", "", "only letters that have this `text` in the row or in the reason")
	fs.StringVar(&f.batch, "batch", "", "only letters of rows of this `batch`, or of the batches of this stream, as dead list -o wide shows it")
	complete(cmd, "flow", namesOf("flows"))
	complete(cmd, "function", namesOf("functions"))
	complete(cmd, "code", codeNames)
}

// empty reports whether no flag selects letters.
func (f *deadFilter) empty() bool {
	return f.flow+f.function+f.code+f.since+f.until+f.key+f.text+f.batch == "" && len(f.fields) == 0
}

// message converts the flags and the ids of letters into the filter of a request. A letter must fit both. now is the time from
// which durations in --since and --until count back.
func (f *deadFilter) message(ids []string, now time.Time) (*pb.DeadFilter, error) {
	m := &pb.DeadFilter{Flow: f.flow, Function: f.function, Ids: ids, Text: f.text, Batch: f.batch}
	if f.code != "" {
		n, ok := pb.Code_value["CODE_"+strings.ToUpper(f.code)]
		if !ok || n == 0 {
			return nil, fmt.Errorf("--code: there is no code %q: docs/outcomes.md lists them", f.code)
		}
		m.Code = pb.Code(n)
	}
	var err error
	if m.SinceUnixMilliseconds, err = timeFlag("since", f.since, now); err != nil {
		return nil, err
	}
	if m.UntilUnixMilliseconds, err = timeFlag("until", f.until, now); err != nil {
		return nil, err
	}
	if m.Key = f.key; f.key != "" && !json.Valid([]byte(f.key)) {
		m.Key = jsonText(f.key)
	}
	for _, field := range f.fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" {
			return nil, command.Usage("--field: %q is not NAME=VALUE", field)
		}
		m.Fields = append(m.Fields, &pb.FieldValue{Field: name, Value: value})
	}
	if m.GetUntilUnixMilliseconds() != 0 || m.GetKey() != "" || m.GetText() != "" || m.GetBatch() != "" || len(m.GetFields()) > 0 {
		m.Ids = append([]string{onlyNewBuilds}, ids...)
	}
	return m, nil
}

// onlyNewBuilds is the text among the ids of a filter that coordinators of earlier builds refuse. They would otherwise ignore the parts of the
// filter that they don't know, and select more letters.
const onlyNewBuilds = "*"

// tooOld returns the error to print for a call with a filter: one that says that the coordinator's build is too old for the filter, if that is
// the reason.
func tooOld(err error) error {
	if err != nil && strings.Contains(err.Error(), `"*" is not the id`) {
		return batch.Errorf(batch.CodeProtocolMismatch, "the coordinator's build does not know --until, --key, --field, --text, --batch and --rate, and nothing was done: name another one with --server, or upgrade it")
	}
	return err
}

// jsonText returns a text as a string of JSON.
func jsonText(text string) string {
	out, _ := json.Marshal(text) //nolint:errchkjson // a string can always be written
	return string(out)
}

// timeFlag converts the value of --since or --until into milliseconds of Unix time; an empty value gives 0. A duration counts back from now.
func timeFlag(flag, value string, now time.Time) (int64, error) {
	if value == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		ago, err := time.ParseDuration(value)
		if err != nil || ago < 0 {
			return 0, fmt.Errorf("--%s: %q is neither a time, such as 2026-11-22T08:00:00Z, nor a duration, such as 2h", flag, value)
		}
		at = now.Add(-ago)
	}
	return at.UnixMilli(), nil
}

// chosen returns the filter for a command that changes or deletes letters, such as dead drop. If neither ids nor flags select
// letters, it returns an error, so that nobody deletes all letters by accident; all, which is true for --all and --dry-run, allows
// that.
func (f *deadFilter) chosen(cmd *cobra.Command, ids []string, all bool) (*pb.DeadFilter, error) {
	for _, name := range filterFlags {
		if flag := cmd.Flags().Lookup(name); flag.Changed && (flag.Value.String() == "" || flag.Value.String() == "[]") {
			return nil, fmt.Errorf("--%s is empty and would select every letter: give it a value, or leave it out", name)
		}
	}
	if !all && len(ids) == 0 && f.empty() {
		return nil, errors.New("no letters are selected: give their ids, or select them with --flow, --function, --code, --since, --until, --key, --field, --text or --batch; --all selects all letters of all flows")
	}
	return f.message(ids, time.Now())
}
