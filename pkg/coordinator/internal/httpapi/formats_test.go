package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

func compressed(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, kind, second string }{
		"NDJSON":           {"{\"id\":1}\n{\"id\":9007199254740993}", "application/x-ndjson", `[{"id":9007199254740993}]`},
		"curl's default":   {"{\"id\":1}\n{\"id\":9007199254740993}\n", "application/x-www-form-urlencoded", `[{"id":9007199254740993}]`},
		"array":            {"[{\"id\": 1},\n {\n\"id\":\n9007199254740993 }]", "application/json", `[{"id":9007199254740993}]`},
		"byte-order mark":  {"\xef\xbb\xbf{\"id\":1}\r\n{\"id\":2}\r\n", "", `[{"id":2}]`},
		"CSV":              {"id,name\n1,\"a, b\"\n9007199254740993,\"c\"\"d\"\n", "text/csv; charset=utf-8", `[{"id":9007199254740993,"name":"c\"d"}]`},
		"compressed":       {compressed(t, "{\"id\":1}\n{\"id\":2}\n"), "", `[{"id":2}]`},
		"compressed CSV":   {compressed(t, "id\n1\n2\n"), "text/csv", `[{"id":2}]`},
		"compressed array": {compressed(t, `[{"id":1},{"id":2}]`), "application/json", `[{"id":2}]`},
	} {
		a := post(t, "/v1/flows/Pass/rows", c.body, "Content-Type", c.kind)
		if a.summary == nil || a.summary.Done != 2 {
			t.Errorf("%s: %s", name, a.text)
			continue
		}
		if got := a.rows[1].Output; len(got) != 1 || "["+string(got[0])+"]" != c.second {
			t.Errorf("%s: row 1 has the output %s, want %s", name, got, c.second)
		}
	}
}

// TestCSVTypes sends cells that look like numbers and like nothing: the type of the flow's rows says what they are.
func TestCSVTypes(t *testing.T) {
	t.Parallel()
	a := post(t, "/v1/flows/Named/rows", "id,name,note\n1,12,\n2,true,null\nx,12,y\n", "Content-Type", "text/csv")
	if a.summary == nil || a.summary.Done != 2 || a.summary.Dead != 1 || a.rows[2].Code != "ROW_UNDECODABLE" {
		t.Fatal(a.text)
	}
	for row, want := range map[int64]string{0: `{"id":1,"name":"12","note":null}`, 1: `{"id":2,"name":"true","note":"null"}`} {
		if got := a.rows[row].Output; len(got) != 1 || string(got[0]) != want {
			t.Errorf("row %d has the output %s, want %s", row, got, want)
		}
	}
}

func TestNoRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body, kind string
		status     int
		says       string
	}{
		"CSV without its type": {"id,name\n1,a\n", "", 400, "Content-Type: text/csv"},
		"pretty JSON":          {"{\n  \"id\": 1\n}\n", "", 400, "JSON over several lines"},
		"UTF-16":               {"\xff\xfe{\x00}\x00", "", 400, "UTF-16"},
		"zstd":                 {"\x28\xb5\x2f\xfd....", "", 400, "zstd"},
		"compressed twice":     {compressed(t, compressed(t, `{"id":1}`)), "", 400, "compressed twice"},
		"broken gzip":          {"\x1f\x8bnonsense", "", 400, "gzip"},
	} {
		a := post(t, "/v1/flows/Pass/rows", c.body, "Content-Type", c.kind)
		if a.status != c.status || a.problem == nil || !strings.Contains(a.problem.Detail, c.says) {
			t.Errorf("%s: got %s, want %d that says %q", name, a.text, c.status, c.says)
		}
	}
	a := post(t, "/v1/flows/Pass/rows", "x", "Content-Encoding", "br")
	a.wantProblem(t, 415, "BAD_MESSAGE", "gzip")
	whole := compressed(t, strings.Repeat("{\"id\":1}\n", 5000))
	a = post(t, "/v1/flows/Pass/rows", whole[:len(whole)-12])
	if a.problem == nil || !strings.Contains(a.problem.Detail, "unexpected EOF") {
		t.Errorf("a body whose compression breaks off: %.300s", a.text)
	}
}

// TestBadRows: a row that can't be read costs that row only, and later rows keep their numbers.
func TestBadRows(t *testing.T) {
	t.Parallel()
	long := `{"id":1,"text":"` + strings.Repeat("x", 2<<20) + `"}`
	a := post(t, "/v1/flows/Fussy/rows", "{\"id\":0}\nnope\n{\"id\":2}\n"+long+"\n{\"id\":4}\n")
	if a.summary == nil || a.summary.Rows != 5 || a.summary.Done != 3 || a.summary.Dead != 2 {
		t.Fatalf("%+v: %.2000s", a.summary, a.text)
	}
	if got := a.rows[4].Output; len(got) != 1 || string(got[0]) != `{"id":4}` {
		t.Errorf("row 4: %+v", a.rows[4])
	}
	if a.rows[1].Code != "ROW_UNDECODABLE" || !a.rows[1].Kept {
		t.Errorf("row 1: %+v", a.rows[1])
	}
	if a.rows[3].Code != "ROW_TOO_LARGE" || a.rows[3].NotKept != "too_large" {
		t.Errorf("row 3: %+v", a.rows[3])
	}
	a = post(t, "/v1/flows/Fussy/rows", "id\n1\n2,3\n4\n", "Content-Type", "text/csv")
	if a.summary == nil || a.summary.Done != 2 || a.rows[1].Code != "ROW_UNDECODABLE" || a.rows[2].Outcome != "done" {
		t.Errorf("CSV: %s", a.text)
	}
}
