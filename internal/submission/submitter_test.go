package submission

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream answers batches as answer says, with the rows themselves for output.
type stream struct {
	answer func(rows []string) ([]batch.RowOutcome, error)
	refuse error // of Send
	sent   []string
	closed bool
}

func (s *stream) Send(_ context.Context, b *batch.Batch, output bool) (Answer, error) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	c, err := b.Columns()
	if err != nil {
		return nil, err
	}
	var rows []string
	for i := range c.Len() {
		rows = append(rows, string(c.Row(i)))
	}
	s.sent = append(s.sent, strings.Join(rows, " "))
	notDone, err := s.answer(rows)
	r := &batch.Result{Rows: c.Len(), Revision: 7, NotDone: notDone}
	if output {
		r.Output.Rows = c
	}
	return answer{r, err}, nil
}

func (s *stream) Close() error {
	s.closed = true
	return nil
}

type answer struct {
	result *batch.Result
	err    error
}

func (a answer) Wait(context.Context) (*batch.Result, error) { return a.result, a.err }

// allDone is the answer of a flow that nothing is wrong with.
func allDone([]string) ([]batch.RowOutcome, error) { return nil, nil }

// submit runs a Submitter with flags.
func submit(s Stream, in io.Reader, flags ...string) (out, log string, err error) {
	sub := Submitter{Flow: "F"}
	fs := pflag.NewFlagSet("submit", pflag.ContinueOnError)
	sub.BindFlags(fs)
	if err := fs.Parse(flags); err != nil {
		return "", "", err
	}
	var o, l bytes.Buffer
	err = sub.Run(context.Background(), func(context.Context) (Stream, error) { return s, nil }, in, &o, &l)
	return o.String(), l.String(), err
}

func TestBatchesAndLines(t *testing.T) {
	s := &stream{answer: func(rows []string) ([]batch.RowOutcome, error) {
		if rows[0] != "c" {
			return nil, nil
		}
		return []batch.RowOutcome{
			{Row: 0, Outcome: batch.Dead, Code: batch.CodeFunctionError, Function: "f", Reason: "bad"},
			{Row: 1, Outcome: batch.Failed, Code: batch.CodeDeadline, Reason: "late"},
		}, nil
	}}
	out, log, err := submit(s, strings.NewReader("a\n\n\tb \nc\r\nd\n\ne"), "--batch-rows", "2", "--results")
	if !errors.Is(err, ErrNotDone) || !s.closed {
		t.Errorf("ended with %v, closed: %v", err, s.closed)
	}
	if got := strings.Join(s.sent, "|"); got != "a b|c d|e" {
		t.Errorf("sent %s", got)
	}
	if out != "a\nb\nc\nd\ne\n" {
		t.Errorf("printed %q", out)
	}
	if want := "line 4: dead in f: FUNCTION_ERROR: bad\nline 5: failed: DEADLINE: late\nF: 5 rows in 3 batches, 0.0 s: 3 done 0 filtered 0 aborted 1 dead 1 failed\n"; log != want {
		t.Errorf("told\n%s", log)
	}
}

// Of many rows that are not done the first ones are listed, the others counted.
func TestManyNotDone(t *testing.T) {
	s := &stream{answer: func(rows []string) (notDone []batch.RowOutcome, err error) {
		for i := range rows {
			notDone = append(notDone, batch.RowOutcome{Row: uint32(i), Outcome: batch.Filtered, Code: batch.CodeDropped})
		}
		return notDone, nil
	}}
	out, log, err := submit(s, strings.NewReader(strings.Repeat("x\n", 25)), "--batch-rows", "10")
	if err != nil || out != "" || strings.Count(log, "line ") != maxListed || !strings.Contains(log, "line 10: filtered: DROPPED: \n… and 15 more rows that are not done\nF: 25 rows") {
		t.Errorf("ended with %v, printed %q and told\n%s", err, out, log)
	}
}

// An error of the stream ends the run, and the rows that were answered before are in the summary.
func TestStreamErrors(t *testing.T) {
	lost := errors.New("the answer is lost")
	for name, s := range map[string]*stream{
		"send": {refuse: lost},
		"wait": {answer: func(rows []string) ([]batch.RowOutcome, error) {
			if rows[0] == "3" {
				return nil, lost
			}
			return nil, nil
		}},
	} {
		var rows strings.Builder
		for i := range 1000 { // more batches than may be under way
			fmt.Fprintln(&rows, i)
		}
		_, log, err := submit(s, strings.NewReader(rows.String()), "--batch-rows", "1")
		if !errors.Is(err, lost) {
			t.Errorf("%s: ended with %v", name, err)
		}
		if want := map[string]string{"wait": "F: 3 rows in 3 batches, "}[name]; !strings.HasPrefix(log, want) || want == "" && log != "" {
			t.Errorf("%s: told %q", name, log)
		}
	}
}

// Rows before those that can't be read are submitted.
func TestReadErrors(t *testing.T) {
	s := &stream{answer: allDone}
	broken := io.MultiReader(strings.NewReader("a\nb\n"), brokenReader{})
	_, log, err := submit(s, broken)
	if err == nil || err.Error() != "read rows after line 2: the disk is gone" || len(s.sent) != 1 || s.sent[0] != "a b" || !strings.HasPrefix(log, "F: 2 rows in 1 batches") {
		t.Errorf("ended with %v, sent %q, told %q", err, s.sent, log)
	}
	long := io.MultiReader(strings.NewReader("a\n"), strings.NewReader(strings.Repeat("x", lineBytes+1)))
	if _, _, err := submit(&stream{answer: allDone}, long); err == nil || !strings.HasPrefix(err.Error(), "read rows: line 2 has over 4194304 bytes") {
		t.Errorf("ended with %v", err)
	}
}

// Run returns when its context ends, although a read of the input still blocks.
func TestGivenUpWhileReading(t *testing.T) {
	in, rows := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	sub := Submitter{Flow: "F", path: "-", batchRows: 1}
	answered := make(chan struct{})
	s := &stream{answer: func([]string) ([]batch.RowOutcome, error) {
		close(answered)
		return nil, nil
	}}
	ended := make(chan error)
	go func() {
		ended <- sub.Run(ctx, func(context.Context) (Stream, error) { return s, nil }, in, io.Discard, io.Discard)
	}()
	if _, err := rows.Write([]byte("a\n")); err != nil {
		t.Fatal(err)
	}
	<-answered
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	rows.Close()
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

func TestSummaryAsJSON(t *testing.T) {
	for flags, want := range map[string][2]bool{"-o json": {true, false}, "-o json --results": {false, true}} {
		out, log, err := submit(&stream{answer: allDone}, strings.NewReader("1\n"), strings.Fields(flags)...)
		const summary = `{"flow":"F","rows":1,"batches":1,"outcomes":{"aborted":0,"dead":0,"done":1,"failed":0,"filtered":0},"revisions":[7],"seconds":`
		if err != nil || strings.HasPrefix(out, summary) != want[0] || strings.HasPrefix(log, summary) != want[1] {
			t.Errorf("%s: %v\n%s\n%s", flags, err, out, log)
		}
	}
}

// TestLinesInDoubt: an error says which lines may have taken effect, since the command would send them in other batches.
func TestLinesInDoubt(t *testing.T) {
	unanswered := fmt.Errorf("the connection broke (%w)", batch.ErrUnanswered)
	refused := batch.Errorf(batch.CodeFlowDisabled, "off")
	for _, test := range []struct {
		name   string
		answer error // of the second batch
		refuse error // of Send
		want   string
	}{
		{"unanswered", unanswered, nil, "lines 2 to 2 were sent and have no answer"},
		{"refused", refused, nil, ""},
		{"not sent", nil, refused, ""},
		{"sent before", nil, unanswered, "lines 1 to 1 were sent and have no answer"},
	} {
		calls := 0
		s := &stream{refuse: test.refuse, answer: func([]string) ([]batch.RowOutcome, error) {
			if calls++; calls == 2 {
				return nil, test.answer
			}
			return nil, nil
		}}
		_, _, err := submit(s, strings.NewReader("a\nb\n"), "--batch-rows", "1")
		if (err == nil) != (test.answer == nil && test.refuse == nil) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "have no answer") != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.name, err, test.want)
		}
	}
}
