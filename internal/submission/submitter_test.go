package submission

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/rowfile"
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

func (s *stream) Send(_ context.Context, b *batch.Batch, o SendOptions) (Answer, error) {
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
	if o.Output {
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
	return run(&Submitter{Flow: "F"}, s, in, flags...)
}

// run runs this Submitter with flags.
func run(sub *Submitter, s Stream, in io.Reader, flags ...string) (out, log string, err error) {
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
		if rows[0] != "3" {
			return nil, nil
		}
		return []batch.RowOutcome{
			{Row: 0, Outcome: batch.Dead, Code: batch.CodeFunctionError, Function: "f", Reason: "bad"},
			{Row: 1, Outcome: batch.Failed, Code: batch.CodeDeadline, Reason: "late"},
		}, nil
	}}
	out, log, err := submit(s, strings.NewReader("1\n\n\t2 \n3\r\n4\n\n5"), "--batch-rows", "2", "--results")
	if !errors.Is(err, ErrNotDone) || !s.closed {
		t.Errorf("ended with %v, closed: %v", err, s.closed)
	}
	if got := strings.Join(s.sent, "|"); got != "1 2|3 4|5" {
		t.Errorf("sent %s", got)
	}
	if out != "1\n2\n3\n4\n5\n" {
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
	out, log, err := submit(s, strings.NewReader(strings.Repeat("1\n", 25)), "--batch-rows", "10")
	if err != nil || out != "" || strings.Count(log, "line ") != maxListed || !strings.Contains(log, "line 10: filtered: DROPPED: \n… and 15 more rows that are not done\nF: 25 rows") {
		t.Errorf("ended with %v, printed %q and told\n%s", err, out, log)
	}
}

// An error of a batch ends the reading. Batches under way still get their answers, and the log says which lines did not.
func TestStreamErrors(t *testing.T) {
	lost := fmt.Errorf("the answer is lost (%w)", batch.ErrUnanswered)
	off := batch.Errorf(batch.CodeFlowDisabled, "off")
	rows := strings.Repeat("1\n", 2) + "3\n" + strings.Repeat("1\n", 1000) // more batches than may be under way
	failAt3 := func(err error) func([]string) ([]batch.RowOutcome, error) {
		return func(rows []string) ([]batch.RowOutcome, error) {
			if rows[0] == "3" {
				return nil, err
			}
			return nil, nil
		}
	}
	for name, test := range map[string]struct {
		stream *stream
		err    error
		want   []string
	}{
		"not sent":          {&stream{answer: allDone, refuse: off}, off, nil},
		"sent before":       {&stream{answer: allDone, refuse: lost}, lost, []string{"lines 1 to 1 were sent and have no answer"}},
		"refused":           {&stream{answer: failAt3(off)}, off, []string{"lines 1 to 2 are answered\nlines 3 to 3 were refused: nothing of them ran\n", "were not sent: to go on, give the same command --from-line "}},
		"without an answer": {&stream{answer: failAt3(lost)}, lost, []string{"lines 1 to 2 are answered\nlines 3 to 3 were sent and have no answer"}},
	} {
		_, log, err := submit(test.stream, strings.NewReader(rows), "--batch-rows", "1")
		if !errors.Is(err, test.err) {
			t.Errorf("%s: ended with %v", name, err)
		}
		for _, want := range test.want {
			if !strings.Contains(log, want) {
				t.Errorf("%s: told %q, want %q in it", name, log, want)
			}
		}
		if len(test.want) == 0 && log != "" {
			t.Errorf("%s: told %q", name, log)
		}
	}
}

// Rows before those that can't be read are submitted.
func TestReadErrors(t *testing.T) {
	s := &stream{answer: allDone}
	broken := io.MultiReader(strings.NewReader("1\n2\n"), brokenReader{})
	_, log, err := submit(s, broken)
	if err == nil || err.Error() != "read rows after line 2: the disk is gone" || len(s.sent) != 1 || s.sent[0] != "1 2" || !strings.HasPrefix(log, "F: 2 rows in 1 batches") {
		t.Errorf("ended with %v, sent %q, told %q", err, s.sent, log)
	}
}

// A row that is too long costs itself, and a line that is no JSON is sent, so that it becomes a dead letter.
func TestBadRows(t *testing.T) {
	outcomes, rejects := filepath.Join(t.TempDir(), "o"), filepath.Join(t.TempDir(), "r")
	s := &stream{answer: func(rows []string) ([]batch.RowOutcome, error) {
		return []batch.RowOutcome{{Row: 1, Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Reason: "no JSON", Kept: true}}, nil
	}}
	long := strings.Repeat("x", rowBytes+1)
	_, log, err := submit(s, strings.NewReader("1\n"+long+"\n{\n3\n"), "--outcomes", outcomes, "--rejects", rejects)
	if !errors.Is(err, ErrNotDone) || len(s.sent) != 1 || s.sent[0] != "1 { 3" {
		t.Errorf("ended with %v and sent %q", err, s.sent)
	}
	for _, want := range []string{"line 2: dead: ROW_TOO_LARGE: the row is over 4194304 bytes\n", "line 3: dead: ROW_UNDECODABLE: no JSON\n", "2 done 0 filtered 0 aborted 2 dead 0 failed (1 of the dead could not be read, and were not sent)"} {
		if !strings.Contains(log, want) {
			t.Errorf("told %q, want %q in it", log, want)
		}
	}
	expectFile(t, outcomes, `{"line":1,"outcome":"done"}
{"line":2,"outcome":"dead","code":"ROW_TOO_LARGE","reason":"the row is over 4194304 bytes","kept":false,"not_kept":"not_sent"}
{"line":3,"outcome":"dead","code":"ROW_UNDECODABLE","reason":"no JSON","kept":true}
{"line":4,"outcome":"done"}
`)
	expectFile(t, rejects, "{\n")
}

// expectFile compares a file with a text.
func expectFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s has, with error %v:\n%s\nwant:\n%s", filepath.Base(path), err, got, want)
	}
}

// CSV is rejected as CSV, with its header, and outcomes in a file of this name are CSV.
func TestReportsOfCSV(t *testing.T) {
	dir := t.TempDir()
	in, outcomes, rejects := filepath.Join(dir, "in.csv"), filepath.Join(dir, "o.csv"), filepath.Join(dir, "r.csv")
	if err := os.WriteFile(in, []byte("id,name\n1,\"a, b\"\nx,c\n3,\"d\"\"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stream{answer: func(rows []string) ([]batch.RowOutcome, error) {
		return []batch.RowOutcome{{Row: 1, Outcome: batch.Failed, Code: batch.CodeDeadline, Function: "f", Reason: "late", Attempts: 2}}, nil
	}}
	sub := Submitter{Flow: "F",
		Types:    func(context.Context) (rowfile.Types, error) { return rowfile.Types{"id": {Kind: rowfile.Int}}, nil },
		ShardKey: func(context.Context) (string, error) { return "id", nil },
	}
	if _, _, err := run(&sub, s, nil, "-f", in, "--outcomes", outcomes, "--rejects", rejects); !errors.Is(err, ErrNotDone) {
		t.Error(err)
	}
	if want := `{"id":1,"name":"a, b"} {"id":3,"name":"d\""}`; len(s.sent) != 1 || s.sent[0] != want {
		t.Errorf("sent %s", s.sent)
	}
	expectFile(t, outcomes, `line,key,outcome,function,code,reason,attempts,kept,not_kept,letter
2,1,done,,,,0,,,
3,,dead,,ROW_UNDECODABLE,"id must be a whole number, it is ""x""",0,false,not_sent,
4,3,failed,f,DEADLINE,late,2,,,
`)
	expectFile(t, rejects, "id,name\nx,c\n3,\"d\"\"\"\n")
}

// Reading stops after --max-bad rows that can't be read, also if only the flow finds that.
func TestMaxBad(t *testing.T) {
	undecodable := func(rows []string) (all []batch.RowOutcome, err error) {
		for i, row := range rows {
			if row == "no" || row == "5" {
				all = append(all, batch.RowOutcome{Row: uint32(i), Outcome: batch.Dead, Code: batch.CodeRowUndecodable})
			}
		}
		return all, nil
	}
	const hint = "were not sent: to go on, give the same command --from-line "
	for name, test := range map[string]struct {
		in     string
		flags  []string
		sent   int // the most lines that may be sent
		stops  bool
		stderr string
	}{
		"no JSON":           {strings.Repeat("no\n", 1000), []string{"--max-bad", "10"}, 10, true, "lines 1 to 10 are answered\nlines from 11 on " + hint + "11"},
		"between right":     {strings.Repeat("1\nno\n", 1000), []string{"--max-bad", "10"}, 20, true, "lines from 21 on " + hint + "21"},
		"the first":         {"1\nno\n2\n", []string{"--max-bad", "0"}, 2, true, "lines from 3 on " + hint + "3"},
		"of the wrong type": {strings.Repeat("5\n", 10000), []string{"--max-bad", "10", "--batch-rows", "10"}, 1000, true, hint},
		"no limit":          {strings.Repeat("no\n", 1000), []string{"--max-bad", "-1"}, 1000, false, ""},
		"below":             {strings.Repeat("no\n", 99) + "1\n", nil, 100, false, ""},
	} {
		s := &stream{answer: undecodable}
		_, log, err := submit(s, strings.NewReader(test.in), test.flags...)
		if stopped := err != nil && strings.Contains(err.Error(), "--max-bad"); stopped != test.stops || !stopped && !errors.Is(err, ErrNotDone) {
			t.Errorf("%s: ended with %v", name, err)
		}
		if n := len(strings.Fields(strings.Join(s.sent, " "))); n > test.sent || n == 0 || !test.stops && n < test.sent {
			t.Errorf("%s: %d lines were sent, want %d", name, n, test.sent)
		}
		if !strings.Contains(log, test.stderr) {
			t.Errorf("%s: told %s, want %q in it", name, log, test.stderr)
		}
	}
}

// Input without rows is named, and nothing is sent.
func TestNothingIsSpoiled(t *testing.T) {
	s := &stream{answer: allDone}
	_, log, err := submit(s, strings.NewReader("id,name\n"+strings.Repeat("1,a\n", 5000)))
	if _, ok := errors.AsType[*rowfile.NotRows](err); !ok || !strings.HasPrefix(err.Error(), "line 1: the input is CSV") || len(s.sent) != 0 || log != "" {
		t.Errorf("ended with %v, sent %q, told %q", err, s.sent, log)
	}
}

// A row does not wait for a whole batch, nor for the end of the input.
func TestFlush(t *testing.T) {
	in, rows := io.Pipe()
	s := &stream{answer: allDone}
	out := &notified{wrote: make(chan string, 1)}
	sub := Submitter{Flow: "F", Results: true}
	ended := make(chan error)
	go func() {
		fs := pflag.NewFlagSet("submit", pflag.ContinueOnError)
		sub.BindFlags(fs)
		_ = fs.Parse([]string{"--flush", "1ms"})
		ended <- sub.Run(context.Background(), func(context.Context) (Stream, error) { return s, nil }, in, out, io.Discard)
	}()
	for _, row := range []string{"1\n", "2\n"} {
		if _, err := rows.Write([]byte(row)); err != nil {
			t.Fatal(err)
		}
		if got := <-out.wrote; got != row {
			t.Errorf("printed %q", got)
		}
	}
	_ = rows.Close()
	if err := <-ended; err != nil || len(s.sent) != 2 {
		t.Errorf("ended with %v and sent %q", err, s.sent)
	}
}

// notified passes on everything that is written.
type notified struct{ wrote chan string }

func (n *notified) Write(b []byte) (int, error) {
	n.wrote <- string(b)
	return len(b), nil
}

// When the context ends while a batch is under way, its answer is waited for, and the log says how to go on.
func TestInterrupted(t *testing.T) {
	unanswered := fmt.Errorf("still under way (%w)", batch.ErrUnanswered)
	for name, test := range map[string]struct {
		grace string
		want  string
	}{
		"with grace":    {"1h", "lines 1 to 2 are answered\nlines from 3 on were not sent: to go on, give the same command --from-line 3\n"},
		"without grace": {"0s", "lines 1 to 1 are answered\nlines 2 to 2 were sent and have no answer: they may have taken effect, and sending them again may take effect twice; look at the stored data before you send them again\nlines from 3 on were not sent"},
	} {
		in, rows := io.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		var log bytes.Buffer
		sub := Submitter{Flow: "F"}
		fs := pflag.NewFlagSet("submit", pflag.ContinueOnError)
		sub.BindFlags(fs)
		if err := fs.Parse([]string{"--batch-rows", "1", "--grace", test.grace}); err != nil {
			t.Fatal(err)
		}
		s := &slowStream{waiting: make(chan struct{}), release: make(chan struct{}), unanswered: unanswered}
		ended := make(chan error)
		go func() {
			ended <- sub.Run(ctx, func(context.Context) (Stream, error) { return s, nil }, in, io.Discard, &log)
		}()
		if _, err := rows.Write([]byte("1\n2\n")); err != nil {
			t.Fatal(err)
		}
		<-s.waiting
		cancel()
		if test.grace == "1h" {
			close(s.release)
		}
		if err := <-ended; !errors.Is(err, ErrInterrupted) || !strings.Contains(log.String(), test.want) {
			t.Errorf("%s: ended with %v and told:\n%s", name, err, &log)
		}
		_ = rows.Close()
	}
}

// slowStream answers the first batch at once, and the second one when release is closed.
type slowStream struct {
	sent             int
	waiting, release chan struct{}
	unanswered       error
}

func (s *slowStream) Send(context.Context, *batch.Batch, SendOptions) (Answer, error) {
	s.sent++
	return slowAnswer{s, s.sent == 2}, nil
}

func (s *slowStream) Close() error { return nil }

type slowAnswer struct {
	*slowStream
	slow bool
}

func (a slowAnswer) Wait(ctx context.Context) (*batch.Result, error) {
	if a.slow {
		close(a.waiting)
		select {
		case <-a.release:
		case <-ctx.Done():
			return nil, a.unanswered
		}
	}
	return &batch.Result{Rows: 1, Revision: 7}, nil
}

// A mistake in a flag has the exit code 2, an interruption 130.
func TestExitCodes(t *testing.T) {
	for _, flags := range []string{"--batch-rows 0", "--format xls", "-o yaml", "--grace -1s", "--outcomes a --rejects a", "--from-line -1"} {
		_, _, err := submit(&stream{answer: allDone}, strings.NewReader(""), strings.Fields(flags)...)
		if coded, ok := errors.AsType[exitError](err); !ok || coded.ExitCode() != 2 {
			t.Errorf("%s: %v", flags, err)
		}
	}
	if coded, ok := errors.AsType[exitError](ErrInterrupted); !ok || coded.ExitCode() != 130 {
		t.Error("an interruption has another exit code")
	}
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
