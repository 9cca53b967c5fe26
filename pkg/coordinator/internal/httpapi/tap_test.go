package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestTapEvents shows rows as server-sent events, with their texts as strings, and ends with an event after which a browser does not ask again.
func TestTapEvents(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tap := func(path, last string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+at+path, http.NoBody)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", "text/event-stream")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		return http.DefaultClient.Do(r)
	}
	response, err := tap("/v1/flows/Fussy/tap?limit=2&function=Fussy&where="+url.QueryEscape("id == 9007199254740993 || id == -7"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", response.StatusCode, response.Header.Get("Content-Type"))
	}
	submitting, stop := context.WithCancel(ctx)
	submitted := make(chan struct{})
	go func() { // the tap may begin after the first rows
		defer close(submitted)
		for submitting.Err() == nil {
			r, err := http.NewRequestWithContext(submitting, "POST", "http://"+at+"/v1/flows/Fussy/rows", strings.NewReader("{\"id\":9007199254740993}\n{\"id\":1}\n{\"id\":-7}\n"))
			if err != nil {
				return
			}
			r.Header.Set("Content-Type", "application/x-ndjson")
			if answer, err := http.DefaultClient.Do(r); err == nil {
				_ = answer.Body.Close()
			}
		}
	}()
	defer func() { stop(); <-submitted }()
	var name, id string
	seen := map[string][]string{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		switch key, value, _ := strings.Cut(lines.Text(), ": "); key {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			seen[name] = append(seen[name], value)
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	if len(seen["row"]) != 2 || len(seen["end"]) != 1 || len(seen["counts"]) == 0 || id != "end" || name != "end" {
		t.Fatalf("seen was %v", seen)
	}
	for _, text := range seen["row"] {
		var row struct {
			Before struct{ Text string }
			Became string
			Reason string
		}
		if err := json.Unmarshal([]byte(text), &row); err != nil {
			t.Fatal(err)
		}
		switch row.Before.Text {
		case `{"id":9007199254740993}`:
			if row.Became != "passed" {
				t.Errorf("a row is %s", text)
			}
		case `{"id":-7}`:
			if row.Became != "dead" || !strings.Contains(row.Reason, "below 0") {
				t.Errorf("a row is %s", text)
			}
		default:
			t.Errorf("a row is %s", text)
		}
	}
	for path, want := range map[string]int{
		"/v1/flows/None/tap": http.StatusNotFound, "/v1/flows/Fussy/tap?limit=x": http.StatusBadRequest, "/v1/flows/Fussy/tap?where=id+%3E": http.StatusUnprocessableEntity,
	} {
		refused, err := tap(path, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = refused.Body.Close()
		if refused.StatusCode != want || refused.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s was answered with %d", path, refused.StatusCode)
		}
	}
	over, err := tap("/v1/flows/Fussy/tap", "end")
	if err != nil {
		t.Fatal(err)
	}
	_ = over.Body.Close()
	if over.StatusCode != http.StatusNoContent {
		t.Errorf("a browser that asks again after the end was answered with %d", over.StatusCode)
	}
	if _, plain, text := ask(t, "GET", "/v1/flows/Fussy/tap?milliseconds=1", ""); plain.StatusCode != http.StatusOK || !strings.Contains(text, `"why":"time"`) { //nolint:bodyclose // ask has closed it
		t.Errorf("without the header it was answered %d: %s", plain.StatusCode, text)
	}
}
