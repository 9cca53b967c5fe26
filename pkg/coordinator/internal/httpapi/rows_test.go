package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func unencrypted2() *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: &protocols}}
}

// clients are the protocols that each test of a conversation runs with.
func clients() map[string]*http.Client {
	return map[string]*http.Client{"HTTP1": {Transport: &http.Transport{}}, "HTTP2": unencrypted2()}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	a := post(t, "/v1/flows/Fussy/rows", "{\"id\":1}\n{\"id\":-7}\n\n{\"id\":9007199254740993}\r\n{\"id\":true}\n")
	if a.summary == nil || a.summary.Rows != 4 || a.summary.Done != 2 || a.summary.Dead != 2 || a.summary.Revision <= 0 {
		t.Fatalf("the summary is %+v: %s", a.summary, a.text)
	}
	if o := a.rows[2].Output; len(o) != 1 || string(o[0]) != `{"id":9007199254740993}` {
		t.Errorf("row 2 has the output %s", o)
	}
	dead := a.rows[1]
	if dead.Outcome != "dead" || dead.Code != "FUNCTION_ERROR" || dead.Reason != `id -7 is below 0, said "Fussy"` || !dead.Kept {
		t.Errorf("row 1: %+v", dead)
	}
	if a.rows[3].Code != "ROW_UNDECODABLE" {
		t.Errorf("row 3: %+v", a.rows[3])
	}
	if a.header.Get("KisGrid-Revision") == "" {
		t.Error("the answer does not name the revision")
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	for _, flow := range []string{"Twice", "TwiceWhole"} {
		a := post(t, "/v1/flows/"+flow+"/rows", "{\"id\":1}\n{\"id\":2}\n")
		for row, want := range []string{`[{"id":1} {"pretty":true}]`, `[{"id":2} {"pretty":true}]`} {
			if got := fmt.Sprintf("%s", a.rows[int64(row)].Output); got != want {
				t.Errorf("%s, row %d: output %s, want %s", flow, row, got, want)
			}
		}
	}
	if a := post(t, "/v1/flows/Twice/rows?output=false", `{"id":1}`); a.rows[0].Outcome != "done" || len(a.rows[0].Output) != 0 {
		t.Errorf("without output: %s", a.text)
	}
	a := post(t, "/v1/flows/Fussy/rows?output=false&list=not_done&report_only=true", "{\"id\":1}\n{\"id\":-1}\n{\"id\":3}\n")
	if len(a.rows) != 1 || a.rows[1].NotKept != "report_only" || a.summary.Done != 2 {
		t.Errorf("only rows that are not done: %s", a.text)
	}
}

// TestManyRows: rows of a large body come back once each, whatever batches they travel in.
func TestManyRows(t *testing.T) {
	t.Parallel()
	const n = 20_000
	var body bytes.Buffer
	for i := range n {
		fmt.Fprintf(&body, "{\"id\":%d}\n", i)
	}
	for name, c := range clients() {
		for _, flow := range []string{"Pass", "PassWhole"} {
			a := send(t, c, request(t, "/v1/flows/"+flow+"/rows", bytes.NewReader(body.Bytes())))
			if a.summary == nil || a.summary.Done != n || len(a.rows) != n {
				t.Fatalf("%s, %s: %d lines, %+v, %+v", name, flow, len(a.rows), a.summary, a.problem)
			}
			for row, l := range a.rows {
				if want := fmt.Sprintf(`[{"id":%d}]`, row); l.Outcome != "done" || fmt.Sprintf("%s", l.Output) != want {
					t.Fatalf("%s, %s, row %d: %+v", name, flow, row, l)
				}
			}
		}
	}
}

// TestWhileTheyCome: the outcome of a row comes before the next row is sent, although the body has no end yet.
func TestWhileTheyCome(t *testing.T) {
	t.Parallel()
	for name, c := range clients() {
		t.Run(name, func(t *testing.T) {
			talk := converse(t, c, "/v1/flows/Pass/rows")
			for row := range int64(3) {
				talk.write(fmt.Sprintf("{\"id\":%d}\n", row))
				if l := talk.next(); l.Row == nil || *l.Row != row || l.Outcome != "done" {
					t.Fatalf("row %d: %+v", row, l)
				}
			}
			talk.body.Close()
			if l := talk.next(); l.Summary == nil || l.Summary.Done != 3 {
				t.Errorf("at the end: %+v", l)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, body string
		headers    []string
		status     int
		code, says string
	}{
		{"/v1/flows/None/rows", `{}`, nil, 404, "UNKNOWN_FLOW", "None"},
		{"/v1/flows/Off/rows", `{}`, nil, 409, "FLOW_DISABLED", ""},
		{"/v1/flows/Pass/rows", "", nil, 400, "EMPTY_BATCH", "send at least one"},
		{"/v1/flows/Pass/rows", "\n\n", nil, 400, "EMPTY_BATCH", "send at least one"},
		{"/v1/flows/Pass/rows?outputs=1", `{}`, nil, 400, "BAD_MESSAGE", `no parameter "outputs"`},
		{"/v1/flows/Pass/rows?output=1&output=0", `{}`, nil, 400, "BAD_MESSAGE", "2 times"},
		{"/v1/flows/Pass/rows?list=some", `{}`, nil, 400, "BAD_MESSAGE", "all or not_done"},
		{"/v1/flows/Pass/rows", `{}`, []string{"KisGrid-Timeout", "soon"}, 400, "BAD_MESSAGE", "milliseconds"},
		{"/v1/flows/Pass/rows", `{}`, []string{"KisGrid-Stream", "1234", "KisGrid-Sequence", "1"}, 400, "BAD_BATCH_ID", "32 hexadecimal digits"},
		{"/v1/flows/Pass/rows", `{}`, []string{"KisGrid-Stream", strings.Repeat("a1", 16), "KisGrid-Sequence", "0"}, 400, "BAD_BATCH_ID", "1, 2, 3"},
		{"/v1/flows/Pass/rows", `{}`, []string{"KisGrid-Stream", strings.Repeat("a1", 16)}, 400, "BAD_BATCH_ID", "KisGrid-Sequence"},
		{"/v1/flows/Pass/rows", `{}`, []string{"KisGrid-Revision", "x"}, 400, "BAD_MESSAGE", "as the first answer had it"},
		{"/v1/flows/Pass/rows", `{}`, []string{"KisGrid-Revision", "999999", "KisGrid-Stream", strings.Repeat("a1", 16), "KisGrid-Sequence", "3"}, 409, "REVISION_GONE", "not kept"},
		{"/v1/nothing", `{}`, nil, 404, "NOT_FOUND", "openapi.json"},
	} {
		a := post(t, c.path, c.body, c.headers...)
		a.wantProblem(t, c.status, c.code, c.says)
	}
	response, err := http.Get("http://" + at + "/v1/flows/Pass/rows")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	a := read(t, response)
	a.wantProblem(t, 405, "BAD_MESSAGE", "POST")
	if a.header.Get("Allow") != "POST" {
		t.Error("the answer does not say which method is allowed")
	}
}

// TestSubmitAgain: a batch that is named can be submitted again, and runs on the revision of the first time.
func TestSubmitAgain(t *testing.T) {
	t.Parallel()
	headers := []string{"KisGrid-Stream", strings.Repeat("0f", 16), "KisGrid-Sequence", "7"}
	first := post(t, "/v1/flows/Pass/rows", "{\"id\":1}\n{\"id\":2}\n", headers...)
	if first.summary == nil || first.summary.Done != 2 {
		t.Fatal(first.text)
	}
	again := post(t, "/v1/flows/Pass/rows", "{\"id\":1}\n{\"id\":2}\n", append(headers, "KisGrid-Revision", first.header.Get("KisGrid-Revision"), "KisGrid-Age", "1500")...)
	if again.summary == nil || again.summary.Done != 2 || again.header.Get("KisGrid-Revision") != first.header.Get("KisGrid-Revision") {
		t.Errorf("the second time: %s", again.text)
	}
}

// TestOrigins: a dead letter tells the source that the request names, and the line of its row in the body.
func TestOrigins(t *testing.T) {
	t.Parallel()
	var many bytes.Buffer // takes several batches
	for i := range 2500 {
		fmt.Fprintf(&many, "{\"id\":%d}\n", i)
	}
	for name, c := range map[string]struct {
		query, body string
		headers     []string
		rows        map[int64]int // the line of each dead row, by the row's number in the body
		source      string
	}{
		"lines":      {"?source=new%2Forders.ndjson", "{\"id\":1}\n\n\n{\"id\":-7}\n{\"id\":tru\n{\"id\":-8}\n", nil, map[int64]int{1: 4, 2: 5, 3: 6}, "new/orders.ndjson"},
		"an array":   {"?source=api", "[\n{\"id\":-1},\n{\"id\":\n-2}]", nil, map[int64]int{0: 1, 1: 2}, "api"},
		"CSV":        {"?source=%C3%A4.csv", "id,note\n4,\"of two\nlines\"\n-5,x\n", []string{"Content-Type", "text/csv"}, map[int64]int{1: 4}, "ä.csv"},
		"no source":  {"", "{\"id\":-1}\n", nil, map[int64]int{0: 1}, ""},
		"later":      {"?list=not_done&source=f", many.String() + "{\"id\":-1}", nil, map[int64]int{2500: 2501}, "f"},
		"with a key": {"?list=not_done&source=f", "\n" + many.String() + "\n{\"id\":-1}", []string{"Idempotency-Key", "origins"}, map[int64]int{2500: 2503}, "f"},
	} {
		a := post(t, "/v1/flows/Fussy/rows"+c.query, c.body, c.headers...)
		for row, line := range c.rows {
			l := a.rows[row]
			if l.Letter == "" {
				t.Fatalf("%s: row %d has no letter: %s", name, row, a.text)
			}
			response, err := http.Get("http://" + at + "/v1/dead?filter.ids=" + l.Letter)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			var found struct {
				Result struct {
					Letter struct{ Source, Line string }
				}
			}
			if first, _, _ := bytes.Cut(text, []byte("\n")); err != nil || json.Unmarshal(first, &found) != nil {
				t.Fatalf("%s: %v: %s", name, err, text)
			}
			if got := found.Result.Letter; got.Source != c.source || got.Line != fmt.Sprint(line) {
				t.Errorf("%s: the letter of row %d tells %q, line %s, want %q, line %d", name, row, got.Source, got.Line, c.source, line)
			}
		}
	}
	a := post(t, "/v1/flows/Fussy/rows?source=a&source=b", `{"id":1}`)
	a.wantProblem(t, 400, "BAD_MESSAGE", "source")
}
