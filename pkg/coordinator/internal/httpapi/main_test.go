package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// at is the address of the coordinator's HTTP port, and grid the cluster that all tests share.
var (
	at   string
	grid *devcluster.Cluster
)

// gate has a channel for each row that waits: the function Wait tells it of each row, and goes on when the row's channel is closed.
var gate = make(chan chan struct{})

func register(r *kis.Registry) {
	r.Func("Pass", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) { return row, nil }))
	r.Func("Wait", kis.Calculate(func(ctx context.Context, row json.RawMessage) (json.RawMessage, error) {
		open := make(chan struct{})
		select {
		case gate <- open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case <-open:
			return row, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	r.Func("Fussy", kis.Calculate(func(_ context.Context, row struct {
		ID int64 `json:"id"`
	}) (json.RawMessage, error) {
		if row.ID < 0 {
			return nil, fmt.Errorf("id %d is below 0, said \"Fussy\"", row.ID)
		}
		return fmt.Appendf(nil, `{"id":%d}`, row.ID), nil
	}))
	r.Func("Named", kis.Calculate(func(_ context.Context, row named) (named, error) { return row, nil }))
	r.Func("RowID", kis.Calculate(func(ctx context.Context, _ json.RawMessage) (json.RawMessage, error) {
		return json.Marshal(kis.From(ctx).RowID().String())
	}))
	r.Func("Twice", kis.Expand(func(_ context.Context, row json.RawMessage, out func(json.RawMessage)) error {
		out(row)
		out(json.RawMessage("{\n \"pretty\": true\n}"))
		return nil
	}))
}

// named is a row whose name is a text, also if it looks like a number.
type named struct {
	ID   int64   `json:"id"`
	Name string  `json:"name"`
	Note *string `json:"note"`
}

func document(kind definition.Kind, name, body string) definition.Document {
	field := map[definition.Kind]string{definition.KindFlow: "flow_name", definition.KindFunc: "fname"}[kind]
	return definition.Document{Kind: kind, Name: name, YAML: fmt.Appendf(nil, "kistype: %s\n%s: %s\n%s", kind, field, name, body)}
}

func documents() (docs []definition.Document) {
	for name, mode := range map[string]string{"Pass": "Calculate", "Wait": "Calculate", "Fussy": "Calculate", "Named": "Calculate", "RowID": "Calculate", "Twice": "Expand"} {
		docs = append(docs,
			document(definition.KindFunc, name, "fmode: "+mode+"\n"),
			document(definition.KindFlow, name, "status: 1\nshard_key: id\nflows: [{fname: "+name+"}]\n"),
			document(definition.KindFlow, name+"Whole", "status: 1\nflows: [{fname: "+name+"}]\n"))
	}
	return append(docs, document(definition.KindFlow, "Off", "status: 0\nflows: [{fname: Pass}]\n"))
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	listener, err := net.Listen("tcp", "127.0.0.1:0") // finds a free port
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	at = listener.Addr().String()
	_ = listener.Close()
	grid, err = devcluster.Start(ctx, devcluster.Config{Workers: 2, Register: register, HTTP: at})
	if err == nil {
		err = grid.Put(ctx, documents())
	}
	if err == nil {
		err = active(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := grid.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(1, code)
	}
	return code
}

// active waits until every flow takes rows.
func active(ctx context.Context) error {
	for _, doc := range documents() {
		if doc.Kind != definition.KindFlow || doc.Name == "Off" || strings.HasPrefix(doc.Name, "Wait") {
			continue
		}
		for {
			response, err := http.Post("http://"+at+"/v1/flows/"+doc.Name+"/rows", "application/x-ndjson", strings.NewReader(`{"id":1}`))
			if err != nil {
				return err
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err == nil && response.StatusCode == http.StatusOK && bytes.Contains(text, []byte(`"summary"`)) {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("flow %s does not run: %s", doc.Name, text)
			}
			time.Sleep(5 * time.Millisecond) // nothing tells when the flow runs
		}
	}
	return nil
}

// line is one line of an answer.
type line struct {
	Row     *int64            `json:"row"`
	Outcome string            `json:"outcome"`
	Code    string            `json:"code"`
	Reason  string            `json:"reason"`
	NotKept string            `json:"not_kept"`
	Letter  string            `json:"letter"`
	Kept    bool              `json:"kept"`
	Output  []json.RawMessage `json:"output"`
	Summary *summary          `json:"summary"`
	Error   *problem          `json:"error"`
}

type summary struct{ Rows, Done, Filtered, Aborted, Dead, Failed, Refused, Revision int64 }

type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	NotSubmittedFrom          *int64 `json:"not_submitted_from"`
}

// answer is a whole answer.
type answer struct {
	status  int
	header  http.Header
	rows    map[int64]line
	summary *summary
	problem *problem // of a refused request, or of the last line
	text    string
}

// post submits a body, and reads the whole answer.
func post(t *testing.T, path, body string, headers ...string) answer {
	t.Helper()
	return send(t, http.DefaultClient, request(t, path, strings.NewReader(body), headers...))
}

func request(t *testing.T, path string, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func send(t *testing.T, c *http.Client, r *http.Request) answer {
	t.Helper()
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return read(t, response)
}

// read reads an answer, and checks its form.
func read(t *testing.T, response *http.Response) answer {
	t.Helper()
	a := answer{status: response.StatusCode, header: response.Header, rows: map[int64]line{}}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("the answer breaks off: %v", err)
	}
	a.text = string(text)
	if response.StatusCode != http.StatusOK {
		if kind := response.Header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("an error of type %q: %s", kind, text)
		}
		a.problem = new(problem)
		if err := json.Unmarshal(text, a.problem); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if a.problem.Status != response.StatusCode || a.problem.Detail == "" || a.problem.Code == "" || a.problem.Title == "" {
			t.Errorf("status %d with the problem %s", response.StatusCode, text)
		}
		return a
	}
	if kind := response.Header.Get("Content-Type"); kind != "application/x-ndjson" {
		t.Errorf("an answer of type %q", kind)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		if a.summary != nil || a.problem != nil {
			t.Errorf("behind the last line stands %s", lines.Bytes())
		}
		a.summary, a.problem = l.Summary, l.Error
		if l.Row != nil {
			before, twice := a.rows[*l.Row]
			if twice && before.Outcome != "" && l.Outcome != "" {
				t.Errorf("row %d has two outcomes: %s", *l.Row, lines.Bytes())
			}
			l.Output = append(before.Output, l.Output...)
			a.rows[*l.Row] = l
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if a.summary == nil && a.problem == nil {
		t.Errorf("the answer has no last line: %s", text)
	}
	return a
}

// wantProblem checks that a request was refused.
func (a *answer) wantProblem(t *testing.T, status int, code, says string) {
	t.Helper()
	if a.problem == nil || a.problem.Status != status || a.problem.Code != code || !strings.Contains(a.problem.Detail, says) {
		t.Errorf("got status %d and %s, want %d, %s that says %q", a.status, a.text, status, code, says)
	}
}

// conversation is a request whose body is written while the answer is read.
type conversation struct {
	t      *testing.T
	body   *io.PipeWriter
	answer <-chan *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

// converse begins a request with the HTTP client.
func converse(t *testing.T, c *http.Client, path string, headers ...string) *conversation {
	t.Helper()
	in, out := io.Pipe()
	r := request(t, path, in, headers...)
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan *http.Response, 1)
	go func() {
		defer close(answers)
		response, err := c.Do(r.WithContext(ctx)) //nolint:bodyclose // the end of ctx closes it
		if err == nil {
			answers <- response
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
	}()
	t.Cleanup(cancel)
	return &conversation{t: t, body: out, answer: answers, cancel: cancel}
}

// write writes a part of the body.
func (c *conversation) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.body, text); err != nil {
		c.t.Fatal(err)
	}
}

// next reads the next line of the answer.
func (c *conversation) next() (l line) {
	c.t.Helper()
	if c.lines == nil {
		select {
		case response := <-c.answer:
			if response == nil {
				c.t.Fatal("there is no answer")
			}
			c.t.Cleanup(func() { _ = response.Body.Close() })
			c.lines = bufio.NewScanner(response.Body)
		case <-time.After(patience):
			c.t.Fatal("no answer came")
		}
	}
	if !c.lines.Scan() {
		c.t.Fatalf("the answer ends: %v", c.lines.Err())
	}
	if err := json.Unmarshal(c.lines.Bytes(), &l); err != nil {
		c.t.Fatalf("%v: %s", err, c.lines.Bytes())
	}
	return l
}

// enter waits for a row that has come to the function Wait, and returns the channel that lets it go on.
func enter(t *testing.T) chan struct{} {
	t.Helper()
	select {
	case open := <-gate:
		return open
	case <-time.After(patience):
		t.Fatal("no row came to the function")
		return nil
	}
}
