package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestIdempotencyKey: a request with a key can be made again; its rows have the same ids and the same revision then.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	var body bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(&body, "{\"id\":%d}\n", i)
	}
	key := []string{"Idempotency-Key", `"a-key-of-` + t.Name() + `"`}
	first := post(t, "/v1/flows/RowID/rows", body.String(), key...)
	if first.summary == nil || first.summary.Done != 2500 {
		t.Fatalf("%.500s", first.text)
	}
	for name, text := range map[string]string{"the same body": body.String(), "compressed": compressed(t, body.String())} {
		again := post(t, "/v1/flows/RowID/rows", text, key...)
		if again.summary == nil || again.summary.Done != 2500 || again.header.Get("KisGrid-Revision") != first.header.Get("KisGrid-Revision") {
			t.Fatalf("%s: %.500s", name, again.text)
		}
		for row, l := range first.rows {
			if string(again.rows[row].Output[0]) != string(l.Output[0]) {
				t.Fatalf("%s: row %d had the id %s, and has the id %s", name, row, l.Output, again.rows[row].Output)
			}
		}
	}
	a := post(t, "/v1/flows/RowID/rows", "{\"id\":5}\n", key...)
	a.wantProblem(t, http.StatusUnprocessableEntity, "CONFLICT", "other rows")
	if a := post(t, "/v1/flows/Pass/rows", "{\"id\":5}\n", key...); a.summary == nil {
		t.Errorf("the same key for another flow: %s", a.text)
	}
	other := post(t, "/v1/flows/RowID/rows", body.String(), "Idempotency-Key", "another")
	if string(other.rows[7].Output[0]) == string(first.rows[7].Output[0]) {
		t.Error("requests with different keys have rows with the same id")
	}
}

func TestWrongKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body    string
		headers []string
		status  int
		says    string
	}{
		{"{}", []string{"Idempotency-Key", ""}, 400, "1 to 255"},
		{"{}", []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, "1 to 255"},
		{"{}", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, "2 times"},
		{"{}", []string{"Idempotency-Key", "a", "KisGrid-Stream", strings.Repeat("ab", 16), "KisGrid-Sequence", "1"}, 400, "leave out"},
		{"{}", []string{"Idempotency-Key", "a", "KisGrid-Age", "7"}, 400, "leave out"},
		{"", []string{"Idempotency-Key", "a"}, 400, "no rows"},
		{"{}\nnope\n", []string{"Idempotency-Key", "large"}, 200, ""},
		{strings.Repeat("{\"text\":\""+strings.Repeat("x", 1000)+"\"}\n", 9000), []string{"Idempotency-Key", "large"}, 413, "send fewer rows"},
	} {
		a := post(t, "/v1/flows/Pass/rows", c.body, c.headers...)
		if a.status != c.status || c.says != "" && !strings.Contains(a.text, c.says) {
			t.Errorf("%v: got %d %.300s, want %d that says %q", c.headers, a.status, a.text, c.status, c.says)
		}
	}
}
